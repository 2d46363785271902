"""Hybrid2D3D: a 2D encoder-decoder with a few 3x3x3 convolutions, then a small 3D spatial pyramid.

    image -> stem -> [volumetric, 1x3x3 ...] ------> concat [...] -> features -+-> 2D head (auxiliary)
                          | pool 1x2x2                 ^ up 1x2x2              |      | softmax
                     [volumetric, 1x3x3 ...] ---> concat [...]                 +-- concat
                          | pool                  ^ up                                |
                          +-------> bottom -------+       sum over scales of: pool, 3x3x3 ..., up
                                                                                      |
                                                                               3D head (semantic)

The reference network and its ablations are configs of one class. Two known parameter counts differ in more
than the pyramid: 11,399,438 has the stem, up-samplings without bias, as wide as the block they feed, and a
pyramid of (3, 7); 10,267,022 has no stem, up-samplings with bias, as wide as the first convolution they feed,
and (3, 5).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from densem.networks.geometry import Geometry, Kernel, Reach
from densem.networks.layers import (
    Convolution,
    Cut,
    Join,
    Normalization,
    PlanarConvolution,
    Sum,
    UpSampling,
    block,
    channels_last,
    check,
    concatenate,
    in_turn,
    initialize,
    pool,
    probabilities,
)


class HybridConfig(BaseModel):
    """What a `Hybrid2D3D` is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(ge=2, description="classes, one output channel each")
    filters: int = Field(default=32, ge=1, description="base width; a block at scale s has 2^(s+1) as many")
    depth: int = Field(default=3, ge=1, le=6, description="number of 1x2x2 pools")
    convs_per_block: int = Field(default=2, ge=1, description="1x3x3 convolutions of a block")
    volumetric_scales: tuple[int, ...] = Field(
        default=(0, 1), description="scales whose blocks begin with a further convolution of half their width"
    )
    volumetric_kernel: Literal["3x3x3", "1x3x3"] = Field(
        default="3x3x3", description="kernel of the stem and of these convolutions"
    )
    stem: bool = Field(default=True, description="one more such convolution before the first block")
    up_width: Literal["block", "first"] = Field(
        default="block",
        description="channels out of an up-sampling: of the block it feeds, or of its first convolution",
    )
    up_bias: bool = Field(default=False, description="whether up-samplings have a bias")
    pyramid: tuple[int, ...] = Field(
        default=(3, 7), description="3x3x3 convolutions at each scale of the 3D pyramid; empty: no pyramid"
    )
    auxiliary: bool = Field(
        default=True, description="whether the 2D head is an output, for a loss of its own"
    )
    feed: Literal["probabilities", "none"] = Field(
        default="probabilities", description="what of the 2D head enters the pyramid beside the features"
    )
    normalization: Normalization = Field(default="none", description="before each ReLU")

    @model_validator(mode="after")
    def _scales_exist(self) -> Self:
        wrong = [s for s in self.volumetric_scales if not 0 <= s < self.depth]
        if wrong:
            raise ValueError(
                f"volumetric_scales: expected scales from 0 to {self.depth - 1} (depth is {self.depth}), "
                f"found {wrong}; leave them out or raise depth"
            )
        return self

    @model_validator(mode="after")
    def _heads_agree(self) -> Self:
        if not self.pyramid and (self.auxiliary or self.feed != "none"):
            raise ValueError(
                "without a pyramid the 2D head is the only one: expected auxiliary = false and "
                f'feed = "none", found auxiliary = {self.auxiliary} and feed = {self.feed!r}'
            )
        if any(n < 1 for n in self.pyramid):
            raise ValueError(
                f"pyramid: expected at least 1 convolution at each scale, found {self.pyramid}; "
                "shorten the list to leave scales out"
            )
        return self

    def width(self, scale: int) -> int:
        """Channels of the blocks at a scale."""
        return self.filters * 2 ** (scale + 1)

    def first_width(self, scale: int) -> int:
        """Channels of the first convolution of the blocks at a scale."""
        return self.width(scale) // 2 if scale in self.volumetric_scales else self.width(scale)

    def kernels(self, scale: int) -> list[Kernel]:
        """Kernels of the blocks at a scale, in order."""
        first: list[Kernel] = [self.volumetric_kernel] if scale in self.volumetric_scales else []
        return first + ["1x3x3"] * self.convs_per_block

    def up_filters(self, scale: int) -> int:
        """Channels out of the up-sampling that feeds the decoder block at a scale."""
        return self.width(scale) if self.up_width == "block" else self.first_width(scale)

    def geometry(self) -> Geometry:
        """Accepted sizes and context, from the config alone."""
        encoded = [Reach().convolve(self.volumetric_kernel) if self.stem else Reach()]
        for scale in range(self.depth + 1):
            come = encoded[-1].pool() if scale else encoded.pop()
            encoded.append(self._through(come, scale))
        reach = encoded.pop()
        for scale in reversed(range(self.depth)):
            reach = self._through(reach.up().join(encoded[scale]), scale)
        return self._pyramid_of(reach).geometry(self.multiple)

    @property
    def multiple(self) -> int:
        """Of the accepted sizes in y and x."""
        return int(2 ** max(self.depth, len(self.pyramid) - 1))

    def margin(self, scale: int) -> int:
        """Voxels around a core at which the decoder block of a scale, and what follows it, still look.

        Args:
            scale: of the block; -1: of the pyramid alone.
        """
        reach = Reach()
        for s in reversed(range(scale + 1)):
            reach = self._through(reach if s == scale else reach.up(), s)
        return self._pyramid_of(reach).margin(self.multiple, max(0, scale))

    def ahead(self, scale: int) -> int:
        """3x3x3 convolutions on the way from the encoder block of a scale down and back up to it."""
        deeper = [self.kernels(s).count("3x3x3") for s in range(scale + 1, self.depth + 1)]
        return 2 * sum(deeper) - deeper[-1]

    def _pyramid_of(self, features: Reach) -> Reach:
        reach = features
        for scale, times in enumerate(self.pyramid):
            branch = features.pool(scale).convolve("3x3x3", times).up(scale)
            reach = branch if scale == 0 else reach.join(branch)
        return reach

    def _through(self, reach: Reach, scale: int) -> Reach:
        for kernel in self.kernels(scale):
            reach = reach.convolve(kernel)
        return reach


class Hybrid2D3D(nn.Module):
    """The 2D-3D network of a `HybridConfig`.

    Attributes:
        config: what it was made of.
        geometry: accepted sizes and context.
        streams: it can be shown a window slab by slab.
    """

    streams = True

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry()
        width = config.width(0)
        self.body = EncoderDecoder(config)
        self.head_2d = PlanarConvolution(width, config.n_classes, 1) if _has_2d_head(config) else None
        self.branches = nn.ModuleList(
            PyramidBranch(config, scale, times) for scale, times in enumerate(config.pyramid)
        )
        self.sum = Sum(config.pyramid)
        self.head_3d = PlanarConvolution(width, config.n_classes, 1) if config.pyramid else None
        self.to_pyramid = Cut(config.margin(0), config.margin(-1))
        self.to_core = Cut(config.margin(-1), 0)
        initialize(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every class.

        Args:
            x: float (N, 1, Z, Y, X), normalised grey values; sizes as `geometry` accepts them.

        Returns:
            `semantic` and, if so configured, `auxiliary`: float (N, n_classes, Z, Y, X).
        """
        check(self.geometry, x)
        features = self.to_pyramid(self.body(channels_last(x)))
        outputs: dict[str, Tensor] = {}
        fed = features
        if self.head_2d is not None:
            flat = self.head_2d(features)
            outputs["semantic" if self.head_3d is None else "auxiliary"] = flat
            if self.config.feed == "probabilities":
                fed = concatenate(features, probabilities(flat).to(features.dtype))
        del features
        if self.head_3d is not None:
            outputs["semantic"] = self.head_3d(self._pyramid(fed))
            if not self.config.auxiliary:
                outputs.pop("auxiliary", None)
        outputs["semantic"] = self.to_core(outputs["semantic"])
        return outputs

    def _pyramid(self, x: Tensor) -> Tensor:
        """The sum of the branches."""
        total: Tensor = self.sum(*(branch(x) for branch in self.branches))
        return total


class EncoderDecoder(nn.Module):
    """The 2D part: a U-Net whose blocks at some scales begin with a 3x3x3 convolution."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        stem: list[Kernel] = [config.volumetric_kernel] if config.stem else []
        self.stem = block([1, config.filters], stem, config.normalization)
        come = [config.filters if config.stem else 1, *(config.width(s) for s in range(config.depth))]
        self.down = nn.ModuleList(_block(config, scale, c) for scale, c in enumerate(come))
        scales = range(config.depth)
        self.up = nn.ModuleList(
            UpSampling(config.width(s + 1), config.up_filters(s), bias=config.up_bias) for s in scales
        )
        self.joins = nn.ModuleList(
            Join(s, config.margin(s + 1) if s + 1 < config.depth else None, config.margin(s), config.ahead(s))
            for s in scales
        )
        self.merge = nn.ModuleList(_block(config, s, config.width(s) + config.up_filters(s)) for s in scales)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, Z, Y, X) to features (N, 2 filters, Z, Y, X)."""
        x = self.down[0](self.stem(x))
        skips: list[Tensor] = []
        for down in self.down[1:]:
            skips.append(x)
            x = down(pool(x))
        for scale in reversed(range(len(self.up))):
            x = in_turn(self.merge[scale], self.joins[scale](skips.pop(), self.up[scale](x)))
        return x


class PyramidBranch(nn.Module):
    """One scale of the 3D pyramid: pool, 3x3x3 convolutions, and back to full size."""

    def __init__(self, config: HybridConfig, scale: int, times: int) -> None:
        super().__init__()
        self.scale = scale
        width = config.width(0)
        fed = width + (config.n_classes if config.feed == "probabilities" else 0)
        wide = width * 2**scale
        self.convolutions = block([fed, *[wide] * times], ["3x3x3"] * times, config.normalization)
        narrow = [Convolution(wide, width, "1x1x1", config.normalization)] if scale else []
        ups = [UpSampling(width, width, bias=config.up_bias) for _ in range(scale)]
        self.back = nn.Sequential(*narrow, *ups)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, Z, Y, X) to (N, 2 filters, Z, Y, X)."""
        for _ in range(self.scale):
            x = pool(x)
        out: Tensor = self.back(self.convolutions(x))
        return out


def _has_2d_head(config: HybridConfig) -> bool:
    """Whether anything uses it."""
    return config.auxiliary or config.feed == "probabilities" or not config.pyramid


def _block(config: HybridConfig, scale: int, c_in: int) -> nn.Sequential:
    """The block of a scale for `c_in` incoming channels."""
    kernels = config.kernels(scale)
    widths = [c_in, config.first_width(scale), *[config.width(scale)] * (len(kernels) - 1)]
    return block(widths, kernels, config.normalization)
