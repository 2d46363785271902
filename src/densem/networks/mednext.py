"""MedNeXt: a U-Net of ConvNeXt blocks with wide depthwise kernels (Roy et al., 2023), anisotropic if asked.

    block:  depthwise kernel -> norm -> 1x1x1 (times the expansion) -> GELU -> 1x1x1, + around
    down:   the same, its kernel striding by 2; around it a 1x1x1 that strides
    up:     the same with transposed kernels, which stop one voxel short of twice the size: a plane of zeros
            is put in front of each axis, as published

The published normalisation is that of every channel over the window: with it the context is unbounded.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from densem.blocks import Triple, triple
from densem.networks.field import ONES
from densem.networks.field import Field as Seen
from densem.networks.geometry import Geometry
from densem.networks.layers import BatchNormalization, channels_last, initialize
from densem.networks.resampling import InstanceNormalization, StridedConvolution, convolve, direct

Side = Literal[1, 2]
Odd = Literal[1, 3, 5, 7]


class MedNeXtConfig(BaseModel):
    """What a `MedNeXt` is made of; by default the small one (S) with kernels of 3."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(default=32, ge=1, description="base width; scale s has 2^s times as many")
    strides: tuple[tuple[Side, Side, Side], ...] = Field(
        default=((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)), min_length=1, description="from scale to scale"
    )
    kernel: tuple[Odd, Odd, Odd] = Field(default=(3, 3, 3), description="of all depthwise convolutions")
    blocks: tuple[int, ...] = Field(
        default=(2, 2, 2, 2, 2), description="blocks at each scale, on the way down and on the way up"
    )
    expansion: tuple[int, ...] = Field(
        default=(2, 2, 2, 2, 2), description="of the blocks at each scale: their inner width in outer widths"
    )
    normalization: Literal["batch", "instance"] = Field(
        default="instance",
        description="after each depthwise kernel; instance: over the window, as published",
    )

    @model_validator(mode="after")
    def _scales_agree(self) -> Self:
        wanted = len(self.strides) + 1
        if {len(self.blocks), len(self.expansion)} != {wanted} or min(*self.blocks, *self.expansion) < 1:
            raise ValueError(
                f"expected blocks and expansion of at least 1 for {wanted} scales, one more than there are "
                f"strides, found {self.blocks} and {self.expansion}"
            )
        return self


class MedNeXt(nn.Module):
    """A MedNeXt.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes; the context is unbounded with the published normalisation.
    """

    def __init__(self, config: MedNeXtConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.filters * 2**s for s in range(len(config.blocks))]
        scales = range(len(config.strides))
        self.stem = StridedConvolution(1, widths[0], ONES)
        self.down = nn.ModuleList(_row(config, widths[s], s) for s in range(len(widths)))
        self.shrink = nn.ModuleList(
            Block((widths[s], widths[s + 1]), config, s, stride=config.strides[s]) for s in scales
        )
        self.grow = nn.ModuleList(
            Block((widths[s + 1], widths[s]), config, s, stride=config.strides[s], up=True) for s in scales
        )
        self.up = nn.ModuleList(_row(config, widths[s], s) for s in scales)
        self.head = StridedConvolution(widths[0], config.n_classes, ONES)
        self.geometry = self._geometry()
        initialize(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every class.

        Args:
            x: float (N, 1, Z, Y, X), normalised grey values; sizes as `geometry` accepts them.

        Returns:
            `semantic`: float (N, n_classes, Z, Y, X).
        """
        self.geometry.check(x.shape[2:])
        x = self.down[0](self.stem(channels_last(x)))
        skips: list[Tensor] = []
        for shrink, down in zip(self.shrink, self.down[1:], strict=True):
            skips.append(x)
            x = down(shrink(x))
        for scale in reversed(range(len(self.grow))):
            x = self.up[scale](self.grow[scale](x) + skips.pop())
        return {"semantic": self.head(x)}

    def _geometry(self) -> Geometry:
        strides, kernel = self.config.strides, self.config.kernel
        multiple = triple(math.prod(s[i] for s in strides) for i in range(3))
        if self.config.normalization == "instance":
            return Geometry(multiple, None)
        field, found = Seen(), []
        for scale, count in enumerate(self.config.blocks):
            for _ in range(count):
                field = field.convolve(kernel)
            found.append(field)
            if scale < len(strides):
                field = field.convolve(kernel, strides[scale])
        for scale in reversed(range(len(strides))):
            field = field.transpose(kernel, strides[scale]).join(found[scale])
            for _ in range(self.config.blocks[scale]):
                field = field.convolve(kernel)
        return field.geometry(multiple)


class Block(nn.Module):
    """A ConvNeXt block, which may change resolution and width."""

    def __init__(
        self,
        widths: tuple[int, int],
        config: MedNeXtConfig,
        scale: int,
        *,
        stride: Triple = ONES,
        up: bool = False,
    ) -> None:
        super().__init__()
        come, out = widths
        self.changes = come != out
        self.depthwise: nn.Module
        if up:
            self.depthwise = TransposedDepthwise(come, come, config.kernel, stride)
        else:
            self.depthwise = StridedConvolution(come, come, config.kernel, stride=stride, groups=come)
        batch = config.normalization == "batch"
        self.normalization = BatchNormalization(come) if batch else InstanceNormalization(come)
        self.expand = StridedConvolution(come, config.expansion[scale] * come, ONES)
        self.compress = StridedConvolution(config.expansion[scale] * come, out, ONES)
        self.front = triple(s - 1 if up else 0 for s in stride)
        self.around: nn.Module | None = None
        if self.changes:
            kind = TransposedDepthwise if up else StridedConvolution
            self.around = kind(come, out, ONES, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z', Y', X')."""
        inner = self.compress(F.gelu(self.expand(self.normalization(self.depthwise(x)))))
        around = x if self.around is None else self.around(x)
        return self._in_front(inner + around)

    def _in_front(self, x: Tensor) -> Tensor:
        """With planes of zeros, where transposed kernels stop one voxel short."""
        if not any(self.front):
            return x
        z, y, w = self.front
        return channels_last(F.pad(x, (w, 0, y, 0, z, 0)))


class TransposedDepthwise(nn.ConvTranspose3d):
    """A transposed convolution: of each channel by itself, or with a kernel of 1 from all channels to all.

    (N, c, Z, Y, X) becomes (N, f, s (Z - 1) + 1, ...): voxels come to lie s apart, zeros between them, and a
    mirrored kernel goes over them.
    """

    def __init__(self, c_in: int, c_out: int, kernel: Triple, stride: Triple) -> None:
        groups = c_in if kernel != ONES else 1
        padding = triple(k // 2 for k in kernel)
        super().__init__(c_in, c_out, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, s (Z - 1) + 1, ...)."""
        if direct(x):
            return channels_last(super().forward(x, output_size))
        sz, sy, sx = self.stride
        n, c, z, y, w = x.shape
        apart = x.new_zeros(n, (z - 1) * sz + 1, (y - 1) * sy + 1, (w - 1) * sx + 1, c)
        apart = apart.permute(0, 4, 1, 2, 3)
        apart[:, :, ::sz, ::sy, ::sx] = x
        weight = self.weight.flip((2, 3, 4))
        if self.groups == 1:
            weight = weight.transpose(0, 1)
        return convolve(apart, weight, self.bias, ONES, ONES, self.groups)


def _row(config: MedNeXtConfig, width: int, scale: int) -> nn.Sequential:
    """The blocks of a scale."""
    return nn.Sequential(*(Block((width, width), config, scale) for _ in range(config.blocks[scale])))
