"""U-Nets: the anisotropic 3D baseline, and the 2D original slice by slice.

Both are the plain encoder-decoder: at each scale a block of convolutions, between scales a 1x2x2 pool on the
way down and an up-sampling with concatenation on the way up, and a 1x1x1 head. Width doubles with the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from densem.errors import ShapeError
from densem.networks.field import Field as SeenField
from densem.networks.field import Sight
from densem.networks.geometry import Geometry, Kernel, Reach
from densem.networks.layers import (
    Cut,
    Join,
    Normalization,
    PlanarConvolution,
    UpSampling,
    block,
    channels_last,
    check,
    in_turn,
    initialize,
    pool,
)
from densem.networks.streaming import unseen

Padding = Literal["same", "valid"]


class AnisotropicUNetConfig(BaseModel):
    """What an `AnisotropicUNet` is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(default=16, ge=1, description="base width; scale s has 2^s times as many")
    kernels: tuple[Literal["1x3x3", "3x3x3"], ...] = Field(
        default=("3x3x3", "3x3x3", "3x3x3", "3x3x3"),
        min_length=2,
        max_length=7,
        description="kernel of the convolutions at each scale, finest first; a pool between scales",
    )
    convs_per_block: int = Field(default=2, ge=1, description="convolutions of a block")
    slope: float = Field(default=0.0, ge=0, lt=1, description="of the ReLU for values below zero")
    normalization: Normalization = Field(default="batch", description="before each ReLU")
    normalize_once: bool = Field(
        default=False, description="normalise after the last convolution of a block alone"
    )


class UNet2DConfig(BaseModel):
    """What a `UNet2D` is made of; the original has 64 filters, depth 4 and no normalisation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(default=64, ge=1, description="base width; scale s has 2^s times as many")
    depth: int = Field(default=4, ge=1, le=6, description="number of 1x2x2 pools")
    normalization: Normalization = Field(default="none", description="before each ReLU")


class AnisotropicUNet(nn.Module):
    """A 3D U-Net that pools in y and x alone, for voxels that are deeper than wide.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes and context.
        streams: it can be shown a window slab by slab.
    """

    streams = True

    def __init__(self, config: AnisotropicUNetConfig) -> None:
        super().__init__()
        self.config = config
        kernels = [[k] * config.convs_per_block for k in config.kernels]
        self.geometry = _geometry(kernels)
        self.body = _PlainUNet(
            config.filters, kernels, config.normalization, slope=config.slope, once=config.normalize_once
        )
        self.head = PlanarConvolution(config.filters, config.n_classes, 1)
        self.to_core = Cut(_margin(kernels, 0), 0)
        initialize(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every class.

        Args:
            x: float (N, 1, Z, Y, X), normalised grey values; sizes as `geometry` accepts them.

        Returns:
            `semantic`: float (N, n_classes, Z, Y, X).
        """
        check(self.geometry, x)
        return {"semantic": self.to_core(self.head(self.body(channels_last(x))))}


class UNet2D(nn.Module):
    """The U-Net of Ronneberger et al. (2015), on each slice by itself.

    Attributes:
        config: what it was made of.
        padding: "same", or "valid" as in the paper, whose output is smaller than its input.
        geometry: accepted sizes and context of the "same" form.
        streams: it can be shown a window slab by slab.
    """

    def __init__(self, config: UNet2DConfig, padding: Padding = "same") -> None:
        super().__init__()
        self.config = config
        self.padding = padding
        self.streams = padding == "same"
        kernels: list[list[Kernel]] = [["1x3x3", "1x3x3"] for _ in range(config.depth + 1)]
        self.geometry = _geometry(kernels)
        self.body = _PlainUNet(config.filters, kernels, config.normalization)
        self.head = PlanarConvolution(config.filters, config.n_classes, 1)
        self.to_core = Cut(_margin(kernels, 0), 0)
        initialize(self)
        if padding == "valid":
            self.body.valid = True
            for m in self.body.modules():
                if isinstance(m, PlanarConvolution):
                    m.padding = (0, 0)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every class.

        Args:
            x: float (N, 1, Z, Y, X), normalised grey values.

        Returns:
            `semantic`: float (N, n_classes, Z, Y, X), in y and x as `output_shape` says.
        """
        if self.streams:
            check(self.geometry, x)
        else:
            self.output_shape(x.shape[2:])
        return {"semantic": self.to_core(self.head(self.body(channels_last(x))))}

    def output_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """(z, y, x) of the output for that of the input.

        Raises:
            ShapeError: if the input does not go through.
        """
        if self.padding == "same":
            self.geometry.check(shape)
        z, y, x = shape
        return (z, y, x) if self.padding == "same" else (z, self._valid_side(y), self._valid_side(x))

    def _valid_side(self, side: int) -> int:
        """The unpadded output for one in-plane side: 4 less at each block, halved down, doubled up."""
        n = side - 4
        for _ in range(self.config.depth):
            if n % 2 or n < 2:
                raise ShapeError(
                    f"unpadded U-Net: expected a side in y and x that is even before each of its "
                    f"{self.config.depth} pools, found {side}; 572 fits four pools"
                )
            n = n // 2 - 4
        for _ in range(self.config.depth):
            n = 2 * n - 4
        if n < 1:
            raise ShapeError(f"unpadded U-Net: a side of {side} leaves no output; give larger patches")
        return n


class UNet2DValid(nn.Module):
    """The U-Net of Ronneberger et al. (2015) as published: its convolutions do not pad.

    In training a patch gives labels for its middle alone: of 576 voxels a side, 572 are seen, 388 labelled.
    In prediction the input is mirrored around itself, as the paper does at the borders of an image, and the
    output is as large as the input; with its context read, none of that reaches the core of a tile.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes and context.
        streams: it can be shown a window slab by slab.
        traceable: what is mirrored depends on the size, which a graph taken down of it would not know.
    """

    streams = True
    traceable = False

    def __init__(self, config: UNet2DConfig) -> None:
        super().__init__()
        self.config = config
        self.inner = UNet2D(config, "valid")
        self.side = 2**config.depth
        self.lost, self.phase = self._losses()
        self.geometry = self._geometry()
        self.to_core = Cut(None, 0)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every class.

        Args:
            x: float (N, 1, Z, Y, X), normalised grey values; sizes as `geometry` accepts them.

        Returns:
            `semantic`: float (N, n_classes, Z, Y, X); while training for the middle in y and x alone.
        """
        check(self.geometry, x)
        if self.training:
            spare = (-self.phase) % self.side  # sides that go through leave `phase` over their multiple
            y0, x0 = spare // 2, spare // 2
            y1, x1 = (n - (spare - spare // 2) for n in x.shape[3:])
            outputs: dict[str, Tensor] = self.inner(x[..., y0:y1, x0:x1])
            return outputs
        height, width = x.shape[3:]
        with unseen():  # slices are independent: a slab is a whole window to the layers inside
            logits = self.inner(self._mirrored(x))["semantic"][..., :height, :width]
        return {"semantic": self.to_core(logits)}

    def _mirrored(self, x: Tensor) -> Tensor:
        """With as many mirrored voxels around as are lost, and up to the next size that goes through."""
        before = self.lost // 2
        for axis in (3, 4):
            n = x.shape[axis]
            whole = n + self.lost
            whole += (self.phase - whole) % self.side
            places = torch.arange(-before, whole - before, device=x.device)
            period = max(1, 2 * (n - 1))
            folded = places % period
            x = x.index_select(axis, torch.minimum(folded, period - folded).clamp(max=n - 1))
        return channels_last(x)

    def _losses(self) -> tuple[int, int]:
        """Voxels of a side that the output lacks, and what sides that go through leave over the multiple."""
        side = 32 * self.side
        while True:
            try:
                return side - self.inner.output_shape((1, side, side))[1], side % self.side
            except ShapeError:
                side += 1

    def _geometry(self) -> Geometry:
        """Follows the unpadded layers; skip connections are cut in the middle."""
        side = 32 * self.side + self.phase
        sight = Sight().shift(-(self.lost // 2)).convolve(5, before=0)
        size, found = side - 4, []
        for _ in range(self.config.depth):
            found.append((sight, size))
            size = size // 2 - 4
            sight = sight.convolve(2, 2, before=0).convolve(5, before=0)
        for skip, large in reversed(found):
            size *= 2
            sight = sight.up(2).join(skip.shift((large - size) // 2)).convolve(5, before=0)
            size -= 4
        return SeenField((Sight(), sight, sight)).geometry((1, self.side, self.side))


class _PlainUNet(nn.Module):
    """The encoder-decoder both share; unpadded convolutions crop the skip connections."""

    def __init__(
        self,
        filters: int,
        kernels: Sequence[Sequence[Kernel]],
        normalization: Normalization,
        *,
        slope: float = 0.0,
        once: bool = False,
    ) -> None:
        super().__init__()
        widths = [filters * 2**s for s in range(len(kernels))]

        def made(c_in: int, scale: int) -> nn.Sequential:
            row = list(kernels[scale])
            widest = [c_in, *[widths[scale]] * len(row)]
            return block(widest, row, normalization, slope=slope, once=once)

        self.down = nn.ModuleList(made(c, s) for s, c in enumerate([1, *widths[:-1]]))
        self.up = nn.ModuleList(UpSampling(2 * w, w, bias=True) for w in widths[:-1])
        self.merge = nn.ModuleList(made(2 * w, s) for s, w in enumerate(widths[:-1]))
        self.valid = False
        depth = len(kernels) - 1
        margins = [_margin(kernels, s) for s in range(depth)]
        self.joins = nn.ModuleList(
            Join(s, margins[s + 1] if s + 1 < depth else None, margins[s], _ahead(kernels, s))
            for s in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, Z, Y, X) to features (N, filters, Z, Y, X)."""
        x = self.down[0](x)
        skips: list[Tensor] = []
        for down in self.down[1:]:
            skips.append(x)
            x = down(pool(x))
        for scale in reversed(range(len(self.up))):
            x = self.up[scale](x)
            x = in_turn(self.merge[scale], self.joins[scale](self._skip(skips.pop(), x), x))
        return x

    def _skip(self, skip: Tensor, x: Tensor) -> Tensor:
        """What of a skip connection unpadded convolutions leave: its middle."""
        return _crop(skip, x) if self.valid else skip


def _crop(skip: Tensor, like: Tensor) -> Tensor:
    """The middle of a skip connection, as large in y and x as what it is joined with."""
    y, x = ((s - n) // 2 for s, n in zip(skip.shape[3:], like.shape[3:], strict=True))
    return skip[..., y : y + like.shape[3], x : x + like.shape[4]]


def _geometry(kernels: Sequence[Sequence[Kernel]]) -> Geometry:
    """Accepted sizes and context of a plain U-Net with zero-padded convolutions."""
    encoded = [_through(Reach(), kernels[0])]
    for row in kernels[1:]:
        encoded.append(_through(encoded[-1].pool(), row))
    reach = encoded.pop()
    for scale in reversed(range(len(encoded))):
        reach = _through(reach.up().join(encoded[scale]), kernels[scale])
    return reach.geometry(2 ** len(encoded))


def _margin(kernels: Sequence[Sequence[Kernel]], scale: int) -> int:
    """Voxels around a core at which the decoder block of a scale, and what follows it, still look."""
    reach = _through(Reach(), kernels[scale])
    for s in reversed(range(scale)):
        reach = _through(reach.up(), kernels[s])
    return reach.margin(2 ** (len(kernels) - 1), scale)


def _ahead(kernels: Sequence[Sequence[Kernel]], scale: int) -> int:
    """3x3x3 convolutions on the way from the encoder block of a scale down and back up to it."""
    deeper = [list(row).count("3x3x3") for row in kernels[scale + 1 :]]
    return 2 * sum(deeper) - deeper[-1]


def _through(reach: Reach, row: Sequence[Kernel]) -> Reach:
    for kernel in row:
        reach = reach.convolve(kernel)
    return reach
