"""ResEncUNet: a U-Net whose encoder is residual, as deep and anisotropic as its plan (Isensee et al., 2024).

    encoder stage:  [block, stride s] [block] ...    block: conv, norm, ReLU, conv, norm, + around, ReLU
    decoder stage:  up s, concat with the encoder's, conv, norm, ReLU

ReLUs are leaky. What goes around a block that strides is a mean over boxes, then a 1x1x1 convolution where
channels change.
Published with instance normalisation, whose statistics are the window's: with it the context is unbounded.
With batch normalisation, the default here, it is bounded.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from densem.blocks import Triple, triple
from densem.networks.field import ONES
from densem.networks.field import Field as Seen
from densem.networks.geometry import Geometry
from densem.networks.layers import channels_last, concatenate, initialize
from densem.networks.resampling import (
    StridedConvolution,
    TransposedConvolution,
    Unit,
    mean_pool,
    rectify,
)
from densem.networks.resenc_plan import ResEncPlan

Side = Literal[1, 2]
SLOPE = 0.01
WIDEST = 10
"""Times the base width: no stage is wider (320 channels of 32)."""


class ResEncConfig(BaseModel):
    """What a `ResEncUNet` is made of; by default the plan for 40 x 10 x 10 nm and patches 16 x 160 x 160."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(
        default=32, ge=1, description="base width; stage s has 2^s times as many, at most 10 times"
    )
    strides: tuple[tuple[Side, Side, Side], ...] = Field(
        default=((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
        min_length=2,
        description='of each stage, (z, y, x); in a recipe "auto": planned from voxel size and patch',
    )
    kernels: tuple[tuple[Literal[1, 3], Literal[1, 3], Literal[1, 3]], ...] = Field(
        default=((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        description="of each stage, (z, y, x)",
    )
    blocks: tuple[int, ...] = Field(default=(1, 3, 4, 6, 6, 6), description="residual blocks of each stage")
    decoder_convs: int = Field(default=1, ge=1, description="convolutions of a decoder stage")
    normalization: Literal["none", "batch", "instance"] = Field(
        default="batch", description="before each leaky ReLU; instance: over the window, as published"
    )

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        counts = {len(self.strides), len(self.kernels), len(self.blocks)}
        if len(counts) > 1 or min(self.blocks) < 1 or self.strides[0] != ONES:
            raise ValueError(
                "expected strides, kernels and blocks (each at least 1) of as many stages, the first stride "
                f"(1, 1, 1), found {self.strides}, {self.kernels} and {self.blocks}; "
                'strides = "auto" in a recipe plans all three'
            )
        return self

    @property
    def widths(self) -> list[int]:
        """Channels of each stage."""
        return [self.filters * min(2**s, WIDEST) for s in range(len(self.strides))]


def plan_resenc(voxel_size_nm: tuple[float, float, float], patch: Triple) -> dict[str, Any]:
    """Entries of a `ResEncConfig` for voxels of this size (nm) and patches of this shape, both (z, y, x)."""
    plan = ResEncPlan.of(voxel_size_nm, patch)
    return {
        "strides": [list(s) for s in plan.strides],
        "kernels": [list(k) for k in plan.kernels],
        "blocks": list(plan.blocks),
    }


class ResEncUNet(nn.Module):
    """A residual-encoder U-Net.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes and context.
    """

    def __init__(self, config: ResEncConfig) -> None:
        super().__init__()
        self.config = config
        widths, kinds = config.widths, config.normalization
        self.stem = Unit(1, widths[0], config.kernels[0], kinds, slope=SLOPE)
        self.encoder = nn.ModuleList(_stage(config, s) for s in range(len(widths)))
        pairs = range(len(widths) - 1)
        self.up = nn.ModuleList(
            TransposedConvolution(widths[s + 1], widths[s], config.strides[s + 1]) for s in pairs
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(
                *(
                    Unit(widths[s] * (1 if i else 2), widths[s], config.kernels[s], kinds, slope=SLOPE)
                    for i in range(config.decoder_convs)
                )
            )
            for s in pairs
        )
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
        x = self.stem(channels_last(x))
        skips: list[Tensor] = []
        for number, stage in enumerate(self.encoder):
            if number:
                skips.append(x)
            x = stage(x)
        for scale in reversed(range(len(self.up))):
            x = self.decoder[scale](concatenate(self.up[scale](x), skips.pop()))
        return {"semantic": self.head(x)}

    def _geometry(self) -> Geometry:
        strides, kernels = self.config.strides, self.config.kernels
        multiple = triple(math.prod(s[i] for s in strides) for i in range(3))
        if self.config.normalization == "instance":
            return Geometry(multiple, None)
        field, found = Seen().convolve(kernels[0]), []
        for stage in self.encoder:
            for block in stage:  # type: ignore[attr-defined]
                field = block.field(field)
            found.append(field)
        for scale in reversed(range(len(self.up))):
            field = field.up(strides[scale + 1]).join(found[scale])
            for _ in range(self.config.decoder_convs):
                field = field.convolve(kernels[scale])
        return field.geometry(multiple)


class ResEncBlock(nn.Module):
    """Two convolutions and a connection around them."""

    def __init__(self, c_in: int, c_out: int, kernel: Triple, stride: Triple, normalization: str) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.first = Unit(c_in, c_out, kernel, normalization, stride=stride, slope=SLOPE)
        self.second = Unit(c_out, c_out, kernel, normalization, slope=None)
        changes = c_in != c_out
        self.around = Unit(c_in, c_out, ONES, normalization, slope=None) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, f, Z / s, Y / s, X / s)."""
        around = mean_pool(x, self.stride)
        if self.around is not None:
            around = self.around(around)
        return rectify(self.second(self.first(x)) + around, SLOPE)

    def field(self, field: Seen) -> Seen:
        """After the block; a mean over two voxels sees one that the convolution's middle and edge see too."""
        means = [k == 1 and s > 1 for k, s in zip(self.kernel, self.stride, strict=True)]
        wide = triple(2 if m else k for m, k in zip(means, self.kernel, strict=True))
        z, y, x = (
            s.convolve(k, t, before=0 if m else None)
            for s, k, t, m in zip(field.axes, wide, self.stride, means, strict=True)
        )
        return Seen((z, y, x)).convolve(self.kernel)


def _stage(config: ResEncConfig, s: int) -> nn.Sequential:
    widths = config.widths
    come = widths[s - 1] if s else widths[0]
    return nn.Sequential(
        *(
            ResEncBlock(
                widths[s] if b else come,
                widths[s],
                config.kernels[s],
                ONES if b else config.strides[s],
                config.normalization,
            )
            for b in range(config.blocks[s])
        )
    )
