"""Planar: two 2D encoder-decoders of the reference study, with a connection inside each block.

    block:    x -> 3x3 -> h -> 3x3 ... -> y;  answers y + h          (the last convolution plus the first)

`ResidualPlane` is a U-Net of such blocks. `DilatedPlane` has no pools: its blocks follow each other at full
resolution, with dilations 1, 2, 4, ...
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from densem.networks.field import Field as Seen
from densem.networks.geometry import Geometry
from densem.networks.layers import (
    Cut,
    Normalization,
    PlanarConvolution,
    UpSampling,
    channels_last,
    check,
    concatenate,
    initialize,
    pool,
)
from densem.networks.resampling import Unit

THREE, TWO = (1, 3, 3), (1, 2, 2)


class PlaneConfig(BaseModel):
    """What a `ResidualPlane` is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(default=64, ge=1, description="base width; scale s has 2^s times as many")
    depth: int = Field(default=4, ge=1, le=6, description="number of 1x2x2 pools")
    convs_per_block: int = Field(default=2, ge=2, description="convolutions of a block")
    normalization: Normalization = Field(default="none", description="before each ReLU")


class DilatedConfig(BaseModel):
    """What a `DilatedPlane` is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(default=64, ge=1, description="width of every convolution")
    blocks: int = Field(
        default=6, ge=1, le=8, description="number of blocks; that of number i is dilated by 2^i"
    )
    convs_per_block: int = Field(default=2, ge=2, description="convolutions of a block")
    normalization: Normalization = Field(default="none", description="before each ReLU")


class Around(nn.Module):
    """Convolutions in a row; the first one's answer is added to the last one's."""

    def __init__(
        self, c_in: int, c_out: int, count: int, normalization: Normalization, rate: int = 1
    ) -> None:
        super().__init__()
        self.dilation = (1, rate, rate)
        self.units = nn.ModuleList(
            Unit(c_in if i == 0 else c_out, c_out, THREE, normalization, dilation=self.dilation)
            for i in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z, Y, X) >= 0."""
        first = x = self.units[0](x)
        for unit in self.units[1:]:
            x = unit(x)
        return x + first

    def field(self, field: Seen) -> Seen:
        """After the block."""
        for _ in self.units:
            field = field.convolve(THREE, dilation=self.dilation)
        return field


class ResidualPlane(nn.Module):
    """A 2D U-Net of residual blocks, on each slice by itself.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes and context.
        streams: it can be shown a window slab by slab.
    """

    streams = True

    def __init__(self, config: PlaneConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.filters * 2**s for s in range(config.depth + 1)]

        def made(c_in: int, scale: int) -> Around:
            return Around(c_in, widths[scale], config.convs_per_block, config.normalization)

        self.down = nn.ModuleList(made(c, s) for s, c in enumerate([1, *widths[:-1]]))
        self.up = nn.ModuleList(UpSampling(2 * w, w, bias=True) for w in widths[:-1])
        self.merge = nn.ModuleList(made(2 * w, s) for s, w in enumerate(widths[:-1]))
        self.head = PlanarConvolution(config.filters, config.n_classes, 1)
        self.to_core = Cut(None, 0)
        self.geometry = self._geometry()
        initialize(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every class.

        Args:
            x: float (N, 1, Z, Y, X), normalised grey values; sizes as `geometry` accepts them.

        Returns:
            `semantic`: float (N, n_classes, Z, Y, X).
        """
        check(self.geometry, x)
        x = self.down[0](channels_last(x))
        skips: list[Tensor] = []
        for down in self.down[1:]:
            skips.append(x)
            x = down(pool(x))
        for scale in reversed(range(len(self.up))):
            x = self.merge[scale](concatenate(skips.pop(), self.up[scale](x)))
        return {"semantic": self.to_core(self.head(x))}

    def _geometry(self) -> Geometry:
        found: list[Seen] = []
        field = Seen()
        for scale, down in enumerate(self.down):
            field = down.field(field.convolve(TWO, TWO) if scale else field)  # type: ignore[operator]
            found.append(field)
        for scale in reversed(range(len(self.up))):
            field = self.merge[scale].field(field.up(TWO).join(found[scale]))  # type: ignore[operator]
        side = 2**self.config.depth
        return field.geometry((1, side, side))


class DilatedPlane(nn.Module):
    """Dilated residual blocks at full resolution, on each slice by itself.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes and context.
        streams: it can be shown a window slab by slab.
    """

    streams = True

    def __init__(self, config: DilatedConfig) -> None:
        super().__init__()
        self.config = config
        width, kind = config.filters, config.normalization
        self.blocks = nn.ModuleList(
            Around(width if i else 1, width, config.convs_per_block, kind, 2**i) for i in range(config.blocks)
        )
        self.head = PlanarConvolution(width, config.n_classes, 1)
        self.to_core = Cut(None, 0)
        field = Seen()
        for made in self.blocks:
            field = made.field(field)  # type: ignore[operator]
        self.geometry = field.geometry((1, 1, 1))
        initialize(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every class.

        Args:
            x: float (N, 1, Z, Y, X), normalised grey values, of any size.

        Returns:
            `semantic`: float (N, n_classes, Z, Y, X).
        """
        check(self.geometry, x)
        x = channels_last(x)
        for made in self.blocks:
            x = made(x)
        return {"semantic": self.to_core(self.head(x))}
