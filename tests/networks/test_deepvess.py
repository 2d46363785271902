"""DeepVess: the dense network computes what the published one computes patch by patch."""

import torch

from densem.networks import parameters
from densem.networks.deepvess import DeepVess, DeepVessConfig


def test_the_published_network_has_its_parameters_and_its_shape():
    network = DeepVess(DeepVessConfig(n_classes=7), "patch")
    assert parameters(network) == 1_340_655
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 7, 33, 33))["semantic"].shape == (2, 7, 1, 5, 5)


def test_dense_equals_patches_placed_every_four_voxels():
    torch.manual_seed(0)
    config = DeepVessConfig(n_classes=3, filters=2)
    patchwise, dense = DeepVess(config, "patch").double(), DeepVess(config).double()
    state = patchwise.state_dict()
    for name in ("second.weight", "second.bias"):  # of 5 x 5 labels a patch, the last 4 x 4
        whole = state[name]
        state[name] = whole.view(3, 5, 5, *whole.shape[1:])[:, 1:, 1:].flatten(0, 2)
    dense.load_state_dict(state)
    x = torch.randn(1, 1, 9, 64, 72, dtype=torch.float64)
    with torch.no_grad():
        found = dense(x)["semantic"]
        for z, y, x0 in [
            (0, 1, 1),
            (2, 5, 9),
            (1, 29, 37),
        ]:  # patches whose pools lie on the grid of the whole
            labels = patchwise(x[:, :, z : z + 7, y : y + 33, x0 : x0 + 33])["semantic"]
            part = found[:, :, z + 3 : z + 4, y + 15 : y + 19, x0 + 15 : x0 + 19]
            torch.testing.assert_close(part, labels[..., 1:, 1:])
