"""Many runs: benchmarks of networks with replicates, ensembles and distilled networks.

Nothing is loaded here, so that records and folders can be read without torch.
"""
