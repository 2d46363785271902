"""Layers: convolutions of stacks of slices whose channels lie last in memory.

Every activation is (N, C, Z, Y, X) to its user and N, Z, Y, X, C in memory. A stack of slices
(N * Z, C, Y, X) in torch's `channels_last` is then the same memory seen differently, so 1x3x3 convolutions,
pools and up-samplings run as 2D operations, 3x3x3 ones as 3D operations, and nothing is copied between them.

Why a 3x3x3 convolution has several ways (torch 2.13 on CPU; on a GPU only the first two matter):

1. One slice: the middle of the kernel as a 2D convolution; the rest meets padding only. In bfloat16 `conv3d`
   answers with uninitialised memory there, for some numbers of channels, on processors with AMX.
2. One input channel: z-shifted slices stacked as three channels of a 2D convolution; 4 to 7 times `conv3d`.
3. float32, one sample and C * Z * Y <= 20480: torch leaves oneDNN for a loop 10 times slower; a sum of three
   2D convolutions, one per slice of the kernel, is not concerned.
4. All else: `conv3d`. Its weight gradient in half precision writes outside its memory on processors with AMX
   (crashes, endless loops); there each slice of the kernel gets its gradient from a 2D convolution, and in
   float32 on processors with AVX2 alone, where all passes together then take 0.5 to 1.1 times as long.

While a graph of operations is taken down for another runtime (`torch.jit` traces), every layer is one plain
3D operation of (N, C, Z, Y, X): how it lies in memory is then that runtime's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densem.networks.geometry import Geometry, Kernel
from densem.networks.streaming import stream

Normalization = Literal["none", "batch"]

_HALF = (torch.bfloat16, torch.float16)
_SMALL_FOR_ONEDNN = 20480
_AVX2_ALONE = torch.backends.cpu.get_cpu_capability() == "AVX2"


def check(geometry: Geometry, x: Tensor) -> None:
    """Refuse an input (N, C, Z, Y, X) that cannot go in; a stream ends with slabs without slices."""
    if x.shape[2] or stream() is None:
        geometry.check(x.shape[2:])


def channels_last(x: Tensor) -> Tensor:
    """The same (N, C, Z, Y, X) values with channels last in memory; free if they are."""
    return x if _traced() else x.contiguous(memory_format=torch.channels_last_3d)


def slices(x: Tensor) -> Tensor:
    """(N, C, Z, Y, X) seen as a stack of slices (N * Z, C, Y, X); free for channels-last activations."""
    n, c, z, y, w = x.shape
    stack = x.permute(0, 2, 3, 4, 1).reshape(n * z, y, w, c)
    if c == 1:  # torch reads the order of one channel off its stride, and would answer channels first
        stack = stack.squeeze(-1).unsqueeze(-1)
    return stack.permute(0, 3, 1, 2)


def volumes(x: Tensor, n: int) -> Tensor:
    """The way back from `slices`: (N * Z, C, Y, X) seen as (N, C, Z, Y, X)."""
    nz, c, y, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, nz // n, y, w, c).permute(0, 4, 1, 2, 3)


def concatenate(*parts: Tensor) -> Tensor:
    """Activations (N, C_i, Z, Y, X) joined along the channels."""
    if _traced():
        return torch.cat(parts, dim=1)
    return torch.cat([p.permute(0, 2, 3, 4, 1) for p in parts], dim=-1).permute(0, 4, 1, 2, 3)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the channels of (N, C, Z, Y, X)."""
    if _traced():
        return logits.softmax(dim=1)
    return logits.permute(0, 2, 3, 4, 1).softmax(dim=-1).permute(0, 4, 1, 2, 3)


def pool(x: Tensor) -> Tensor:
    """Max-pooling by 1x2x2."""
    if _traced():
        return F.max_pool3d(x, (1, 2, 2))
    return volumes(F.max_pool2d(slices(x), 2), x.shape[0])


class PlanarConvolution(nn.Conv2d):
    """A 1xkxk convolution of (N, C, Z, Y, X), zero-padded to the same size; weights (f, c, k, k)."""

    def __init__(self, c_in: int, c_out: int, side: int = 3, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, side, padding=side // 2, bias=bias)
        _lay_out(self, torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z, Y, X)."""
        if _traced():
            return F.conv3d(x, self.weight.unsqueeze(2), self.bias, padding=(0, *self.padding))
        return volumes(super().forward(slices(x)), x.shape[0])


class VolumetricConvolution(nn.Conv3d):
    """A 3x3x3 convolution of (N, C, Z, Y, X), zero-padded to the same size; weights (f, c, 3, 3, 3)."""

    def __init__(self, c_in: int, c_out: int, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, 3, padding=1, bias=bias)
        _lay_out(self, torch.channels_last_3d)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z, Y, X); in a stream to the slices whose neighbours are known."""
        shown = stream()
        if shown is not None and not _traced():
            return convolve_slab(shown.with_neighbours(self, x), self.weight, self.bias)
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            bias = None if self.bias is None else self.bias.to(dtype)
            with torch.autocast(device, enabled=False):
                return convolve_volume(x.to(dtype), self.weight.to(dtype), bias)
        return convolve_volume(x, self.weight, self.bias)


class UpSampling(nn.ConvTranspose2d):
    """A transposed 1x2x2 convolution with stride 1x2x2: twice the size in y and x."""

    def __init__(self, c_in: int, c_out: int, *, bias: bool) -> None:
        super().__init__(c_in, c_out, 2, stride=2, bias=bias)
        _lay_out(self, torch.channels_last)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z, 2 Y, 2 X)."""
        if _traced():
            return F.conv_transpose3d(x, self.weight.unsqueeze(2), self.bias, stride=(1, *self.stride))
        return volumes(super().forward(slices(x), output_size), x.shape[0])


class Join(nn.Module):
    """Where a skip connection meets the decoder: both concatenated along the channels.

    Attributes:
        scale: of both.
        came: margin that the decoder's part was cut down to before; None: it was not.
        margin: voxels of the input around the core that the rest of the network looks at; in a stream,
            what lies beyond is left away.
        ahead: 3x3x3 convolutions that the decoder's part went through and the skip connection did not.
    """

    def __init__(self, scale: int, came: int | None, margin: int, ahead: int) -> None:
        super().__init__()
        self.scale, self.came, self.margin, self.ahead = scale, came, margin, ahead

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) and (N, d, Z, Y, X) to (N, c + d, Z, Y, X)."""
        shown = stream()
        if shown is not None:
            skip = shown.cut(skip, self.scale, None, self.margin)
            x = shown.cut(x, self.scale, self.came, self.margin)
            skip, x = shown.together(self, (skip, x), (self.ahead, 0))
        return concatenate(skip, x)


class Sum(nn.Module):
    """Where paths of equal channels meet: their sum.

    Attributes:
        ahead: how many 3x3x3 convolutions fewer than the longest path each of them has.
    """

    def __init__(self, depths: Sequence[int]) -> None:
        super().__init__()
        self.ahead = [max(depths, default=0) - d for d in depths]

    def forward(self, *parts: Tensor) -> Tensor:
        """(N, c, Z, Y, X) each."""
        shown = stream()
        first, *others = parts if shown is None else shown.together(self, parts, self.ahead)
        for part in others:
            first = first + part
        return first


class Cut(nn.Module):
    """In a stream, leaves away what of the context is not looked at any more.

    Attributes:
        came: margin that came in; None: that of the window.
        margin: what is left of it.
    """

    def __init__(self, came: int | None, margin: int) -> None:
        super().__init__()
        self.came, self.margin = came, margin

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X), the same or smaller in y and x."""
        shown = stream()
        return x if shown is None else shown.cut(x, 0, self.came, self.margin)


class BatchNormalization(nn.BatchNorm2d):
    """Batch normalisation of (N, C, Z, Y, X); statistics are float32 under autocast as well."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape and dtype. One value a channel has no spread: then it is as in prediction."""
        if self.training and x.numel() == x.shape[1]:
            known = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(x, *known, training=False, eps=self.eps)
        return volumes(super().forward(slices(x)), x.shape[0])


class Convolution(nn.Module):
    """Convolution, normalisation if any, ReLU: the unit the networks are built of.

    Attributes:
        slope: of the rectifier for values below zero; 0: a ReLU.
    """

    slope: float | None = 0.0

    def __init__(
        self, c_in: int, c_out: int, kernel: Kernel, normalization: Normalization, slope: float = 0.0
    ) -> None:
        super().__init__()
        self.convolution = convolution(c_in, c_out, kernel, bias=normalization == "none")
        self.normalization = BatchNormalization(c_out) if normalization == "batch" else None
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z, Y, X)."""
        x = self.convolution(x)
        if self.normalization is not None:
            x = self.normalization(x)
        if self.slope:
            return F.leaky_relu(x, self.slope)
        # In place only for prediction: autograd copies a view that is changed, and what comes is one.
        return F.relu(x) if torch.is_grad_enabled() else F.relu_(x)


def convolution(c_in: int, c_out: int, kernel: Kernel, *, bias: bool = True) -> nn.Conv2d | nn.Conv3d:
    """The bare convolution of a kernel."""
    if kernel == "3x3x3":
        return VolumetricConvolution(c_in, c_out, bias=bias)
    return PlanarConvolution(c_in, c_out, 3 if kernel == "1x3x3" else 1, bias=bias)


def block(
    widths: list[int],
    kernels: list[Kernel],
    normalization: Normalization,
    *,
    slope: float = 0.0,
    once: bool = False,
) -> nn.Sequential:
    """Convolutions in a row.

    Args:
        widths: channels, beginning with those that come in.
        kernels: of each convolution.
        normalization: of each convolution.
        slope: of the rectifiers for values below zero.
        once: normalise after the last one alone.
    """
    pairs = zip(widths, widths[1:], kernels, strict=False)
    last = len(kernels) - 1
    return nn.Sequential(
        *(
            Convolution(a, b, kernel, "none" if once and i < last else normalization, slope)
            for i, (a, b, kernel) in enumerate(pairs)
        )
    )


def in_turn(block: nn.Module, x: Tensor) -> Tensor:
    """The layers of a block one after the other; `nn.Sequential` would hold what came in till its end."""
    for layer in block.children():
        x = layer(x)
    return x


def initialize(network: nn.Module) -> None:
    """He's initialisation of what is followed by a ReLU, Glorot's variance for the rest; biases zero."""
    rectified = {id(m.convolution) for m in network.modules() if isinstance(m, Convolution)}
    for m in network.modules():
        if isinstance(m, nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.normal_(m.weight, std=m.in_channels**-0.5)  # stride = kernel: an output has c_in inputs
        elif isinstance(m, nn.Conv2d | nn.Conv3d):
            kind: Literal["relu", "linear"] = "relu" if id(m) in rectified else "linear"
            nn.init.kaiming_normal_(m.weight, nonlinearity=kind)
        bias = getattr(m, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def convolve_volume(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A zero-padded 3x3x3 convolution, in the fastest safe way (see the top of this file).

    Args:
        x: (N, c, Z, Y, X).
        weight: (f, c, 3, 3, 3), of the same dtype.
        bias: (f,).

    Returns:
        (N, f, Z, Y, X), channels last in memory.
    """
    if _traced():
        return F.conv3d(x, weight, bias, padding=1)
    n, c, z = x.shape[:3]
    if z == 1:
        return volumes(F.conv2d(slices(x), weight[:, :, 1], bias, padding=1), n)
    if c == 1:
        return _convolve_stacked(F.pad(x, (0, 0, 0, 0, 1, 1)), weight, bias)
    if x.device.type == "cpu" and (x.dtype in _HALF or _AVX2_ALONE or _leaves_onednn(x)):
        return _SlicedGradient.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return channels_last(F.conv3d(x, weight, bias, padding=1))


def convolve_slab(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3x3 convolution of slices that bring their neighbours: padded in y and x, not in z.

    Args:
        x: (N, c, Z + 2, Y, X).
        weight: (f, c, 3, 3, 3), of the same dtype.
        bias: (f,).

    Returns:
        (N, f, Z, Y, X), channels last in memory; without slices where x has no more than two.
    """
    n, c, z = x.shape[:3]
    if z < 3:
        return channels_last(x.new_empty((n, weight.shape[0], 0, *x.shape[3:])))
    if c == 1:
        return _convolve_stacked(x, weight, bias)
    if _leaves_onednn(x) and x.device.type == "cpu":
        stack = slices(x)
        out = F.conv2d(stack[1:-1], weight[:, :, 1], bias, padding=1)
        out += F.conv2d(stack[:-2], weight[:, :, 0], padding=1)
        out += F.conv2d(stack[2:], weight[:, :, 2], padding=1)
        return volumes(out, 1)
    return channels_last(F.conv3d(channels_last(x), weight, bias, padding=(0, 1, 1)))


def _traced() -> bool:
    """Whether a graph of operations is being taken down."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _convolve_stacked(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As a 2D convolution whose three input channels are the slices z - 1, z, z + 1."""
    n, _, z, y, w = x.shape
    z, padded = z - 2, x.reshape(n, z, y, w)
    stacked = torch.stack([padded[:, k : k + z] for k in range(3)], dim=-1)
    return volumes(F.conv2d(slices(stacked.permute(0, 4, 1, 2, 3)), weight[:, 0], bias, padding=1), n)


def _convolve_summed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As a sum of 2D convolutions, one per slice of the kernel, of one sample."""
    assert x.shape[0] == 1
    stack = slices(x)
    out = F.conv2d(stack, weight[:, :, 1], bias, padding=1)
    out[1:] += F.conv2d(stack[:-1], weight[:, :, 0], padding=1)
    out[:-1] += F.conv2d(stack[1:], weight[:, :, 2], padding=1)
    return volumes(out, 1)


def _leaves_onednn(x: Tensor) -> bool:
    """Whether torch would not give `conv3d` of this input to oneDNN."""
    n, c, z, y, _ = x.shape
    return n == 1 and c * z * y <= _SMALL_FOR_ONEDNN and x.dtype == torch.float32


class _SlicedGradient(torch.autograd.Function):
    """A 3x3x3 convolution of two slices or more whose weight gradient comes from 2D convolutions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _plain(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = channels_last(grads[0])
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        mirrored = channels_last(weight.flip((2, 3, 4)).transpose(0, 1))
        return (
            _plain(grad, mirrored, None) if needs_x else None,
            _weight_gradient(x, weight, grad) if needs_weight else None,
            grad.sum((0, 2, 3, 4), dtype=torch.float32).to(grad.dtype) if needs_bias else None,
        )


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution itself, summed or by `conv3d`."""
    if _leaves_onednn(x):
        return _convolve_summed(x, weight, bias)
    return channels_last(F.conv3d(x, weight, bias, padding=1))


def _weight_gradient(x: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    """Gradient (f, c, 3, 3, 3): kernel slice k pairs input slice z + k - 1 with output slice z."""
    total = torch.zeros_like(weight, dtype=torch.float32)
    depth = x.shape[2]
    for n in range(x.shape[0]):
        inputs, outputs = slices(x[n : n + 1]), slices(grad[n : n + 1])
        for k in range(3):
            first, last = max(0, 1 - k), min(depth, depth + 1 - k)
            seen = inputs[first + k - 1 : last + k - 1]
            total[:, :, k] += _planar_weight_gradient(outputs[first:last], seen, weight[:, :, k])
    return total.to(weight.dtype)


def _planar_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient (f, c, 3, 3) of a zero-padded 3x3 convolution of (N, c, Y, X)."""
    one, wanted = [1, 1], [False, True, False]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, one, one, one, False, [0, 0], 1, wanted
    )
    return found[1]


def _lay_out(module: nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d, memory: torch.memory_format) -> None:
    """Store the weights channels last, so that convolutions answer in it whatever comes in."""
    module.weight = nn.Parameter(module.weight.detach().contiguous(memory_format=memory))
