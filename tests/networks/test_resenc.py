"""ResEncUNet: plans by hand, and what a plan makes."""

import pytest
import torch

from densem.errors import ConfigError
from densem.networks import build
from densem.networks.resenc import plan_resenc
from densem.networks.resenc_plan import ResEncPlan

ONE, PLANE, ALL = (1, 1, 1), (1, 2, 2), (2, 2, 2)


@pytest.mark.parametrize(
    ("voxel_size", "patch", "strides", "kernels"),
    [
        # isotropic: 64 -> 32 -> 16 -> 8 -> 4
        ((8.0, 8.0, 8.0), (64, 64, 64), [ONE, ALL, ALL, ALL, ALL], [(3, 3, 3)] * 5),
        # 4:1: two halvings in plane before voxels are alike; z 16 -> 8 -> 4, y and x on to 5
        (
            (40.0, 10.0, 10.0),
            (16, 160, 160),
            [ONE, PLANE, PLANE, ALL, ALL, PLANE],
            [(1, 3, 3), (1, 3, 3), *[(3, 3, 3)] * 4],
        ),
        # a single slice: 2D, though kernels grow along z where voxels have become alike
        ((50.0, 5.0, 5.0), (1, 64, 32), [ONE, PLANE, PLANE, PLANE], None),
        # 6 voxels cannot be halved; 8 alone cannot either, 12 alone can
        ((10.0, 10.0, 10.0), (6, 8, 6), [ONE], [(3, 3, 3)]),
        ((10.0, 10.0, 10.0), (6, 6, 12), [ONE, (1, 1, 2)], [(3, 3, 3)] * 2),
    ],
)
def test_plans_by_hand(voxel_size, patch, strides, kernels):
    plan = ResEncPlan.of(voxel_size, patch)
    assert list(plan.strides) == strides
    assert kernels is None or list(plan.kernels) == kernels
    assert plan.blocks == (1, 3, 4, 6, 6, 6)[: len(strides)]


def test_the_default_is_the_plan_for_platelets():
    default = build("resenc-unet", {"n_classes": 2, "filters": 1}).config
    planned = build(
        "resenc-unet", {"n_classes": 2, "filters": 1, **plan_resenc((40.0, 10.0, 10.0), (16, 160, 160))}
    )
    assert planned.config == default


def test_widths_end_at_ten_times_the_first():
    network = build("resenc-unet", {"n_classes": 2, "filters": 1})
    assert network.config.widths == [1, 2, 4, 8, 10, 10]


def test_instance_normalisation_makes_the_context_unbounded():
    assert (
        build("resenc-unet", {"n_classes": 2, "filters": 1, "normalization": "instance"}).geometry.context
        is None
    )


def test_stages_that_disagree_are_refused():
    with pytest.raises(ConfigError, match=r"expected strides, kernels and blocks .* of as many stages"):
        build("resenc-unet", {"n_classes": 2, "blocks": (1, 2)})


def test_a_block_without_a_kernel_is_its_shortcut():
    network = build("resenc-unet", {"n_classes": 2, "filters": 2, "normalization": "none"}).double()
    block = network.encoder[1][0]
    for unit in (block.first, block.second):
        torch.nn.init.zeros_(unit.convolution.weight)
    x = torch.randn(1, 2, 3, 4, 6, dtype=torch.float64)
    mean = torch.nn.functional.avg_pool3d(x, block.stride)
    weight = block.around.convolution.weight
    expected = torch.nn.functional.leaky_relu(torch.nn.functional.conv3d(mean, weight), 0.01)
    torch.testing.assert_close(block(x), expected)
