"""Fusion: class probabilities of several networks and mirrored inputs in one pass, and what comes of them.

The mean of the softmax of every member and flip, in float32, on the device. From it: class ids,
confidence round(255 p_max), entropy round(255 H / ln C). Affinities, where they are wanted, are further
channels: the mean of the members' sigmoids. A mirrored input says of p and p - d what is asked of p and p + d
along a mirrored axis, so an affinity is averaged only over flips of axes along which its offset is 0.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densem.blocks import Box, Triple
from densem.errors import ConfigError, InputError
from densem.inference.int8_form import Int8Form
from densem.inference.runtime import Ready, Runtime
from densem.inference.shown import Normalize, Shown, as_it_is
from densem.inference.tiles import Window
from densem.model import Ensemble, Model
from densem.networks.streaming import Ends

_DIM = {"z": -3, "y": -2, "x": -1}


@dataclass(frozen=True)
class Fusion:
    """Networks and flips used as one.

    Attributes:
        networks: made ready for the runtime; all with the same classes.
        flips: sets of axes (of -3, -2, -1) along which the input is mirrored; the first is none.
        runtime: device and number format.
        classes: number of classes, the first channels of every network.
        offsets: of the affinities that are given behind the classes; none: the classes alone.
    """

    networks: tuple[Ready, ...]
    flips: tuple[tuple[int, ...], ...]
    runtime: Runtime
    classes: int
    offsets: tuple[Triple, ...] = ()

    @classmethod
    def of(
        cls, models: Ensemble | Model, runtime: Runtime, flips: str = "", affinities: bool = False
    ) -> Fusion:
        """Make models ready.

        Args:
            models: one model or several.
            runtime: where they are run.
            flips: axes to mirror, e.g. `yx`; every subset of them takes part.
            affinities: whether to give those of models that have them.

        Raises:
            NotFoundError, IntegrityError: for a form in 8-bit integers that is needed and not there.
            ConfigError: for members with different affinities, where these are wanted.
        """
        ensemble = models if isinstance(models, Ensemble) else Ensemble([models])
        ready = tuple(runtime.prepare(m.network, _int8(m, runtime)) for m in ensemble.members)
        head = ensemble.affinities if affinities else None
        return cls(ready, subsets(flips), runtime, len(ensemble.schema), head.offsets if head else ())

    @property
    def streams(self) -> bool:
        """Whether every network can be shown a window slab by slab."""
        return all(n.streams for n in self.networks)

    def pieces(
        self, image: np.ndarray, window: Window, normalize: Normalize = as_it_is
    ) -> Iterator[tuple[Box, Tensor]]:
        """Class probabilities (and affinities) of a tile's core, in pieces along z.

        Args:
            image: grey values (Z, Y, X), of the window's shape.
            window: says where the core lies.
            normalize: makes the float32 input of the network of some slices; by default they are it.

        Yields:
            Boxes that fill the core, in voxels of the volume, each with float32 (C + K, Z, Y, X) on the
            device: C classes that sum to 1, then the affinities of K offsets, if they are wanted, in [0, 1].
            One network gives slab by slab; several, or flips, are fused first.

        Raises:
            InputError: if they are not finite; names the tile.
        """
        passes = list(itertools.product(self.networks, self.flips))
        shown = Shown(image, normalize, self.runtime.device, self.runtime.dtype)
        found = (
            self._one(*passes[0], shown, window) if len(passes) == 1 else self._mean(passes, shown, window)
        )
        for box, p in _computed(found, self.runtime.device):
            if not bool(torch.isfinite(p.amax())):
                raise InputError(
                    f"the network gave values that are not numbers at {box}: look for NaN or extreme "
                    "grey values in the image there, or predict with --precision fp32"
                )
            yield box, p

    def _mean(
        self, passes: Sequence[tuple[Ready, tuple[int, ...]]], shown: Shown, window: Window
    ) -> Iterator[tuple[Box, Tensor]]:
        """The core as one piece, fused."""
        total: Tensor | None = None
        for network, axes in passes:
            kept = self._kept(axes)
            for box, p in self._one(network, axes, shown, window):
                if total is None:
                    total = p.new_zeros((p.shape[0], *window.core.shape))
                part = total[:, *box.relative_to(window.core).slices]
                if all(kept):
                    part += p
                    continue
                for channel in map(int, np.flatnonzero(kept)):
                    part[channel] += p[channel]
        assert total is not None
        if not self.offsets:
            yield window.core, total.div_(len(passes))
            return
        for channel, count in enumerate(np.sum([self._kept(axes) for _, axes in passes], axis=0)):
            total[channel].div_(int(count))
        yield window.core, total

    def _kept(self, axes: tuple[int, ...]) -> list[bool]:
        """Which channels an input mirrored along these axes has something to say about."""
        return [True] * self.classes + [not any(o[a] for a in axes) for o in self.offsets]

    def _values(self, logits: Tensor) -> Tensor:
        """Probabilities and affinities from logits (C + K, Z, Y, X), as far as they are wanted."""
        p = torch.softmax(logits[: self.classes].float(), dim=0)
        if not self.offsets:
            return p
        return torch.cat([p, torch.sigmoid(logits[self.classes :].float())])

    def _one(
        self, network: Ready, axes: tuple[int, ...], shown: Shown, window: Window
    ) -> Iterator[tuple[Box, Tensor]]:
        """What one network makes of the window mirrored along some axes, mirrored back."""
        shown = shown.mirrored(axes)
        if not network.streams:
            logits = network.whole(shown.slices(0, shown.shape[0]))
            logits = logits.flip(axes) if axes else logits
            yield window.core, self._values(logits[:, *window.inside])
            return
        view = _View.of(window, network, axes)
        z = view.first
        for logits in network.slabs(shown, view.ends):
            z += logits.shape[1]
            box, part = view.place(z - logits.shape[1], logits)
            if box.size:
                yield box, self._values(part)


@dataclass(frozen=True)
class _View:
    """A window as a network that is shown it slab by slab sees it: mirrored along some axes."""

    window: Window
    axes: tuple[int, ...]
    ends: Ends
    first: int

    @classmethod
    def of(cls, window: Window, network: Ready, axes: tuple[int, ...]) -> _View:
        needed = network.geometry.context
        assert needed is not None
        iz, depth = window.inside[0], window.shape[0]
        short = (iz.start < needed[0], depth - iz.stop < needed[0])
        zeros = (window.at_end[0] or short[0], window.at_end[1] or short[1])
        y0, y1, x0, x1 = window.margins
        if _DIM["y"] in axes:
            y0, y1 = y1, y0
        if _DIM["x"] in axes:
            x0, x1 = x1, x0
        ends = Ends(zeros[::-1] if _DIM["z"] in axes else zeros, (y0, y1, x0, x1))
        return cls(window, axes, ends, 0 if ends.zeros[0] else needed[0])

    def place(self, z: int, logits: Tensor) -> tuple[Box, Tensor]:
        """The box of the core that a slab (C, n, Y, X) at z of the mirrored window fills, with its values."""
        window, n = self.window, logits.shape[1]
        if self.axes:
            logits = logits.flip(self.axes)
            if _DIM["z"] in self.axes:
                z = window.shape[0] - z - n
        inside = window.inside[0]
        low, high = min(max(z, inside.start), z + n), min(z + n, inside.stop)
        low, high = low - z, max(low, high) - z
        (z0, y0, x0), (_, y1, x1) = window.core.start, window.core.stop
        first = z0 + z - inside.start
        box = Box((first + low, y0, x0), (first + high, y1, x1))
        return box, logits[:, low:high, : y1 - y0, : x1 - x0]


def _int8(model: Model, runtime: Runtime) -> Int8Form | None:
    return Int8Form.of(model) if runtime.backend == "openvino-int8" else None


def _computed(found: Iterator[tuple[Box, Tensor]], device: str) -> Iterator[tuple[Box, Tensor]]:
    """The same, each step without autograd and in exact arithmetic, which end before anybody else goes on."""
    while True:
        with torch.inference_mode(), _exact_arithmetic(device):
            piece = next(found, None)
        if piece is None:
            return
        yield piece


def _exact_arithmetic(device: str) -> contextlib.AbstractContextManager[Any]:
    """On a graphics card: full fp32 products, and the same algorithm for the same shape."""
    return _exact if device.startswith("cuda") else contextlib.nullcontext()


class _ExactArithmetic:
    """Torch's flags hold for all threads: the first to enter sets them, the last one sets them back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._flags: contextlib.AbstractContextManager[None] = contextlib.nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._flags = torch.backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                )
                self._flags.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._flags.__exit__(None, None, None)


_exact = _ExactArithmetic()


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


def in_255ths(values: Tensor) -> Tensor:
    """round(255 a), uint8, of values in [0, 1]."""
    return values.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def entropy(probabilities: Tensor) -> Tensor:
    """round(255 H / ln C), uint8 (Z, Y, X): 0 where one class is certain, 255 where all are equal."""
    h = -torch.xlogy(probabilities, probabilities).sum(dim=0)
    scale = 255 / math.log(max(2, probabilities.shape[0]))
    return h.mul(scale).round().clamp(0, 255).to(torch.uint8)
