"""Boxes: half-open integer voxel boxes in (z, y, x), and the small algebra on them.

start <= voxel < stop, per axis. A *read* box is a *write* box grown by the context and
clipped to the volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Triple = tuple[int, int, int]


def triple(values: Iterable[Any]) -> Triple:
    """Three integers in (z, y, x) from any sequence of three whole numbers."""
    z, y, x = values
    return int(z), int(y), int(x)


@dataclass(frozen=True, order=True)
class Box:
    """A half-open box of whole voxels, (z, y, x)."""

    start: Triple
    stop: Triple

    @classmethod
    def of_shape(cls, shape: Iterable[Any]) -> Box:
        """The box from the origin with this shape."""
        return cls((0, 0, 0), triple(shape))

    @property
    def shape(self) -> Triple:
        """Side lengths; never negative."""
        return triple(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For indexing an array in (z, y, x)."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def grow(self, by: Iterable[Any]) -> Box:
        """Larger by `by` voxels on both sides of each axis."""
        g = triple(by)
        return Box(
            triple(a - c for a, c in zip(self.start, g, strict=True)),
            triple(b + c for b, c in zip(self.stop, g, strict=True)),
        )

    def clip(self, other: Box) -> Box:
        """The part inside `other`; an empty box where they do not meet."""
        start = triple(
            min(max(a, lo), hi) for a, lo, hi in zip(self.start, other.start, other.stop, strict=True)
        )
        stop = triple(max(min(b, hi), a) for b, hi, a in zip(self.stop, other.stop, start, strict=True))
        return Box(start, stop)

    def shift(self, by: Iterable[Any]) -> Box:
        """Moved by `by` voxels."""
        d = triple(by)
        return Box(
            triple(a + c for a, c in zip(self.start, d, strict=True)),
            triple(b + c for b, c in zip(self.stop, d, strict=True)),
        )

    def relative_to(self, other: Box) -> Box:
        """In coordinates whose origin is the start of `other`."""
        return self.shift(triple(-a for a in other.start))

    def contains(self, other: Box) -> bool:
        """Whether `other` lies wholly inside."""
        return all(
            a <= c and d <= b
            for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True)
        )

    def __str__(self) -> str:
        """As `z 0:5, y 0:80, x 0:80`."""
        spans = zip("zyx", self.start, self.stop, strict=True)
        return ", ".join(f"{n} {a}:{b}" for n, a, b in spans)
