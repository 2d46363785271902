"""The stated context is the true one: no voxel beyond it has any influence, the farthest within it has."""

import pytest
import torch
from torch import nn

from densem.networks import build

CASES = {
    "reference": ("hybrid-2d3d-333", {}),
    "plain": ("hybrid-2d3d", {"depth": 2, "pyramid": (1, 2)}),
    "no-pyramid": ("hybrid-2d3d-no-pyramid", {"depth": 2}),
    "planar": ("hybrid-2d", {"depth": 2}),
    "shallow": ("hybrid-2d3d-333", {"depth": 1, "volumetric_scales": (0,), "pyramid": (1, 1, 1)}),
    "unet": ("unet-anisotropic", {"kernels": ("1x3x3", "3x3x3", "3x3x3"), "normalization": "none"}),
    "unet-2d": ("unet-2d", {"depth": 2}),
    "unet-2d-valid": ("unet-2d-valid", {"depth": 2}),
    "thin": ("thin-unet-3d", {"kernels": ("3x3x3", "3x3x3"), "normalization": "none"}),
    "residual": ("residual-2d", {"depth": 2}),
    "dilated": ("dilated-2d", {"blocks": 4}),
    "deepvess": ("deepvess", {}),
    "resenc": (
        "resenc-unet",
        {
            "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
            "kernels": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
            "blocks": (1, 2, 1),
        },
    ),
    "resenc-thin-kernels": (
        "resenc-unet",
        {"strides": ((1, 1, 1), (2, 2, 1)), "kernels": ((1, 1, 3), (1, 1, 3)), "blocks": (1, 1)},
    ),
    "mednext": (
        "mednext",
        {
            "strides": ((1, 2, 2), (2, 2, 2)),
            "kernel": (3, 3, 5),
            "blocks": (1, 1, 1),
            "expansion": (2, 1, 2),
            "normalization": "batch",
        },
    ),
}
LARGE = {  # with contexts too large for every phase and axis at once
    "medicalnet": ("medicalnet-10", {}),
    "deeplab": ("deeplab-v3plus-18", {"global_pooling": False}),
}


def make(case):
    name, config = {**CASES, **LARGE}[case]
    torch.manual_seed(0)
    return build(name, {"n_classes": 2, "filters": 1, **config}).double().eval()


def keep_every_influence(network):
    """Positive weights and inputs: no ReLU closes and nothing cancels, so every path carries a signal."""
    for m in network.modules():
        if isinstance(m, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            # (output, input) channels; the mean of what comes in, so that nothing over- or underflows
            m.weight.data.fill_(3 / m.weight[0].numel())
            if m.bias is not None:
                m.bias.data.zero_()
    return network


def influence(network, shape, place):
    """Where the input changes one output voxel: |gradient| (Z, Y, X), in float64."""
    x = torch.ones(1, 1, *shape, dtype=torch.float64, requires_grad=True)
    pooled, pooled_3d = nn.functional.max_pool2d, nn.functional.max_pool3d
    nn.functional.max_pool2d = nn.functional.avg_pool2d  # the same support, for every voxel at once
    nn.functional.max_pool3d = nn.functional.avg_pool3d
    try:
        out = network(x)["semantic"][0, 0]
        out[place].backward()
    finally:
        nn.functional.max_pool2d, nn.functional.max_pool3d = pooled, pooled_3d
    return x.grad[0, 0].abs()


def extent(touched, place):
    """Farthest touched voxel from the place, (z, y, x)."""
    where = torch.nonzero(touched)
    return tuple((where - torch.tensor(place)).abs().amax(0).tolist())


@pytest.mark.parametrize("case", [c for c in CASES if c != "reference"])
def test_what_a_voxel_sees_is_the_stated_extent(case):
    network = keep_every_influence(make(case))
    multiple, context = network.geometry.multiple, network.geometry.context
    shape = tuple(2 * c + m for c, m in zip(context, multiple, strict=True))
    seen = []
    for phase in range(max(multiple)):
        place = tuple(c + (phase * k) % m for c, k, m in zip(context, (1, 1, 3), multiple, strict=True))
        seen.append(extent(influence(network, shape, place) > 0, place))
    assert tuple(max(axis) for axis in zip(*seen, strict=True)) == network.geometry.receptive


@pytest.mark.parametrize("case", LARGE)
def test_what_a_network_sees_that_sees_far_along_each_axis(case):
    network = keep_every_influence(make(case))
    multiple, context = network.geometry.multiple, network.geometry.context
    for axis in (0, 1):
        if context[axis] == 0:
            continue
        shape, far = list(multiple), 0
        shape[axis] = 2 * context[axis] + multiple[axis]
        for phase in range(0, multiple[axis], 3):
            place = [0, 0, 0]
            place[axis] = context[axis] + phase
            far = max(far, extent(influence(network, shape, tuple(place)) > 0, place)[axis])
        assert far <= network.geometry.receptive[axis]
        assert far >= network.geometry.receptive[axis] - multiple[axis]


def test_what_the_reference_network_sees_along_each_axis():
    network = keep_every_influence(make("reference"))
    far = 0
    for phase in range(8):
        place = (0, 80 + phase, 4)
        far = max(far, extent(influence(network, (1, 168, 8), place) > 0, place)[1])
    assert far == 73
    assert extent(influence(network, (27, 8, 8), (13, 4, 4)) > 0, (13, 4, 4))[0] == 12


@pytest.mark.parametrize(
    "case", ["plain", "shallow", "unet", "unet-2d-valid", "deepvess", "resenc", "mednext"]
)
def test_a_change_beyond_the_context_changes_nothing_at_any_phase(case):
    network = make(case)
    context, multiple = network.geometry.context, network.geometry.multiple
    generator = torch.Generator().manual_seed(3)
    slices = -(-(2 * context[0] + 3) // multiple[0]) * multiple[0]
    shape = (slices, *(2 * c + 2 * m for c, m in zip(context[1:], multiple[1:], strict=True)))
    x = torch.randn((1, 1, *shape), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        before = network(x)["semantic"]
        for phase in range(multiple[1]):
            place = (context[0] + 1, context[1] + phase, context[2] + multiple[2] - 1 - phase)
            changed = x + 100
            box = tuple(slice(max(0, p - c), p + c + 1) for p, c in zip(place, context, strict=True))
            changed[(0, 0, *box)] = x[(0, 0, *box)]
            after = network(changed)["semantic"]
            assert torch.equal(after[(0, slice(None), *place)], before[(0, slice(None), *place)])


@pytest.mark.parametrize("case", [c for c in CASES if c != "reference"])
def test_a_crop_with_its_context_equals_the_whole(case):
    network = make(case)
    (cz, cy, cx), (mz, my, mx) = network.geometry.context, network.geometry.multiple
    core = (3 * mz, my, 2 * mx)
    start = (cz + mz, cy + my, cx + mx)  # any multiple of the grid
    shape = (2 * cz + 5 * mz, 2 * cy + 3 * my, 2 * cx + 4 * mx)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn((1, 1, *shape), generator=generator, dtype=torch.float64).float()
    network = network.float()
    read = tuple(
        slice(s - c, s + n + c) for s, n, c in zip(start, core, network.geometry.context, strict=True)
    )
    with torch.no_grad():
        whole = network(x)["semantic"][0]
        crop = network(x[(slice(None), slice(None), *read)])["semantic"][0]
    inner = tuple(slice(c, c + n) for c, n in zip(network.geometry.context, core, strict=True))
    kept = tuple(slice(s, s + n) for s, n in zip(start, core, strict=True))
    torch.testing.assert_close(crop[(slice(None), *inner)], whole[(slice(None), *kept)], rtol=1e-5, atol=1e-5)
