"""MedNeXt: equal to MONAI's where both can be asked for the same network."""

import pytest
import torch

from densem.errors import ConfigError
from densem.networks import build

ISOTROPIC = {
    "n_classes": 3,
    "filters": 4,
    "strides": ((2, 2, 2), (2, 2, 2)),
    "blocks": (1, 2, 1),
    "expansion": (2, 3, 2),
    "kernel": (5, 5, 5),
}


def monai_names(network):
    """Our names of parameters as MONAI calls them."""
    scales = len(network.config.strides)
    tables = {"stem": "stem", "head": "out_0.conv_out"}
    for s in range(scales):
        tables |= {f"down.{s}": f"enc_stages.{s}", f"shrink.{s}": f"down_blocks.{s}"}
        tables |= {f"up.{s}": f"dec_stages.{scales - 1 - s}", f"grow.{s}": f"up_blocks.{scales - 1 - s}"}
    tables[f"down.{scales}"] = "bottleneck"
    parts = {
        "depthwise": "conv1",
        "normalization": "norm",
        "expand": "conv2",
        "compress": "conv3",
        "around": "res_conv",
    }
    for name in network.state_dict():
        place = max((t for t in tables if name == t or name.startswith(t + ".")), key=len)
        rest = ".".join(parts.get(p, p) for p in name.removeprefix(place).split("."))
        yield name, tables[place] + rest


def test_it_computes_what_monai_computes():
    monai = pytest.importorskip("monai.networks.nets")
    theirs = monai.MedNeXt(
        spatial_dims=3, init_filters=4, in_channels=1, out_channels=3, encoder_expansion_ratio=(2, 3),
        decoder_expansion_ratio=(3, 2), bottleneck_expansion_ratio=2, kernel_size=5,
        use_residual_connection=True, blocks_down=(1, 2), blocks_bottleneck=1, blocks_up=(2, 1),
    ).double()  # fmt: skip
    torch.manual_seed(0)
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.3)
    ours = build("mednext", ISOTROPIC).double()
    given, state = theirs.state_dict(), {}
    for name, monais in monai_names(ours):
        tensor = given.pop(monais)
        state[name] = tensor.transpose(0, 1) if name == "head.weight" else tensor  # theirs is transposed
    assert not given
    ours.load_state_dict(state)
    x = torch.randn(2, 1, 8, 12, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)["semantic"], theirs(x))


def test_its_context_is_bounded_without_normalisation_over_the_window():
    assert build("mednext", ISOTROPIC).geometry.context is None
    assert build("mednext", {**ISOTROPIC, "normalization": "batch"}).geometry.context is not None


def test_scales_that_disagree_are_refused():
    with pytest.raises(ConfigError) as caught:
        build("mednext", {**ISOTROPIC, "blocks": (1, 2)})
    assert str(caught.value) == (
        "network mednext: expected blocks and expansion of at least 1 for 3 scales, one more than there are "
        "strides, found (1, 2) and (2, 3, 2)"
    )
