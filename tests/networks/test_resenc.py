"""ResEncUNet: plans by hand, and what a plan makes."""

import re

import pytest
import torch
from torch import nn

from densem.errors import ConfigError
from densem.networks import build
from densem.networks.resenc import ResEncConfig, ResEncUNet, plan_resenc
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


# ---- against the published network ---------------------------------------------------------------


def test_it_computes_what_the_published_network_computes():
    """Of nnU-Net's authors, with the same weights; its biases before a normalisation cancel."""
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    strides, kernels, blocks = ((1, 1, 1), (1, 2, 2), (2, 2, 2)), ((1, 3, 3), (3, 3, 3), (3, 3, 3)), (1, 3, 2)
    config = ResEncConfig(
        n_classes=3, filters=4, strides=strides, kernels=kernels, blocks=blocks, normalization="instance"
    )
    own = ResEncUNet(config).eval()
    published = unet.ResidualEncoderUNet(
        1, 3, config.widths, nn.Conv3d, kernels, strides, blocks, 3, [1, 1], conv_bias=True,
        norm_op=nn.InstanceNorm3d, norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU,
    ).eval()  # fmt: skip
    theirs = dict(published.named_parameters())
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weights in own.named_parameters():
            weights.copy_(0.3 * torch.randn(weights.shape))
            theirs.pop(published_name(name)).copy_(weights)
        assert {n.rsplit(".", 1)[1] for n in theirs if "seg_layers.0" not in n} == {"bias"}
        assert not any("norm" in n for n in theirs)
        x = torch.randn(2, 1, 6, 12, 20)
        torch.testing.assert_close(own(x)["semantic"], published(x), rtol=1e-4, atol=1e-5)


def published_name(name):
    """Where the published network keeps a weight; its decoder counts from the bottom."""
    for pattern, there in (
        (r"^stem\.", r"encoder.stem.convs.0."),
        (r"^encoder\.(\d+)\.(\d+)\.first", r"encoder.stages.\1.blocks.\2.conv1"),
        (r"^encoder\.(\d+)\.(\d+)\.second", r"encoder.stages.\1.blocks.\2.conv2"),
        (r"^encoder\.(\d+)\.(\d+)\.around", r"encoder.stages.\1.blocks.\2.skip.1"),
        (r"^up\.(\d+)", lambda found: f"decoder.transpconvs.{1 - int(found[1])}"),
        (r"^decoder\.(\d+)\.(\d+)", lambda found: f"decoder.stages.{1 - int(found[1])}.convs.{found[2]}"),
        (r"^head", r"decoder.seg_layers.1"),
        ("convolution", "conv"),
        ("instance", "norm"),
    ):
        name = re.sub(pattern, there, name)
    return name
