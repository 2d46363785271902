"""Layers of any kernel and stride against torch's own operations on ordinary (N, C, Z, Y, X) memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densem.networks import resampling
from densem.networks.layers import BatchNormalization, VolumetricConvolution
from densem.networks.mednext import TransposedDepthwise


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def is_channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last_3d)


# kernel, stride, dilation, groups, (Z, Y, X)
CASES = [
    ((1, 3, 3), (1, 1, 1), (1, 1, 1), 1, (3, 8, 12)),
    ((1, 1, 1), (2, 2, 2), (1, 1, 1), 1, (4, 8, 12)),
    ((7, 7, 7), (2, 2, 2), (1, 1, 1), 1, (6, 8, 12)),
    ((3, 3, 3), (1, 1, 1), (2, 4, 4), 1, (5, 9, 12)),
    ((3, 3, 3), (1, 1, 1), (4, 4, 4), 1, (2, 8, 12)),  # of each kernel the middle slice alone meets anything
    ((3, 3, 3), (2, 1, 2), (1, 1, 1), 1, (5, 8, 13)),  # odd sizes
    ((3, 1, 5), (1, 1, 1), (1, 1, 1), 6, (4, 8, 12)),
    ((3, 3, 3), (1, 2, 2), (1, 1, 1), 3, (1, 8, 12)),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kernel", "stride", "dilation", "groups", "size"), CASES)
def test_convolutions_and_their_gradients_agree_with_conv3d(kernel, stride, dilation, groups, size, dtype):
    layer = resampling.StridedConvolution(6, 12, kernel, stride=stride, dilation=dilation, groups=groups)
    layer = layer.to(dtype)
    x = draw(2, 6, *size, dtype=dtype).requires_grad_()
    leaves = [t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)]
    padding = tuple(d * (k // 2) for d, k in zip(dilation, kernel, strict=True))
    expected = F.conv3d(*leaves, stride=stride, padding=padding, dilation=dilation, groups=groups)
    out = layer(x)
    grad = draw(*expected.shape, seed=2)
    out.backward(grad.to(dtype))
    expected.backward(grad.to(dtype).double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    assert out.shape == expected.shape
    assert is_channels_last(out)
    pairs = [
        (out, expected),
        *((a.grad, b.grad) for a, b in zip((x, layer.weight, layer.bias), leaves, strict=True)),
    ]
    for found, true in pairs:
        wrong = (found.detach().double() - true.detach()).abs().max()
        assert float(wrong) <= tolerance * float(true.detach().abs().max())


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (2, 1, 1)])
def test_transposed_convolutions_agree_with_conv_transpose3d(stride):
    layer, x = resampling.TransposedConvolution(5, 4, stride).double(), draw(2, 5, 3, 4, 6)
    expected = F.conv_transpose3d(x, layer.weight, layer.bias, stride=stride)
    out = layer(x)
    torch.testing.assert_close(out, expected)
    assert is_channels_last(out)


@pytest.mark.parametrize(("kernel", "c_out"), [((3, 3, 3), 5), ((1, 1, 1), 4)])
@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_depthwise_transposed_convolutions_agree_with_conv_transpose3d(kernel, c_out, stride):
    layer, x = TransposedDepthwise(5, c_out, kernel, stride).double(), draw(2, 5, 3, 4, 6)
    expected = F.conv_transpose3d(
        x, layer.weight, layer.bias, stride=stride, padding=layer.padding, groups=layer.groups
    )
    torch.testing.assert_close(layer(x), expected)


def test_pools_and_interpolation_agree_with_torch():
    x = draw(2, 5, 4, 8, 12)
    for found, expected in [
        (resampling.max_pool(x, (3, 3, 3), (2, 2, 2)), F.max_pool3d(x, 3, 2, 1)),
        (resampling.max_pool(x, (1, 3, 3), (1, 2, 2)), F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))),
        (resampling.mean_pool(x, (1, 2, 2)), F.avg_pool3d(x, (1, 2, 2))),
        (resampling.interpolate(x, (2, 4, 4)), F.interpolate(x, size=(8, 32, 48), mode="trilinear")),
    ]:
        torch.testing.assert_close(found, expected)
        assert is_channels_last(found)


def test_a_voxel_is_interpolated_the_same_whatever_the_window():
    x = draw(1, 2, 3, 8, 8)
    whole, part = resampling.interpolate(x, (1, 4, 4)), resampling.interpolate(x[..., 2:7, :], (1, 4, 4))
    torch.testing.assert_close(part[..., 4:-4, :], whole[..., 12:24, :])


def test_instance_normalisation_agrees_with_torch():
    ours, theirs = resampling.InstanceNormalization(5), nn.InstanceNorm3d(5, affine=True)
    for m in (ours, theirs):
        m.weight.data.copy_(torch.arange(1.0, 6.0))
        m.bias.data.copy_(torch.arange(5.0))
    x = draw(2, 5, 3, 8, 12, dtype=torch.float32) * 3 + 100
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-3)


def test_statistics_of_a_single_value_stay_as_they_are():
    norm, x = BatchNormalization(5).train(), draw(1, 5, 1, 1, 1, dtype=torch.float32)
    torch.testing.assert_close(norm(x), x / (1 + norm.eps) ** 0.5)
    assert not norm.running_mean.any()


def test_plain_kernels_are_the_streaming_layer():
    assert isinstance(resampling.spatial(2, 3, (3, 3, 3)), VolumetricConvolution)
    assert isinstance(resampling.spatial(2, 3, (3, 3, 3), stride=(1, 2, 2)), resampling.StridedConvolution)


def test_a_wide_first_convolution_in_bfloat16_trains_where_conv3d_is_not_safe():
    layer = resampling.StridedConvolution(1, 16, (7, 7, 7), stride=(2, 2, 2))
    x = draw(2, 1, 8, 48, 80, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    middle = x.to(torch.bfloat16).double()[:, :, ::2, ::2, ::2].sum()
    assert (
        float((layer.weight.grad[:, 0, 3, 3, 3].double() - middle).abs().max())
        < 2e-2 * float(x.abs().sum()) ** 0.5
    )
