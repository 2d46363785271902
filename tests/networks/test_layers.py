"""Layers against torch's own operations on ordinary (N, C, Z, Y, X) memory."""

import pytest
import torch
import torch.nn.functional as F

from densem.networks import layers

SHAPE = (2, 5, 3, 8, 12)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def is_channels_last(x):
    return x.permute(0, 2, 3, 4, 1).is_contiguous()


def test_slices_and_volumes_are_views_of_the_same_memory():
    x = layers.channels_last(draw(*SHAPE))
    stack = layers.slices(x)
    assert stack.data_ptr() == x.data_ptr()
    assert stack.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(stack[4], x[1, :, 1])
    back = layers.volumes(stack, 2)
    assert back.data_ptr() == x.data_ptr()
    assert torch.equal(back, x)


@pytest.mark.parametrize("in_order", [True, False])
def test_pool_concatenation_and_softmax_agree_with_torch(in_order):
    x, other = draw(*SHAPE), draw(2, 3, 3, 8, 12, seed=1)
    given = [layers.channels_last(t) if in_order else t for t in (x, other)]
    for found, expected in [
        (layers.pool(given[0]), F.max_pool3d(x, (1, 2, 2))),
        (layers.concatenate(*given), torch.cat([x, other], 1)),
        (layers.probabilities(given[0]), x.softmax(1)),
    ]:
        torch.testing.assert_close(found, expected)
        assert is_channels_last(found) or not in_order


@pytest.mark.parametrize("side", [1, 3])
def test_planar_convolution_agrees_with_conv3d(side):
    layer, x = layers.PlanarConvolution(5, 4, side).double(), draw(*SHAPE)
    expected = F.conv3d(x, layer.weight.unsqueeze(2), layer.bias, padding=(0, side // 2, side // 2))
    torch.testing.assert_close(layer(layers.channels_last(x)), expected)


def test_up_sampling_agrees_with_conv_transpose3d():
    layer, x = layers.UpSampling(5, 4, bias=True).double(), draw(*SHAPE)
    expected = F.conv_transpose3d(x, layer.weight.unsqueeze(2), layer.bias, stride=(1, 2, 2))
    torch.testing.assert_close(layer(layers.channels_last(x)), expected)


# One slice: 2D; one channel: stacked; one float32 sample: summed; bfloat16, AVX2: conv3d with safe gradients.
WAYS = [
    pytest.param((2, 1, 3, 8, 12), torch.float32, id="stacked"),
    pytest.param((1, 1, 1, 8, 12), torch.float32, id="stacked-one-slice"),
    pytest.param((1, 5, 3, 8, 12), torch.float32, id="summed"),
    pytest.param((1, 5, 1, 8, 12), torch.float32, id="summed-one-slice"),
    pytest.param((1, 5, 2, 8, 12), torch.float32, id="summed-two-slices"),
    pytest.param((2, 5, 3, 8, 12), torch.float32, id="conv3d"),
    pytest.param((2, 5, 3, 8, 12), torch.float64, id="conv3d-double"),
    pytest.param((2, 5, 3, 8, 12), torch.bfloat16, id="half"),
    pytest.param((1, 5, 1, 8, 12), torch.bfloat16, id="half-one-slice"),
    pytest.param((2, 15, 2, 8, 12), torch.bfloat16, id="half-two-slices"),
    pytest.param((3, 1, 4, 8, 12), torch.bfloat16, id="half-stacked"),
]


@pytest.mark.parametrize(("shape", "dtype"), WAYS)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("avx2_alone", [True, False])
def test_every_way_to_convolve_a_volume_agrees_with_conv3d(shape, dtype, biased, avx2_alone, monkeypatch):
    monkeypatch.setattr(layers, "_AVX2_ALONE", avx2_alone)
    x, w, b = draw(*shape), draw(4, shape[1], 3, 3, 3, seed=1), draw(4, seed=2)
    g = draw(shape[0], 4, *shape[2:], seed=3)
    leaves, expected_leaves = [], []
    for t in (x, w, b):
        leaves.append(t.to(dtype).requires_grad_())
        expected_leaves.append(t.to(dtype).double().requires_grad_())
    xs, ws, bs = leaves
    out = layers.convolve_volume(layers.channels_last(xs), ws, bs if biased else None)
    ex, ew, eb = expected_leaves
    expected = F.conv3d(ex, ew, eb if biased else None, padding=1)
    out.backward(g.to(dtype))
    expected.backward(g.to(dtype).double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    assert is_channels_last(out)
    for found, true in [(out, expected), (xs.grad, ex.grad), (ws.grad, ew.grad), (bs.grad, eb.grad)]:
        if true is not None:
            wrong, largest = (found.double() - true).detach().abs().max(), true.detach().abs().max()
            assert float(wrong) <= tolerance * float(largest)


def test_the_weight_gradient_in_half_precision_survives_the_sizes_that_crash_conv3d():
    for c_in, c_out in [(1, 32), (32, 32), (23, 16)]:
        layer = layers.VolumetricConvolution(c_in, c_out)
        x = draw(2, c_in, 3, 48, 160, dtype=torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(layers.channels_last(x))
        out.backward(torch.ones_like(out))
        assert out.dtype == torch.bfloat16
        assert layer.weight.grad.dtype == torch.float32
        middle = x.to(torch.bfloat16).double().sum((0, 2, 3, 4))
        found = layer.weight.grad[:, :, 1, 1, 1].double()
        assert float((found - middle).abs().max()) < 2e-2 * float(x[:, 0].abs().sum()) ** 0.5


def test_weights_are_stored_channels_last_and_stay_so():
    layer = layers.VolumetricConvolution(5, 4).to(torch.bfloat16)
    layer.load_state_dict({k: v.contiguous() for k, v in layer.state_dict().items()})
    assert layer.weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_batch_statistics_stay_float32_under_autocast():
    norm = layers.BatchNormalization(5)
    x = layers.channels_last(draw(*SHAPE, dtype=torch.float32) * 3 + 100)
    half = x.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(half)
    assert out.dtype == torch.bfloat16
    assert norm.running_mean.dtype == torch.float32
    exact = half.double().mean((0, 2, 3, 4))
    torch.testing.assert_close(norm.running_mean.double(), 0.1 * exact, rtol=1e-5, atol=0)
    variance = half.double().transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(norm.running_var.double(), 0.9 + 0.1 * variance, rtol=1e-4, atol=0)


def test_initialisation_keeps_the_spread_of_activations():
    torch.manual_seed(0)
    row = layers.block([1, *[24] * 6], ["1x3x3", "3x3x3"] * 3, "none")
    layers.initialize(row)
    x = torch.randn(1, 1, 8, 24, 32)
    spread = row(x).detach().square().mean().sqrt()
    assert 0.3 < float(spread) < 2
    assert all(not m.convolution.bias.any() for m in row)
