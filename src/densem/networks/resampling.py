"""Resampling: layers of any kernel, stride and dilation, for stacks of slices with channels last in memory.

On a processor a kernel of several slices is a 2D convolution whose input channels are the slices it looks at:

    output slice z  <-  input slices  s z - d, s z, s z + d  as 3 c channels    (side 3, stride s, dilation d)

so that nothing goes through `conv3d`, whose weight gradient in half precision is not safe there, and slices
that meet padding alone are left out. On a graphics card, and while a graph is taken down, it is `conv3d`.
Padding is half of the kernel: a size n becomes ceil(n / stride).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densem.blocks import Triple, triple
from densem.networks.field import ONES
from densem.networks.layers import (
    BatchNormalization,
    Convolution,
    VolumetricConvolution,
    channels_last,
    slices,
    volumes,
)


class StridedConvolution(nn.Conv3d):
    """A convolution of any odd kernel, stride, dilation and groups; weights (f, c, z, y, x)."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Triple,
        *,
        stride: Triple = ONES,
        dilation: Triple = ONES,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        padding = triple(d * (k // 2) for d, k in zip(dilation, kernel, strict=True))
        super().__init__(c_in, c_out, kernel, stride, padding, dilation, groups, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, ceil(Z / s), ceil(Y / s), ceil(X / s))."""
        if direct(x):
            return channels_last(super().forward(x))
        return convolve(x, self.weight, self.bias, triple(self.stride), triple(self.dilation), self.groups)


class TransposedConvolution(nn.ConvTranspose3d):
    """A transposed convolution whose kernel is its stride: every axis becomes that many times longer."""

    def __init__(self, c_in: int, c_out: int, stride: Triple, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, stride, stride, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, s Z, s Y, s X)."""
        if direct(x):
            return channels_last(super().forward(x, output_size))
        stack, plane = slices(x), self.stride[1:]
        parts = [
            F.conv_transpose2d(stack, self.weight[:, :, k], self.bias, plane) for k in range(self.stride[0])
        ]
        lasts = [volumes(p, x.shape[0]).permute(0, 2, 3, 4, 1) for p in parts]
        return torch.stack(lasts, dim=2).flatten(1, 2).permute(0, 4, 1, 2, 3)


class InstanceNormalization(nn.Module):
    """Each channel of each sample over (Z, Y, X), with gain and shift: its statistics are the window's."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape and dtype; statistics are float32 at the least."""
        wide = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(wide, (2, 3, 4), unbiased=False, keepdim=True)
        gain = self.weight.view(1, -1, 1, 1, 1) * (variance + self.eps).rsqrt()
        return (wide * gain + (self.bias.view(1, -1, 1, 1, 1) - mean * gain)).to(x.dtype)


class Unit(Convolution):
    """Convolution of any kernel and stride, normalisation if any, and what follows.

    Attributes:
        convolution: a bias only where no normalisation follows, unless asked for.
        normalization: batch normalisation, which prediction folds into the convolution.
        instance: or that over the window.
        slope: of the rectifier for values below zero; None: there is none.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Triple,
        normalization: str,
        *,
        stride: Triple = ONES,
        dilation: Triple = ONES,
        slope: float | None = 0.0,
        bias: bool | None = None,
    ) -> None:
        nn.Module.__init__(self)
        bias = normalization == "none" if bias is None else bias
        self.convolution = spatial(c_in, c_out, kernel, stride=stride, dilation=dilation, bias=bias)
        self.normalization = BatchNormalization(c_out) if normalization == "batch" else None
        self.instance = InstanceNormalization(c_out) if normalization == "instance" else None
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z', Y', X')."""
        x = self.convolution(x)
        if self.normalization is not None:
            x = self.normalization(x)
        if self.instance is not None:
            x = self.instance(x)
        return rectify(x, self.slope)


def spatial(
    c_in: int,
    c_out: int,
    kernel: Triple,
    *,
    stride: Triple = ONES,
    dilation: Triple = ONES,
    bias: bool = True,
) -> nn.Conv3d:
    """The bare convolution of a kernel."""
    if kernel == (3, 3, 3) and stride == dilation == ONES:
        return VolumetricConvolution(c_in, c_out, bias=bias)
    return StridedConvolution(c_in, c_out, kernel, stride=stride, dilation=dilation, bias=bias)


def rectify(x: Tensor, slope: float | None) -> Tensor:
    """max(x, slope x); without a slope x itself."""
    if slope is None:
        return x
    return F.leaky_relu(x, slope) if slope else F.relu(x)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, dilation: Triple, groups: int
) -> Tensor:
    """A convolution that pads with half of its kernel, by way of 2D convolutions.

    Args:
        x: (N, c, Z, Y, X).
        weight: (f, c / groups, z, y, x), odd sides.
        bias: (f,).
        stride: (z, y, x).
        dilation: (z, y, x).
        groups: of channels that do not mix.

    Returns:
        (N, f, ceil(Z / s), ceil(Y / s), ceil(X / s)), channels last in memory.
    """
    padding = [d * (k // 2) for d, k in zip(dilation[1:], weight.shape[3:], strict=True)]
    looked, seen = _looked_at(x, weight.shape[2], stride[0], dilation[0])
    flat = weight[:, :, looked].flatten(1, 2)
    out = F.conv2d(slices(seen), flat, bias, stride[1:], padding, dilation[1:], groups)
    return volumes(out, x.shape[0])


def max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max-pooling of (N, C, Z, Y, X) that pads with half of its kernel."""
    padding = triple(k // 2 for k in kernel)
    return channels_last(F.max_pool3d(x, kernel, stride, padding))


def mean_pool(x: Tensor, stride: Triple) -> Tensor:
    """The mean over boxes of (N, C, Z, Y, X)."""
    if stride == ONES:
        return x
    depth, plane = stride[0], stride[1:]
    x = volumes(F.avg_pool2d(slices(x), plane), x.shape[0])  # of three axes there is none in half precision
    parts = [x[:, :, k::depth] for k in range(depth)]
    return channels_last(torch.stack(parts).mean(dim=0)) if depth > 1 else x


def interpolate(x: Tensor, scale: Triple) -> Tensor:
    """Linear interpolation of (N, C, Z, Y, X); voxels keep their outer edges, whatever the size."""
    factors = tuple(float(s) for s in scale)
    return channels_last(F.interpolate(x, scale_factor=factors, mode="trilinear", align_corners=False))


def direct(x: Tensor) -> bool:
    """Whether torch's own 3D operations are to be used."""
    return x.device.type not in ("cpu", "meta") or bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _looked_at(x: Tensor, side: int, stride: int, dilation: int) -> tuple[list[int], Tensor]:
    """Which slices of the kernel meet any of (N, C, Z, Y, X), and what they meet: (N, C k, Z', Y, X)."""
    if side == 1:
        return [0], x[:, :, ::stride]
    depth, half = x.shape[2], dilation * (side // 2)
    count = -(-depth // stride)
    first = [k * dilation - half for k in range(side)]
    looked = [k for k, a in enumerate(first) if any(0 <= a + o * stride < depth for o in range(count))]
    padded = F.pad(x, (0, 0, 0, 0, half, half))
    last = (count - 1) * stride + 1
    parts = [padded[:, :, k * dilation : k * dilation + last : stride] for k in looked]
    stacked = torch.stack([p.permute(0, 2, 3, 4, 1) for p in parts], dim=-1).flatten(-2)
    return looked, stacked.permute(0, 4, 1, 2, 3)
