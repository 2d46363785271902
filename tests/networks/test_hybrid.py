"""The 2D-3D network: literal counts, context, and what the options do."""

import pytest
import torch

from densem.errors import ConfigError, ShapeError
from densem.networks import Hybrid2D3D, HybridConfig, build, parameters

SMALL = {"n_classes": 3, "filters": 2}


def make(seed=0, **config):
    torch.manual_seed(seed)
    return build("hybrid-2d3d-333", {**SMALL, **config}).double().eval()


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_reference_network_has_its_literal_number_of_parameters():
    with torch.device("meta"):
        assert parameters(build("hybrid-2d3d-333", {"n_classes": 7})) == 11_399_438


def test_the_other_known_construction_has_its_literal_number_of_parameters():
    other = {"stem": False, "up_width": "first", "up_bias": True, "pyramid": (3, 5)}
    with torch.device("meta"):
        assert parameters(build("hybrid-2d3d-333", {"n_classes": 7, **other})) == 10_267_022


def test_the_reference_network_sees_73_voxels_in_plane_and_12_slices():
    geometry = HybridConfig(n_classes=7).geometry()
    assert geometry.receptive == (12, 73, 73)
    assert geometry.context == (12, 80, 80)
    assert geometry.multiple == (1, 8, 8)


def test_two_independent_branches_in_the_pyramid():
    network = make()
    weights = [p.data_ptr() for branch in network.branches for p in branch.parameters()]
    assert len(set(weights)) == len(weights)
    assert [len(branch.convolutions) for branch in network.branches] == [3, 7]


def test_logits_take_both_signs():
    logits = make()(draw(1, 1, 3, 16, 24))
    for head in logits.values():
        assert head.min() < 0 < head.max()


def test_the_pyramid_is_fed_with_the_softmax_of_the_2d_head():
    network, x = make(), draw(1, 1, 3, 16, 24)
    seen = []
    network.branches[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    flat = network(x)["auxiliary"]
    assert seen[0].shape[1] == 4 + 3
    torch.testing.assert_close(seen[0][:, 4:], flat.softmax(1))


def test_the_pyramid_is_the_sum_of_its_branches_in_place():
    # Misaligned or three-dimensional up-sampling would not commute with a shift by the coarsest pool.
    network = make(pyramid=(1, 1, 2), feed="none", auxiliary=False)
    x = draw(1, 4, 9, 16, 48)
    whole = network._pyramid(x)
    torch.testing.assert_close(whole, sum(branch(x) for branch in network.branches))
    shifted = network._pyramid(torch.roll(x, (1, 4), dims=(2, 4)))
    torch.testing.assert_close(shifted[:, :, 5, :, 24:28], whole[:, :, 4, :, 20:24])


@pytest.mark.parametrize(
    ("config", "outputs"),
    [
        ({}, {"semantic", "auxiliary"}),
        ({"auxiliary": False}, {"semantic"}),
        ({"auxiliary": False, "feed": "none"}, {"semantic"}),
        ({"feed": "none"}, {"semantic", "auxiliary"}),
        ({"pyramid": (), "auxiliary": False, "feed": "none"}, {"semantic"}),
    ],
)
@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_every_parameter_learns(config, outputs, normalization):
    network = make(normalization=normalization, filters=3, **config).train()
    heads = network(draw(2, 1, 4, 16, 24))
    assert set(heads) == outputs
    sum(head.square().mean() for head in heads.values()).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert float(p.grad.abs().max()) > 0, name


def test_without_volumetric_kernels_and_pyramid_slices_do_not_meet():
    network = build("hybrid-2d", SMALL).double()
    assert network.geometry.context[0] == 0
    x = draw(1, 1, 3, 16, 24)
    changed = x.clone()
    changed[:, :, 1] += 1
    difference = (network(changed)["semantic"] - network(x)["semantic"]).abs().amax((0, 1, 3, 4))
    assert difference[0] == difference[2] == 0
    assert difference[1] > 0


def test_a_single_slice_and_far_ends_are_padded_with_zeros():
    # Two slices of zero image around one slice are what the padding stands for, at the first convolution.
    network, x = make(pyramid=(1,), volumetric_scales=()), draw(1, 1, 1, 8, 16)
    padded = torch.cat([torch.zeros_like(x), x, torch.zeros_like(x)], 2)
    stem = network.body.stem
    torch.testing.assert_close(stem(x), stem(padded)[:, :, 1:2])
    assert network(x)["semantic"].shape == (1, 3, 1, 8, 16)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"multiples of \(1, 8, 8\), found \(3, 16, 20\) \(axis x\)"):
        make()(torch.zeros(1, 1, 3, 16, 20))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"volumetric_scales": (0, 3)},
            "network hybrid-2d3d-333: volumetric_scales: expected scales from 0 to 2 (depth is 3), "
            "found [3]; leave them out or raise depth",
        ),
        (
            {"pyramid": ()},
            "network hybrid-2d3d-333: without a pyramid the 2D head is the only one: expected auxiliary = "
            "false and feed = \"none\", found auxiliary = True and feed = 'probabilities'",
        ),
        (
            {"pyramid": (3, 0)},
            "network hybrid-2d3d-333: pyramid: expected at least 1 convolution at each scale, found (3, 0); "
            "shorten the list to leave scales out",
        ),
    ],
)
def test_configs_that_cannot_be_are_refused(config, message):
    with pytest.raises(ConfigError) as caught:
        build("hybrid-2d3d-333", {"n_classes": 7, **config})
    assert str(caught.value) == message


def test_the_class_is_the_table_entry():
    assert isinstance(make(), Hybrid2D3D)
