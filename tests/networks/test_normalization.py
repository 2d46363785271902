"""Folding and re-estimation of batch normalisation."""

import copy

import pytest
import torch

from densem.errors import InputError
from densem.networks import build, fold_normalization, reestimate_normalization
from densem.networks.layers import BatchNormalization

NAMES = ["hybrid-2d3d-333", "hybrid-2d3d-no-pyramid", "unet-anisotropic", "unet-2d"]


def batches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((2, 1, 2, 16, 32), generator=generator) * (1 + i) for i in range(count)]


def trained(name):
    """A network whose statistics, gains and shifts are all unlike those it began with."""
    torch.manual_seed(0)
    network = build(name, {"n_classes": 3, "filters": 3, "normalization": "batch"})
    for m in network.modules():
        if isinstance(m, BatchNormalization):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.uniform_(m.bias, -0.5, 0.5)
    reestimate_normalization(network, batches(3))
    return network


@pytest.mark.parametrize("name", NAMES)
def test_the_folded_network_equals_the_one_it_came_from(name):
    network = trained(name).double()
    before = copy.deepcopy(network.state_dict())
    folded = fold_normalization(network)
    assert not any(isinstance(m, BatchNormalization) for m in folded.modules())
    x = batches(1, seed=9)[0].double()
    with torch.no_grad():
        expected, found = network(x), folded(x)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-9, atol=1e-9)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_folding_without_normalisation_is_a_copy_in_eval_mode():
    network = build("hybrid-2d", {"n_classes": 2, "filters": 2})
    folded = fold_normalization(network)
    assert folded is not network
    assert not folded.training
    assert network.training
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in folded.state_dict().items())


def test_statistics_are_the_plain_mean_over_the_batches():
    network = trained("unet-2d")
    first = network.body.down[0][0]
    means, variances = [], []
    for batch in batches(4, seed=3):
        activation = first.convolution(batch).detach().transpose(0, 1).flatten(1)
        means.append(activation.mean(1))
        variances.append(activation.var(1))
    assert reestimate_normalization(network, batches(4, seed=3)) == 4
    norm = first.normalization
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0), rtol=1e-4, atol=1e-5)
    assert not network.training
    assert norm.momentum == 0.1


def test_predictions_with_frozen_statistics_do_not_depend_on_the_company():
    network = trained("unet-2d")
    a, b = batches(2, seed=5)
    with torch.no_grad():
        alone, together = network(a)["semantic"], network(torch.cat([a, b]))["semantic"]
    torch.testing.assert_close(together[:2], alone, rtol=1e-5, atol=1e-5)


def test_nothing_to_estimate_needs_no_batches():
    assert reestimate_normalization(build("hybrid-2d", {"n_classes": 2, "filters": 2}), []) == 0


def test_no_batches_are_refused():
    with pytest.raises(InputError) as caught:
        reestimate_normalization(trained("unet-2d"), [])
    assert str(caught.value) == (
        "normalisation statistics: expected at least one batch to estimate them from, found none; "
        "give about 100 patches"
    )


def test_statistics_are_of_what_prediction_sees_so_nothing_is_dropped():
    torch.manual_seed(0)
    tail = [torch.nn.Conv3d(4, 5, 1), BatchNormalization(5)]
    whole = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 1), torch.nn.Dropout(0.5), *tail)
    bare = torch.nn.Sequential(copy.deepcopy(whole[0]), *copy.deepcopy(tail))
    for network in (whole, bare):
        reestimate_normalization(network, batches(3))
        assert not network.training
    assert torch.equal(whole[-1].running_mean, bare[-1].running_mean)
    assert torch.equal(whole[-1].running_var, bare[-1].running_var)
