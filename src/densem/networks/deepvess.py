"""DeepVess: a patch classifier for blood vessels (Haft-Javaherian et al., 2019) as a dense network.

    3 x 3x3x3 (32) -> pool 1x2x2 -> 2 x 1x3x3 (64) -> pool 1x2x2 -> 1x4x4 (1024) -> 1x1x1 -> 4x4 voxels

The published network labels the 5 x 5 voxels in the middle of a patch of 7 x 33 x 33. Its two fully connected
layers are convolutions here: the first is as wide as what is left of the patch, 4 x 4 cells of 4 x 4 voxels,
the second answers for all voxels of one cell. A cell, unlike 5 x 5 voxels, lies on the grid of the pools, so
the network runs once over a window of any size and every voxel is labelled by one place. It computes what
the published network computes for patches placed every 4 voxels, of whose 5 x 5 labels 4 x 4 are kept.

    cells of 4 voxels    | a | b | c | d |      what the first of the two layers looks at
    labelled             |   |   | c |   |      the 5 published voxels are the last of b and those of c
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from densem.networks.field import Field as Seen
from densem.networks.field import Sight
from densem.networks.geometry import Geometry
from densem.networks.layers import (
    Cut,
    Normalization,
    block,
    channels_last,
    check,
    initialize,
    pool,
    slices,
    volumes,
)
from densem.networks.resampling import StridedConvolution, rectify

SIDE = 4
"""Voxels of a cell: two pools."""
PUBLISHED = 5
"""Labelled voxels in y and x of the published network."""
MULTIPLE = (1, SIDE, SIDE)


class DeepVessConfig(BaseModel):
    """What a `DeepVess` is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(
        default=32, ge=1, description="of the 3x3x3 convolutions; the others have 2 and 32 times as many"
    )
    normalization: Normalization = Field(default="none", description="of the 3x3x3 and 1x3x3 convolutions")


class DeepVess(nn.Module):
    """DeepVess over a window.

    Attributes:
        config: what it was made of.
        form: "dense", or "patch" as in the paper: a patch of 7 x 33 x 33 gives 1 x 5 x 5 labels.
        geometry: accepted sizes and context of the dense form.
        streams: it can be shown a window slab by slab.
    """

    def __init__(self, config: DeepVessConfig, form: Literal["dense", "patch"] = "dense") -> None:
        super().__init__()
        self.config = config
        self.form = form
        self.streams = form == "dense"
        n, kind = config.filters, config.normalization
        self.fine = block([1, n, n, n], ["3x3x3"] * 3, kind)
        self.coarse = block([n, 2 * n, 2 * n], ["1x3x3"] * 2, kind)
        self.first = Cells(2 * n, 32 * n)
        side = SIDE if form == "dense" else PUBLISHED
        self.second = StridedConvolution(32 * n, config.n_classes * side**2, (1, 1, 1))
        self.geometry = _geometry()
        self.to_core = Cut(None, 0)
        initialize(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every class.

        Args:
            x: float (N, 1, Z, Y, X), normalised grey values; sizes as `geometry` accepts them.

        Returns:
            `semantic`: float (N, n_classes, Z, Y, X); in the form of the paper (N, n_classes, 1, 5, 5).
        """
        if self.form == "patch":
            return {"semantic": self._patch(x)}
        check(self.geometry, x)
        x = pool(self.coarse(pool(self.fine(channels_last(x)))))
        before, after = SIDE // 2, SIDE // 2 - 1
        x = self._classify(F.pad(x, (before, after, before, after)))
        return {"semantic": self.to_core(_unfolded(x, self.second.out_channels // SIDE**2, SIDE))}

    def _patch(self, x: Tensor) -> Tensor:
        """What is left of a patch by convolutions without padding: those with it, cut down."""
        x = self.fine(channels_last(x))[:, :, 3:-3, 3:-3, 3:-3]
        x = self.coarse(pool(x))[..., 2:-2, 2:-2]
        return _unfolded(self._classify(pool(x)), self.config.n_classes, PUBLISHED)

    def _classify(self, x: Tensor) -> Tensor:
        """The fully connected layers: (N, c, Z, Y, X) to (N, n, Z, Y - 3, X - 3)."""
        out: Tensor = self.second(rectify(self.first(x), 0.0))
        return out


class Cells(nn.Conv2d):
    """A convolution over 1 x 4 x 4 cells, without padding."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, SIDE)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z, Y - 3, X - 3)."""
        return volumes(super().forward(slices(x)), x.shape[0])


def _unfolded(x: Tensor, channels: int, side: int) -> Tensor:
    """Channels (N, channels side side, Z, Y, X) spread over voxels: (N, channels, Z, side Y, side X)."""
    n, _, z, h, w = x.shape
    spread = x.view(n, channels, side, side, z, h, w).permute(0, 1, 4, 5, 2, 6, 3)
    return channels_last(spread.reshape(n, channels, z, h * side, w * side))


def _geometry() -> Geometry:
    plane = Sight().convolve(7).convolve(2, 2, before=0).convolve(5).convolve(2, 2, before=0)
    plane = plane.convolve(SIDE, before=SIDE // 2).up(SIDE)
    return Seen((Sight().convolve(7), plane, plane)).geometry(MULTIPLE)
