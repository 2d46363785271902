"""Wider last layers: every network of the table, its classes unchanged, new channels that learn."""

import pytest
import torch

from densem.networks import ARCHITECTURES, build, widen

SMALL = {"n_classes": 3, "filters": 4}
SHALLOW = {
    "resenc-unet": {
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        "kernels": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
        "blocks": (1, 2, 2),
    },
    "mednext": {"strides": ((1, 2, 2), (2, 2, 2)), "blocks": (1, 2, 1), "expansion": (2, 2, 3)},
}
EXTRA = 2


def made(name, extra=0):
    torch.manual_seed(3)
    network = build(name, {**SMALL, **SHALLOW.get(name, {})})
    return (widen(network, extra) if extra else network).eval()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_classes_are_those_of_the_network_without(name):
    narrow, wide = made(name), made(name, EXTRA)
    z, y, x = wide.geometry.multiple
    image = torch.randn(1, 1, max(z, 3) // z * z, -(-16 // y) * y, -(-24 // x) * x)
    with torch.no_grad():
        before, after = narrow(image)["semantic"], wide(image)["semantic"]
    assert after.shape[1] == before.shape[1] + EXTRA
    torch.testing.assert_close(after[:, :3], before, rtol=1e-4, atol=1e-5)
    assert after[:, 3:].std() > 0
    weights = dict(narrow.named_parameters())
    for key, value in wide.named_parameters():
        assert torch.equal(value[: len(weights[key])], weights[key])


@pytest.mark.parametrize("name", ["hybrid-2d3d-333", "deepvess", "unet-2d-valid", "unet-3d"])
def test_new_channels_get_gradients_of_their_own(name):
    wide = made(name, EXTRA)
    z, y, x = wide.geometry.multiple
    wide(torch.randn(1, 1, 3 * z, 4 * y, 4 * x))["semantic"][:, 3:].square().sum().backward()
    changed = [k for k, v in wide.named_parameters() if v.grad is not None and v.grad.abs().sum() > 0]
    assert len(changed) > 4
