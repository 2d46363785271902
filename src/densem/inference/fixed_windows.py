"""Fixed windows: for networks that see a whole window, or farther than one; no tiling of them is exact.

    windows      |=====0=====|                       of one shape, half a window apart, the first at the
                       |=====1=====|                 volume's origin, the last ending where the volume does
                             |=====2=====|
                                 |=====3=====|
    core               |===========|                 what a task yields: the mean of all windows that meet it

1. Where windows overlap, each counts as much as it lies inside itself: a tent along each axis, largest in the
   window's middle, and the shares of all windows over a voxel add up to 1.
2. Windows, shares and their order depend on the shapes of volume and window alone. So a voxel gets the same
   bytes whatever core, block or worker it belongs to; a window that meets several cores is run for each.
3. A volume shorter than the window has one window along that axis, as long as the volume, up to the multiple.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from densem.blocks import Box, Triple, triple
from densem.inference.tiles import Tiling, Window, round_up

ROOM = 6_000_000
"""Voxels of a core: the larger, the fewer windows are run more than once."""
DEPTH = 16
"""Slices of a core, where windows have fewer."""

Answers = Callable[[Window], Iterator[tuple[Box, Tensor]]]


@dataclass(frozen=True)
class FixedWindows(Tiling):
    """Overlapping windows of one shape over a volume.

    Attributes:
        side: shape of a window, in whole multiples.
    """

    side: Triple

    @classmethod
    def over(
        cls, shape: Triple, window: Triple, multiple: Triple, core: Triple | None = None
    ) -> FixedWindows:
        """The windows over a volume.

        Args:
            shape: of the volume.
            window: shape of the windows.
            multiple: sizes the network accepts.
            core: what a task yields; changes no value. By default as large as `ROOM` allows.
        """
        whole = round_up(shape, multiple)
        side = triple(min(w, n) for w, n in zip(round_up(window, multiple), whole, strict=True))
        core = round_up(core, multiple) if core else _core(side, whole, multiple)
        context = triple(s - m for s, m in zip(side, multiple, strict=True))
        return cls(shape, core, context, multiple, side)

    def parts(self, core: Box) -> Iterator[Window]:
        """The windows that meet a core, in C order; each yields all of itself."""
        plain = Tiling(self.shape, self.side, (0, 0, 0), self.multiple)
        met = zip(self.axes, core.start, core.stop, strict=True)
        starts = [axis.meeting(a, b) for axis, a, b in met]
        for start in itertools.product(*starts):
            stop = triple(min(a + s, n) for a, s, n in zip(start, self.side, self.shape, strict=True))
            yield plain.window(Box(triple(start), stop))

    def blend(self, core: Box, answers: Answers) -> Tensor:
        """The mean of all windows over the voxels of a core, float32 (C, Z, Y, X).

        Args:
            core: box in voxels of the volume.
            answers: gives boxes that fill a window, each with float32 (C, Z, Y, X).
        """
        total: Tensor | None = None
        for part in self.parts(core):
            shares = [axis.shares(a) for axis, a in zip(self.axes, part.core.start, strict=True)]
            for box, p in answers(part):
                meet = box.clip(core)
                if total is None:
                    total = p.new_zeros((p.shape[0], *core.shape))
                own = meet.relative_to(part.core).slices
                z, y, x = (torch.from_numpy(s[o]).to(p) for s, o in zip(shares, own, strict=True))
                weight = z[:, None, None] * y[:, None] * x
                total[:, *meet.relative_to(core).slices] += p[:, *meet.relative_to(box).slices] * weight
        assert total is not None
        return total

    @property
    def axes(self) -> tuple[WindowAxis, WindowAxis, WindowAxis]:
        """Where windows begin along each axis."""
        whole = round_up(self.shape, self.multiple)
        z, y, x = (WindowAxis(n, s, m) for n, s, m in zip(whole, self.side, self.multiple, strict=True))
        return z, y, x

    @property
    def overhead(self) -> float:
        """Voxels the network is run on for each voxel of the volume."""
        counts = [
            sum(len(axis.meeting(a, min(a + c, n))) for a in range(0, n, c))
            for axis, c, n in zip(self.axes, self.core, self.shape, strict=True)
        ]
        return math.prod(counts) * math.prod(self.side) / max(1, math.prod(self.shape))

    def run_on(self, core: Box) -> int:
        """Voxels the network is run on for a core."""
        met = (axis.meeting(a, b) for axis, a, b in zip(self.axes, core.start, core.stop, strict=True))
        return math.prod(len(starts) for starts in met) * math.prod(self.side)


@dataclass(frozen=True)
class WindowAxis:
    """Windows along one axis.

    Attributes:
        n: length of the volume, up to the multiple.
        side: of a window.
        multiple: windows begin at whole multiples.
    """

    n: int
    side: int
    multiple: int

    @property
    def step(self) -> int:
        """From one window to the next: half of one."""
        return max(1, self.side // 2 // self.multiple) * self.multiple

    @property
    def count(self) -> int:
        """Number of windows."""
        return 1 + -(-max(0, self.n - self.side) // self.step)

    def start(self, number: int) -> int:
        """Of a window; the last one ends with the volume."""
        return min(number * self.step, self.n - self.side)

    def meeting(self, first: int, stop: int) -> list[int]:
        """Starts of the windows with a voxel from `first` to before `stop`."""
        low = max(0, (first - self.side) // self.step)
        high = min(self.count, -(-stop // self.step) + 1)
        last = range(max(low, self.count - 1), self.count)
        starts = {self.start(i) for i in (*range(low, high), *last)}
        return sorted(s for s in starts if s < stop and s + self.side > first)

    def shares(self, start: int) -> np.ndarray:
        """How much the window counts at each of its places, among all that lie over it; float32 (side,)."""
        places = np.arange(start, start + self.side)
        tents = {s: self._tent(places - s) for s in self.meeting(start, start + self.side)}
        return (tents[start] / sum(tents.values())).astype(np.float32)

    def _tent(self, places: np.ndarray) -> np.ndarray:
        inside = (places >= 0) & (places < self.side)
        return np.where(inside, np.minimum(places + 1, self.side - places), 0).astype(float)


def _core(side: Triple, whole: Triple, multiple: Triple) -> Triple:
    """As many windows as there is room for, first in z up to `DEPTH`, then in y and x."""
    depth = min(whole[0], max(side[0], -(-DEPTH // multiple[0]) * multiple[0]))
    core = (depth, side[1], side[2])
    for axis in (2, 1) * 8:
        larger = triple(
            min(2 * n, w) if i == axis else n for i, (n, w) in enumerate(zip(core, whole, strict=True))
        )
        core = larger if math.prod(larger) <= ROOM else core
    return core
