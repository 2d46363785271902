"""Tiles: what a network is run on, so that any tiling equals one pass over the whole volume.

    volume  0 |......................................| n ~~~ up to the multiple
    core            |=========|                            what the tile yields
    window     |<-c->=========<-c->|                       core and context: what the network sees

1. Cores form a grid anchored at the volume's origin; cores and in-plane context are multiples of the
   number the network needs, so every window begins at such a multiple and its pooling cells agree.
2. A window is clipped to the volume: there, and only there, the network pads with zeros.
3. A far end that is no multiple is mirrored (the edge voxel not repeated) up to the next one, around the
   volume's own last voxel, as one pass over the whole volume would do it.
4. A network that can be shown a window slab by slab gets tiles that are long in z, where nothing is computed
   twice within a tile, and as wide as their memory allows: that depends on the window's area, not its length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.errors import ConfigError
from densem.model import TilePlan

ROOM = 1_500_000
"""Voxels of a window that any network is given room for."""
PLANE = 120_000
"""The same in y and x, for a window that is shown slab by slab."""
LONGEST = 96
"""Slices of the core of such a window."""


@dataclass(frozen=True)
class Window:
    """One tile: what to read, how the network's input is made of it, and where the core lies in the output.

    Attributes:
        core: box the tile yields, in voxels of the volume.
        read: box to read; inside the volume.
        planes: per axis, which plane of the read box fills each plane of the input; int (n,).
        inside: the core within the network's input and output.
        at_end: whether the window ends where the volume does, at the (upper, lower) end in z.
        margins: context within the input, in whole multiples: before and behind the core in y, and in x.
    """

    core: Box
    read: Box
    planes: tuple[np.ndarray, np.ndarray, np.ndarray]
    inside: tuple[slice, slice, slice]
    at_end: tuple[bool, bool]
    margins: tuple[int, int, int, int]

    @property
    def shape(self) -> Triple:
        """Shape of the network's input."""
        return triple(len(p) for p in self.planes)

    def take(self, block: np.ndarray, at: Box) -> np.ndarray:
        """The network's input (Z, Y, X) from the voxels of a box `at` that holds the read box."""
        z, y, x = (p + (a - b) for p, a, b in zip(self.planes, self.read.start, at.start, strict=True))
        return block[np.ix_(z, y, x)]


@dataclass(frozen=True)
class Demand:
    """What a network asks of its tiles.

    Attributes:
        context: voxels around a core.
        multiple: sizes it accepts.
        streams: it is shown windows slab by slab along z.
    """

    context: Triple
    multiple: Triple
    streams: bool = False


@dataclass(frozen=True)
class Tiling:
    """Tiles over a volume of `shape`.

    Attributes:
        shape: of the volume, in voxels.
        core: what a tile yields; multiples of `multiple`.
        context: read around the core; multiples of `multiple`.
        multiple: sizes the network accepts.
    """

    shape: Triple
    core: Triple
    context: Triple
    multiple: Triple

    def __post_init__(self) -> None:
        for name, sides in (("core", self.core), ("context", self.context)):
            if any(s % m for s, m in zip(sides, self.multiple, strict=True)):
                raise ConfigError(
                    f"tile: the {name} {sides} is not whole multiples of {self.multiple}, "
                    "which the network needs"
                )

    @classmethod
    def fit(cls, plan: TilePlan, demand: Demand, shape: Triple, box: Box | None = None) -> Tiling:
        """The tiling of a volume, or of a box in it, that reads least with windows of bounded size.

        Cores are at least the plan's. They grow, into equal parts of an axis, as long as a window has no
        more than `ROOM` voxels (or what the plan's needs): where the context is small or the volume thin.
        Cores of windows that are shown slab by slab are up to `LONGEST` slices long, and `PLANE` is the room.
        A function of its arguments alone.
        """
        context, multiple = round_up(demand.context, demand.multiple), demand.multiple
        smallest = round_up(plan.core, multiple)
        needed = [c + 2 * m for c, m in zip(smallest, context, strict=True)]
        box = box or Box.of_shape(shape)
        axes = [
            _Axis(a, b, n, c, m)
            for a, b, n, c, m in zip(box.start, box.stop, shape, context, multiple, strict=True)
        ]
        options = [axis.options(s) for axis, s in zip(axes, smallest, strict=True)]
        room = max(ROOM, math.prod(needed))
        if demand.streams:
            options[0] = axes[0].long_parts()
            room = max(PLANE, math.prod(needed[1:]))
        window, cost = (
            np.multiply.outer(np.multiply.outer(options[0][i], options[1][i]), options[2][i]) for i in (1, 2)
        )
        best = np.argmin(np.where(window <= room, cost, np.inf))
        places = np.unravel_index(int(best), cost.shape)
        core = triple(o[0][i] for o, i in zip(options, places, strict=True))
        return cls(shape, core, context, multiple)

    @property
    def grid(self) -> Grid:
        """The cores."""
        return Grid(self.shape, self.core)

    @property
    def overhead(self) -> float:
        """Voxels the network is run on for each voxel of the volume."""
        axes = [_Axis(0, n, n, c, m) for n, c, m in zip(self.shape, self.context, self.multiple, strict=True)]
        reads = [sum(axis.windows(c)) for axis, c in zip(axes, self.core, strict=True)]
        return math.prod(reads) / max(1, math.prod(self.shape))

    def run_on(self, core: Box) -> int:
        """Voxels the network is run on for a core."""
        return math.prod(self.window(core).shape)

    def cores(self, box: Box) -> Iterator[Box]:
        """The anchored cores that meet `box`, in C order."""
        return self.grid.within(box)

    def cores_from(self, box: Box) -> Iterator[Box]:
        """Cores counted from the start of `box` (rounded down to the multiple) that cover it."""
        start = triple(a // m * m for a, m in zip(box.start, self.multiple, strict=True))
        span = triple(b - a for a, b in zip(start, box.stop, strict=True))
        return (core.shift(start) for core in Grid(span, self.core))

    def window(self, core: Box) -> Window:
        """The tile with this core."""
        axes = [
            _axis(a, b, n, c, m)
            for a, b, n, c, m in zip(
                core.start, core.stop, self.shape, self.context, self.multiple, strict=True
            )
        ]
        read = Box(triple(s.start for s, _, _ in axes), triple(s.stop for s, _, _ in axes))
        (_, pz, iz), (_, py, iy), (_, px, ix) = axes
        at_end = (read.start[0] == 0, read.stop[0] == self.shape[0])
        margins = tuple(
            m
            for inside, places, multiple in zip((iy, ix), (py, px), self.multiple[1:], strict=True)
            for m in (inside.start, (len(places) - inside.stop) // multiple * multiple)
        )
        return Window(core, read, (pz, py, px), (iz, iy, ix), at_end, margins)

    def reach(self, cores: Iterable[Box]) -> Box:
        """The smallest box that holds what all these tiles read."""
        reads = [self.window(core).read for core in cores]
        start = triple(min(r.start[i] for r in reads) for i in range(3))
        return Box(start, triple(max(r.stop[i] for r in reads) for i in range(3)))


@dataclass(frozen=True)
class _Axis:
    """One axis of a box from `start` to `stop` in a volume of n voxels."""

    start: int
    stop: int
    n: int
    context: int
    multiple: int

    def windows(self, core: int) -> list[int]:
        """Lengths of the windows with cores of this length."""
        first = self.start // self.multiple * self.multiple
        end = -(-self.n // self.multiple) * self.multiple
        stops = ((a, min(a + core, self.stop)) for a in range(first, self.stop, core))
        return [
            min(-(-b // self.multiple) * self.multiple + self.context, end) - max(0, a - self.context)
            for a, b in stops
        ]

    def options(self, smallest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Core lengths worth trying, each with its largest window and the voxels read in all."""
        length = self.stop - self.start // self.multiple * self.multiple
        sizes = {smallest, self._whole(length)} if length > smallest else {self._whole(length)}
        for parts in range(1, -(-length // smallest) + 1):
            equal = self._whole(-(-length // parts))
            if smallest <= equal <= 8 * smallest:
                sizes.add(equal)
        found = sorted(sizes)
        reads = [self.windows(s) for s in found]
        return (
            np.array(found),
            np.array([max(r) for r in reads]),
            np.array([sum(r) for r in reads], float),
        )

    def long_parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The one length of cores of at most `LONGEST` that is worth trying; takes no room."""
        length = self.stop - self.start // self.multiple * self.multiple
        parts = max(1, -(-length // LONGEST))
        equal = -(-length // parts)
        core = self._whole(equal if parts == 1 else -(-equal // 8) * 8)
        return np.array([core]), np.array([1]), np.array([float(sum(self.windows(core)))])

    def _whole(self, length: int) -> int:
        return -(-length // self.multiple) * self.multiple


def mirror(places: np.ndarray, n: int) -> np.ndarray:
    """Indices on an axis of n voxels for any integers, mirrored at both ends without repeating them."""
    if n == 1:
        return np.zeros_like(places)
    period = 2 * (n - 1)
    folded = places % period
    return np.minimum(folded, period - folded)


def round_up(sides: Triple, multiple: Triple) -> Triple:
    """The next whole multiples."""
    return triple(-(-s // m) * m for s, m in zip(sides, multiple, strict=True))


def _axis(start: int, stop: int, n: int, context: int, multiple: int) -> tuple[slice, np.ndarray, slice]:
    """Read range, planes of the input relative to it, and the core's place in the input, of one axis."""
    first = max(0, start - context)
    last = min(-(-stop // multiple) * multiple + context, -(-n // multiple) * multiple)
    source = mirror(np.arange(first, last), n)
    low, high = int(source.min()), int(source.max()) + 1
    return slice(low, high), source - low, slice(start - first, stop - first)
