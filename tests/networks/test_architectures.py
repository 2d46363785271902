"""Every architecture: exists, learns, keeps its memory layout, runs in bfloat16, and its cost."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from densem.errors import ConfigError
from densem.networks import ARCHITECTURES, build, fold_normalization, mflop_per_voxel, parameters
from densem.networks.layers import BatchNormalization, Convolution, PlanarConvolution, UpSampling

SMALL = {"n_classes": 3, "filters": 4}


@pytest.fixture(params=sorted(ARCHITECTURES))
def network(request):
    torch.manual_seed(0)
    return build(request.param, SMALL)


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_logits_have_the_size_of_the_input(network):
    x = draw(2, 1, 3, 16, 48)
    for head in network(x).values():
        assert head.shape == (2, 3, 3, 16, 48)
        assert torch.isfinite(head).all()


def test_every_parameter_learns_under_autocast(network):
    with torch.autocast("cpu", torch.bfloat16):
        heads = network(draw(2, 1, 3, 16, 32))
    sum(head.float().square().mean() for head in heads.values()).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.dtype == torch.float32
        assert torch.isfinite(p.grad).all(), name
        assert float(p.grad.abs().max()) > 0, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_stay_last_in_memory(network, dtype):
    seen = {}
    layers = (Convolution, PlanarConvolution, UpSampling, BatchNormalization)
    for name, m in network.named_modules():
        if isinstance(m, layers):
            m.register_forward_hook(lambda _m, i, o, name=name: seen.__setitem__(name, (i[0], o)))
    with torch.no_grad():
        network.eval().to(dtype)(draw(1, 1, 3, 16, 32).to(dtype))
    assert len(seen) > 5
    for name, (came, went) in seen.items():
        assert came.is_contiguous(memory_format=torch.channels_last_3d), name
        assert went.is_contiguous(memory_format=torch.channels_last_3d), name


def test_bfloat16_is_close_to_float32(network):
    x = draw(1, 1, 3, 16, 32)
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


def test_the_cost_agrees_with_the_flop_counter_of_torch(network):
    network = fold_normalization(network).double()  # double goes through plain convolutions
    x = draw(1, 1, *(4 * n for n in network.geometry.multiple)).double()
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
        ("unet-anisotropic", 1_358_359),
    ],
)
def test_parameters_by_name(name, count):
    with torch.device("meta"):
        assert parameters(build(name, {"n_classes": 7})) == count


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
