"""Every architecture: exists, learns, keeps its memory layout, runs in bfloat16, and its cost."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from densem.errors import ConfigError
from densem.networks import (
    ARCHITECTURES,
    build,
    fold_normalization,
    mednext,
    mflop_per_voxel,
    parameters,
    resampling,
)
from densem.networks.architectures import probed
from densem.networks.layers import BatchNormalization, Convolution, PlanarConvolution, UpSampling
from densem.networks.unet import UNet2DValid

SMALL = {"n_classes": 3, "filters": 4}
SHALLOW = {
    "resenc-unet": {
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        "kernels": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
        "blocks": (1, 2, 2),
    },
    "mednext": {"strides": ((1, 2, 2), (2, 2, 2)), "blocks": (1, 2, 1), "expansion": (2, 2, 3)},
    "dilated-2d": {"blocks": 3},
}


@pytest.fixture(params=sorted(ARCHITECTURES))
def network(request):
    torch.manual_seed(0)
    return build(request.param, {**SMALL, **SHALLOW.get(request.param, {})})


def size(network, *times):
    """(Z, Y, X) in multiples of what the network needs, and no smaller than 8 in y and x."""
    z, y, x = (n * m for n, m in zip(times, network.geometry.multiple, strict=True))
    return (z if network.geometry.multiple[0] > 1 else 3), max(y, 16), max(x, 24)


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_logits_have_the_size_of_the_input(network):
    shape = size(network, 1, 2, 3)
    for head in network.eval()(draw(2, 1, *shape)).values():
        assert head.shape == (2, 3, *shape)
        assert torch.isfinite(head).all()


def test_every_parameter_learns_under_autocast(network):
    shape = (1, 208, 224) if isinstance(network, UNet2DValid) else size(network, 1, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        heads = network(draw(2, 1, *shape))
    sum(head.float().square().mean() for head in heads.values()).backward()
    for name, p in network.named_parameters():
        if name == "up.bias":  # published before a batch normalisation, which takes it away
            continue
        assert p.grad is not None, name
        assert p.grad.dtype == torch.float32
        assert torch.isfinite(p.grad).all(), name
        assert float(p.grad.abs().max()) > 0, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_stay_last_in_memory(network, dtype):
    seen = {}
    layers = (Convolution, PlanarConvolution, UpSampling, BatchNormalization, resampling.StridedConvolution)
    for name, m in network.named_modules():
        if isinstance(m, layers):
            m.register_forward_hook(lambda _m, i, o, name=name: seen.__setitem__(name, (i[0], o)))
    with torch.no_grad():
        network.eval().to(dtype)(draw(1, 1, *size(network, 1, 1, 2)).to(dtype))
    assert len(seen) > 5
    for name, (came, went) in seen.items():
        assert came.is_contiguous(memory_format=torch.channels_last_3d), name
        assert went.is_contiguous(memory_format=torch.channels_last_3d), name


def test_bfloat16_is_close_to_float32(network):
    x = draw(1, 1, *size(network, 1, 1, 2))
    exact = fold_normalization(network)
    half = copy.deepcopy(exact).to(torch.bfloat16)
    with torch.no_grad():
        expected, found = exact(x), half(x.to(torch.bfloat16))
    for key, logits in found.items():
        assert logits.dtype == torch.bfloat16
        spread = float(expected[key].std())
        assert float((logits.float() - expected[key]).abs().mean()) < 0.05 * spread


def test_a_saved_config_builds_the_same_network(network, request):
    name = request.node.callspec.params["network"]
    again = build(name, network.config.model_dump(mode="json"))
    assert again.config == network.config
    again.load_state_dict(network.state_dict())


def test_the_cost_agrees_with_the_flop_counter_of_torch(network, monkeypatch):
    monkeypatch.setattr(resampling, "direct", lambda x: True)
    monkeypatch.setattr(mednext, "direct", lambda x: True)  # plain convolutions, as they are counted
    network = fold_normalization(network).double().to("meta")  # so does double
    x = torch.empty(1, 1, *probed(network), dtype=torch.double, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    assert mflop_per_voxel(network) == pytest.approx(counter.get_total_flops() / x.numel() / 1e6, rel=1e-6)


@pytest.mark.parametrize(("filters", "mflop"), [(32, 3.64), (16, 0.92), (8, 0.235)])
def test_the_cost_of_the_reference_network(filters, mflop):
    with torch.device("meta"):
        network = build("hybrid-2d3d-333", {"n_classes": 7, "filters": filters})
    assert mflop_per_voxel(network) == pytest.approx(mflop, rel=0.003)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("hybrid-2d3d-333", 11_399_438),
        ("hybrid-2d3d-no-auxiliary", 11_399_438),
        ("hybrid-2d3d-no-333", 10_938_062),
        ("hybrid-2d3d", 10_965_774),
        ("hybrid-2d3d-no-pyramid", 8_129_799),
        ("hybrid-2d", 7_696_135),
        ("unet-2d", 31_030_983),
        ("unet-2d-valid", 31_030_983),
        ("unet-3d", 5_427_879),
        ("unet-3d-1x3x3", 1_925_223),
        ("thin-unet-3d", 5_428_583),
        ("residual-2d", 31_030_983),
        ("dilated-2d", 407_303),
        ("deeplab-v3plus", 59_334_439),
        ("deeplab-v3plus-50", 40_342_311),
        ("deeplab-v3plus-18", 16_598_311),
        ("deepvess", 1_276_080),
        ("medicalnet-10", 14_514_624),
        ("medicalnet-18", 33_145_280),
        ("medicalnet-34", 63_454_912),
        ("medicalnet-50", 46_707_392),
        ("resenc-unet", 101_257_511),
        ("mednext", 5_551_079),
        ("unet-anisotropic", 1_358_359),
    ],
)
def test_parameters_by_name(name, count):
    with torch.device("meta"):
        assert parameters(build(name, {"n_classes": 7})) == count


@pytest.mark.parametrize(
    ("name", "config", "count"),
    [
        ("deeplab-v3plus", {"channels": 3}, 59_340_711),  # the image three times over, as published
        ("thin-unet-3d", {"normalization": "none"}, 5_427_681 + 6 * 33),  # published for 1 class
        ("medicalnet-10", {"n_classes": 2}, 14_514_624 - 5 * 32),
    ],
)
def test_parameters_as_published(name, config, count):
    with torch.device("meta"):
        assert parameters(build(name, {"n_classes": 7, **config})) == count


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        (
            "hybrid-2d3d-33",
            {},
            "network: no architecture is called 'hybrid-2d3d-33'. Did you mean 'hybrid-2d3d",
        ),
        ("unet-2d", {"n_classes": 3, "filter": 4}, "no entry is called 'filter'. Did you mean 'filters'?"),
        ("unet-2d", {}, "network unet-2d: n_classes is missing; give it"),
        (
            "unet-2d",
            {"n_classes": 3, "depth": 0},
            "network unet-2d: depth: Input should be greater than or equal to 1, found 0",
        ),
        (
            "unet-anisotropic",
            {"n_classes": 3, "kernels": ["3x3x3", "5x5x5"]},
            "network unet-anisotropic: kernels.1: Input should be '1x3x3' or '3x3x3', found '5x5x5'",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(name, config, message):
    with pytest.raises(ConfigError) as caught:
        build(name, config)
    assert message in str(caught.value)
