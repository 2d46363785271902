"""Fusion: class probabilities of several networks and mirrored inputs in one pass, and what comes of them.

The mean of the softmax of every member and flip, in float32, on the device. From it: class ids,
confidence round(255 p_max), entropy round(255 H / ln C).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from densem.errors import ConfigError, InputError
from densem.inference.runtime import Runtime
from densem.inference.tiles import Window
from densem.model import Ensemble, Model

_DIM = {"z": -3, "y": -2, "x": -1}


@dataclass(frozen=True)
class Fusion:
    """Networks and flips used as one.

    Attributes:
        networks: made ready for the runtime; all with the same classes.
        flips: sets of axes (of -3, -2, -1) along which the input is mirrored; the first is none.
        runtime: device and number format.
    """

    networks: tuple[nn.Module, ...]
    flips: tuple[tuple[int, ...], ...]
    runtime: Runtime

    @classmethod
    def of(cls, models: Ensemble | Model, runtime: Runtime, flips: str = "") -> Fusion:
        """Make models ready.

        Args:
            models: one model or several.
            runtime: where they are run.
            flips: axes to mirror, e.g. `yx`; every subset of them takes part.
        """
        members = models.members if isinstance(models, Ensemble) else (models,)
        return cls(tuple(runtime.prepare(m.network) for m in members), subsets(flips), runtime)

    def probabilities(self, image: np.ndarray, window: Window) -> Tensor:
        """Class probabilities of a tile's core.

        Args:
            image: float32 (Z, Y, X), normalised; the window's shape.
            window: says where the core lies.

        Returns:
            float32 (C, Z, Y, X) on the device; sums to 1 over C.

        Raises:
            InputError: if they are not finite; names the tile.
        """
        with torch.inference_mode(), _exact_arithmetic(self.runtime.device):
            x = torch.from_numpy(image)[None, None].to(self.runtime.device, self.runtime.dtype)
            total: Tensor | None = None
            for network, axes in itertools.product(self.networks, self.flips):
                p = self._member(network, x, axes, window)
                total = p if total is None else total.add_(p)
            assert total is not None
            mean = total.div_(len(self.networks) * len(self.flips))
            if not bool(torch.isfinite(mean.amax())):
                raise InputError(
                    f"the network gave values that are not numbers at {window.core}: look for NaN or extreme "
                    "grey values in the image there, or predict with --precision fp32"
                )
            return mean

    def _member(self, network: nn.Module, x: Tensor, axes: tuple[int, ...], window: Window) -> Tensor:
        logits = network(x.flip(axes) if axes else x)["semantic"][0]
        logits = logits.flip(axes) if axes else logits
        return torch.softmax(logits[:, *window.inside].float(), dim=0)


def _exact_arithmetic(device: str) -> contextlib.AbstractContextManager[None]:
    """On a graphics card: full fp32 products, and the same algorithm for the same shape."""
    if not device.startswith("cuda"):
        return contextlib.nullcontext()
    flags: contextlib.AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def subsets(flips: str) -> tuple[tuple[int, ...], ...]:
    """Every subset of the named axes, the empty one first.

    Raises:
        ConfigError: for letters that name no axis.
    """
    if set(flips) - set(_DIM) or len(set(flips)) != len(flips):
        raise ConfigError(f"--flips {flips}: expected axes out of z, y, x, each at most once, such as yx")
    dims = [_DIM[f] for f in "zyx" if f in flips]
    return tuple(c for n in range(len(dims) + 1) for c in itertools.combinations(dims, n))


def classes(probabilities: Tensor, ids: Sequence[int]) -> Tensor:
    """Id uint8 (Z, Y, X) of the most probable class; of equals the first.

    Goes through the classes one by one: several times faster than `argmax` over the first axis.
    """
    best = probabilities[0].clone()
    found = torch.full_like(best, ids[0], dtype=torch.uint8)
    for p, identity in zip(probabilities[1:], ids[1:], strict=True):
        found.masked_fill_(p > best, identity)
        torch.maximum(best, p, out=best)
    return found


def confidence(probabilities: Tensor) -> Tensor:
    """round(255 p_max), uint8 (Z, Y, X)."""
    best = probabilities[0].clone()
    for p in probabilities[1:]:
        torch.maximum(best, p, out=best)
    return best.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def entropy(probabilities: Tensor) -> Tensor:
    """round(255 H / ln C), uint8 (Z, Y, X): 0 where one class is certain, 255 where all are equal."""
    h = -torch.xlogy(probabilities, probabilities).sum(dim=0)
    scale = 255 / math.log(max(2, probabilities.shape[0]))
    return h.mul(scale).round().clamp(0, 255).to(torch.uint8)
