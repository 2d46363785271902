"""MedicalNet: a 3D ResNet whose last stages are dilated, and a small head (Chen, Ma and Zheng, 2019).

    image -> ResNet, stride 8 -> up 2 -> 3x3x3 -> 1x1x1 -> interpolated by 4

The published network stops at a quarter of the resolution; here its logits are interpolated to the full one.
Names and shapes of its ResNet are those of the published weights but for a renaming: see `published.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from densem.networks.geometry import Geometry
from densem.networks.layers import BatchNormalization, Normalization, channels_last, initialize
from densem.networks.resampling import StridedConvolution, TransposedConvolution, Unit, interpolate
from densem.networks.residual import Around, ResidualStages, Stage

TWO, THREE, FOUR = (2, 2, 2), (3, 3, 3), (4, 4, 4)
MULTIPLE = (8, 8, 8)


class MedicalNetConfig(BaseModel):
    """What a `MedicalNet` is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(default=64, ge=1, description="base width of the ResNet; the head has half as many")
    depth: Literal[10, 18, 34, 50] = Field(default=10, description="of the ResNet")
    normalization: Normalization = Field(default="batch", description="before each ReLU")


class MedicalNet(nn.Module):
    """A 3D ResNet for segmentation, with an output of full resolution.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes and context.
        backbone: its ResNet, for published weights.
    """

    def __init__(self, config: MedicalNetConfig) -> None:
        super().__init__()
        self.config = config
        kind = config.normalization
        stages = (Stage(), Stage(2), Stage(1, (2,)), Stage(1, (4,)))
        around: Around = (
            "zeros" if config.depth in (18, 34) else "projection"
        )  # as their weights were published
        self.backbone = ResidualStages(
            config.depth, config.filters, stages, planar=False, normalization=kind, around=around
        )
        width = max(1, config.filters // 2)
        self.up = TransposedConvolution(self.backbone.widths[-1], width, TWO)
        self.normalization = BatchNormalization(width) if kind == "batch" else None
        self.unit = Unit(width, width, THREE, kind)
        self.head = StridedConvolution(width, config.n_classes, (1, 1, 1), bias=False)
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
        x = self.up(self.backbone(channels_last(x))[-1])
        if self.normalization is not None:
            x = self.normalization(x)
        return {"semantic": interpolate(self.head(self.unit(F.relu(x))), FOUR)}

    def _geometry(self) -> Geometry:
        return self.backbone.fields()[-1].up(TWO).convolve(THREE).interpolate(FOUR).geometry(MULTIPLE)
