"""Residual stages: the ResNet (He et al., 2016) that DeepLabV3+ and MedicalNet see through, in 2D or 3D.

    stem 7, stride 2 -> max pool 3, stride 2 -> stage 1 -> stage 2 -> stage 3 -> stage 4

A stage is a row of blocks with a connection around each; where its stride is 1 in place of 2 its blocks are
dilated instead, so that activations stay large. A 2D network has kernels of one slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from densem.blocks import Triple
from densem.networks.field import ONES, Field
from densem.networks.layers import Normalization
from densem.networks.resampling import Unit, max_pool

Depth = Literal[10, 18, 34, 50, 101]
Around = Literal["projection", "zeros"]
BLOCKS: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
EXPANSION = 4
"""Of a block with a bottleneck: its output is so many times as wide as its middle."""


@dataclass(frozen=True)
class Stage:
    """One row of blocks.

    Attributes:
        stride: of its first block.
        dilations: of its blocks; the last one is repeated where there are more blocks.
    """

    stride: int = 1
    dilations: Sequence[int] = (1,)

    def dilation(self, block: int) -> int:
        """Of a block."""
        return self.dilations[min(block, len(self.dilations) - 1)]


class ResidualStages(nn.Module):
    """The stages of a ResNet.

    Attributes:
        widths: channels out of each stage.
    """

    def __init__(
        self,
        depth: Depth,
        filters: int,
        stages: Sequence[Stage],
        *,
        planar: bool,
        normalization: Normalization = "batch",
        channels: int = 1,
        around: Around = "projection",
    ) -> None:
        super().__init__()
        self.planar = planar
        expansion = EXPANSION if depth >= 50 else 1
        inner = [filters * 2**s for s in range(4)]
        self.widths = [expansion * w for w in inner]
        two = _triple(2, planar)
        self.stem = Unit(channels, filters, _triple(7, planar), normalization, stride=two)
        come = [filters, *self.widths]
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    ResidualBlock(
                        (come[s] if b == 0 else self.widths[s], inner[s], self.widths[s]),
                        stride=_triple(stage.stride if b == 0 else 1, planar),
                        dilation=_triple(stage.dilation(b), planar),
                        kernel=_triple(3, planar),
                        normalization=normalization,
                        around=around,
                    )
                    for b in range(BLOCKS[depth][s])
                )
            )
            for s, stage in enumerate(stages)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, channels, Z, Y, X) to the activations after each stage."""
        x = max_pool(self.stem(x), _triple(3, self.planar), _triple(2, self.planar))
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def fields(self) -> list[Field]:
        """What the activations after each stage depend on."""
        two = _triple(2, self.planar)
        field = Field().convolve(_triple(7, self.planar), two).convolve(_triple(3, self.planar), two)
        found = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                field = block.field(field)
            found.append(field)
        return found


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions, or a 3x3x3 one between two of 1x1x1, and a connection around them.

    Where stride or width change, the connection is a projection (a 1x1x1 convolution) or has no weights:
    every n-th voxel, and further channels of zeros (options B and A of He et al., 2016).
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        *,
        stride: Triple,
        dilation: Triple,
        kernel: Triple,
        normalization: Normalization,
        around: Around = "projection",
    ) -> None:
        super().__init__()
        come, inner, out = widths
        self.stride, self.added = stride, out - come
        if inner == out:
            self.units = nn.ModuleList(
                [
                    Unit(come, inner, kernel, normalization, stride=stride, dilation=dilation),
                    Unit(inner, out, kernel, normalization, dilation=dilation, slope=None),
                ]
            )
        else:
            self.units = nn.ModuleList(
                [
                    Unit(come, inner, ONES, normalization),
                    Unit(inner, inner, kernel, normalization, stride=stride, dilation=dilation),
                    Unit(inner, out, ONES, normalization, slope=None),
                ]
            )
        changes = around == "projection" and (come != out or stride != ONES)
        self.shortcut = Unit(come, out, ONES, normalization, stride=stride, slope=None) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z', Y', X') >= 0."""
        around = self._without_weights(x) if self.shortcut is None else self.shortcut(x)
        for unit in self.units:
            x = unit(x)
        return F.relu(x + around)

    def _without_weights(self, x: Tensor) -> Tensor:
        if self.stride == ONES and not self.added:
            return x
        z, y, across = self.stride
        return F.pad(x[:, :, ::z, ::y, ::across], (0, 0, 0, 0, 0, 0, 0, self.added))

    def field(self, field: Field) -> Field:
        """After the block; what goes around it sees less."""
        for unit in self.units:
            c = unit.convolution
            field = field.convolve(c.kernel_size, c.stride, c.dilation)  # type: ignore[union-attr, arg-type]
        return field


def _triple(side: int, planar: bool) -> Triple:
    return (1 if planar else side), side, side
