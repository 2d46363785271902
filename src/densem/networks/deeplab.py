"""DeepLabV3+: atrous convolutions over a 2D ResNet, slice by slice, and a small decoder (Chen et al., 2018).

    image -> ResNet, stride 16 -> 5 branches -> concat -> 1x1 -+-> up 4 -> concat -> 3x3, 3x3 -> head -> up 4
                 | stride 4                                         ^
                 +-------------> 1x1 (48) --------------------------+
    branches: 1x1; 3x3 of dilation 6, 12 and 18; the mean over the whole window

The mean makes the context unbounded. Published are 3 input channels (a grey image three times over) and
interpolation that aligns the centres of the outermost voxels; here there is one channel unless `channels` is
3, and voxels keep their outer edges, so that what a voxel is given does not depend on the size of the window.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from densem.networks.field import Field as Seen
from densem.networks.geometry import Geometry
from densem.networks.layers import Normalization, channels_last, concatenate, initialize
from densem.networks.resampling import StridedConvolution, Unit, interpolate
from densem.networks.residual import ResidualStages, Stage

RATES = (6, 12, 18)
ONE, THREE, UP = (1, 1, 1), (1, 3, 3), (1, 4, 4)
LAST = (2, 4, 8)
"""Dilations of the last stage: 2, times the grid 1, 2, 4."""


class DeepLabConfig(BaseModel):
    """What a `DeepLab` is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(default=64, ge=1, description="base width of the ResNet; all others scale with it")
    depth: Literal[18, 34, 50, 101] = Field(default=101, description="of the ResNet")
    channels: Literal[1, 3] = Field(
        default=1, description="input channels; 3: the image three times over, for weights of colour images"
    )
    global_pooling: bool = Field(
        default=True,
        description="whether one branch is the mean over the window; without it the context is bounded",
    )
    dropout: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="share of features left out in training; a fifth of it at the end",
    )
    normalization: Normalization = Field(default="batch", description="before each ReLU")


class DeepLab(nn.Module):
    """DeepLabV3+ of every slice, with an output of full resolution.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes; the context is unbounded with the mean over the window.
        backbone: its ResNet, for published weights.
    """

    def __init__(self, config: DeepLabConfig) -> None:
        super().__init__()
        self.config = config
        made, normalization = config.filters, config.normalization
        stages = (Stage(), Stage(2), Stage(2), Stage(1, LAST))
        self.backbone = ResidualStages(
            config.depth, made, stages, planar=True, normalization=normalization, channels=config.channels
        )
        width, narrow = 4 * made, max(1, 3 * made // 4)
        self.branches = Branches(self.backbone.widths[-1], width, config)
        self.low = Unit(self.backbone.widths[0], narrow, ONE, normalization)
        self.decoder = nn.Sequential(
            Unit(width + narrow, width, THREE, normalization),
            nn.Dropout(config.dropout),
            Unit(width, width, THREE, normalization),
            nn.Dropout(config.dropout / 5),
        )
        self.head = StridedConvolution(width, config.n_classes, ONE)
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
        low, _, _, high = self.backbone(channels_last(x.expand(-1, self.config.channels, -1, -1, -1)))
        high = interpolate(self.branches(high), UP)
        low = self.low(low)
        features = self.decoder(concatenate(high.to(low.dtype), low))
        return {"semantic": interpolate(self.head(features), UP)}

    def _geometry(self) -> Geometry:
        multiple = (1, 16, 16)
        if self.config.global_pooling:
            return Geometry(multiple, None)
        low, _, _, high = self.backbone.fields()
        wide = high.convolve(THREE, dilation=(1, RATES[-1], RATES[-1])).interpolate(UP)
        seen: Seen = wide.join(low).convolve(THREE).convolve(THREE).interpolate(UP)
        return seen.geometry(multiple)


class Branches(nn.Module):
    """Atrous spatial pyramid pooling: the same features at several dilations, and their mean."""

    def __init__(self, c_in: int, width: int, config: DeepLabConfig) -> None:
        super().__init__()
        kind = config.normalization
        self.parallel = nn.ModuleList(
            [
                Unit(c_in, width, ONE, kind),
                *(Unit(c_in, width, THREE, kind, dilation=(1, rate, rate)) for rate in RATES),
            ]
        )
        self.mean = Unit(c_in, width, ONE, kind) if config.global_pooling else None
        count = len(self.parallel) + config.global_pooling
        self.project = Unit(count * width, width, ONE, kind)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z, Y, X)."""
        found = [branch(x) for branch in self.parallel]
        if self.mean is not None:
            pooled = self.mean(channels_last(torch.mean(x, dim=(3, 4), keepdim=True)))
            found.append(pooled.expand(-1, -1, -1, *x.shape[3:]))
        out: Tensor = self.dropout(self.project(concatenate(*found)))
        return out
