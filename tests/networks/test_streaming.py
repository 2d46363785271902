"""Streaming: a window shown slab by slab gives what one pass over the whole volume gives."""

import pytest
import torch

from densem.networks import ARCHITECTURES, build
from densem.networks.streaming import Ends, Stream

WIDE = {"unet-anisotropic": 3, "unet-2d": 2}
STREAMING = [
    n for n, a in ARCHITECTURES.items() if getattr(a.module, "streams", False) or n in ("unet-2d", "deepvess")
]


def network_of(name, **config):
    torch.manual_seed(3)
    network = build(name, {"n_classes": 3, "filters": WIDE.get(name, 2), **config}).double().eval()
    for p in network.parameters():  # biases that are not zero: what is computed beyond an end is not zero
        if p.dim() == 1:
            torch.nn.init.normal_(p, std=0.3)
    return network


def streamed(network, window, ends, depth):
    with torch.inference_mode():
        slabs = [o["semantic"] for o in Stream(ends).outputs(network, window.split(depth, dim=2))]
    assert max(s.shape[2] for s in slabs) <= depth
    return torch.cat(slabs, dim=2)


@pytest.mark.parametrize("depth", [1, 2, 5, 17])
@pytest.mark.parametrize("name", STREAMING)
def test_whole_volume_in_slabs_equals_one_pass(name, depth):
    network = network_of(name)
    m = max(4, network.geometry.multiple[1])
    x = torch.randn(1, 1, 17, 2 * m, 3 * m, dtype=torch.double)
    with torch.inference_mode():
        whole = network(x)["semantic"]
    torch.testing.assert_close(streamed(network, x, Ends(), depth), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    ["hybrid-2d3d-333", "hybrid-2d3d-no-pyramid", "unet-anisotropic", "unet-2d", "unet-2d-valid", "residual-2d",
     "deepvess"],
)  # fmt: skip
def test_window_inside_a_volume_gives_its_core(name):
    config = (
        {"kernels": ("1x3x3", "3x3x3", "3x3x3"), "convs_per_block": 1} if name == "unet-anisotropic" else {}
    )
    config |= {"pyramid": (1, 2), "depth": 2} if name == "hybrid-2d3d-333" else {}
    config |= {"depth": 2} if name in ("unet-2d-valid", "residual-2d") else {}
    network = network_of(name, **config)
    (cz, cy, cx), (_, m, _) = network.geometry.context, network.geometry.multiple
    shape = (2 * cz + 9, 2 * cy + 3 * m, 2 * cx + 4 * m)
    x = torch.randn(1, 1, *shape, dtype=torch.double)
    with torch.inference_mode():
        whole = network(x)["semantic"]
    core = whole[:, :, cz : cz + 9, cy : cy + 3 * m, cx : cx + 4 * m]
    ends = Ends((False, False), (cy, cy, cx, cx))
    torch.testing.assert_close(streamed(network, x, ends, 4), core, rtol=1e-9, atol=1e-9)
    # at the volume's upper end in z and lower end in y, only the other sides have context
    window, ends = x[:, :, : cz + 5, : m + cy], Ends((True, False), (0, cy, cx, cx))
    expected = whole[:, :, :5, :m, cx : cx + 4 * m]
    found = streamed(network, window, ends, 2)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_cutting_leaves_out_nothing_that_is_looked_at():
    """With less context than the network sees, the core is what the window gives without a stream."""
    network = network_of("hybrid-2d3d-333", pyramid=(1, 2), depth=2)
    m = network.geometry.multiple[1]
    x = torch.randn(1, 1, 6, 5 * m, 6 * m, dtype=torch.double)
    with torch.inference_mode():
        whole = network(x)["semantic"]
    ends = Ends((True, True), (m, 0, m, 2 * m))
    inner = whole[:, :, :, m:, m : 4 * m]
    torch.testing.assert_close(streamed(network, x, ends, 4), inner, rtol=1e-9, atol=1e-9)


def test_bfloat16_slabs_equal_the_whole_bit_by_bit():
    network = build("hybrid-2d3d-333", {"n_classes": 5, "filters": 8}).bfloat16().eval()
    x = torch.randn(1, 1, 11, 48, 64).bfloat16()
    with torch.inference_mode():
        whole = network(x)["semantic"]
    assert torch.equal(streamed(network, x, Ends(), 3), whole)


def test_margins_grow_towards_the_coarse_scales():
    config = network_of("hybrid-2d3d-333").config
    margins = [config.margin(s) for s in (-1, 0, 1, 2)]
    assert margins == [16, 24, 24, 32]
