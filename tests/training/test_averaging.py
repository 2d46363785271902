"""Averaged weights follow the closed form."""

import torch
from torch import nn

from densem.training.averaging import AveragedWeights


def test_equal_to_the_recurrence_and_leaves_the_network_alone():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    averaged = AveragedWeights(network, decay=0.9)
    expected = network[0].weight.detach().clone()
    for n in range(30):
        with torch.no_grad():
            network[0].weight += n
        averaged.update(network)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
    assert torch.allclose(averaged.values["0.weight"], expected, rtol=1e-5)
    copy = averaged.applied_to(network)
    assert torch.equal(copy[0].weight, averaged.values["0.weight"])
    assert not copy.training
    assert network.training
    assert not torch.equal(network[0].weight, copy[0].weight)


def test_without_decay_it_is_the_network_itself():
    network = nn.Linear(2, 3)
    averaged = AveragedWeights(network, decay=0.0)
    with torch.no_grad():
        network.weight += 1
    averaged.update(network)
    assert torch.equal(averaged.values["weight"], network.weight)
