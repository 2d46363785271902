"""Grids: a volume cut into boxes of one shape, anchored at the origin; the last ones are clipped."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from densem.blocks.box import Box, Triple, triple


@dataclass(frozen=True)
class Grid:
    """Boxes of `cell` voxels that cover a volume of `shape`, each voxel exactly once."""

    shape: Triple
    cell: Triple

    def __post_init__(self) -> None:
        if min(self.cell) < 1 or min(self.shape) < 0:
            raise ValueError(f"a grid needs positive cells, found cell {self.cell} in shape {self.shape}")

    @property
    def counts(self) -> Triple:
        """Number of boxes along each axis."""
        return triple(-(-s // c) for s, c in zip(self.shape, self.cell, strict=True))

    def __len__(self) -> int:
        """Number of boxes."""
        z, y, x = self.counts
        return z * y * x

    def box(self, index: int) -> Box:
        """The box of that number, counted in C order."""
        _, ny, nx = self.counts
        if not 0 <= index < len(self):
            raise IndexError(f"box {index} of a grid of {len(self)}")
        place = (index // (ny * nx), index // nx % ny, index % nx)
        start = triple(p * c for p, c in zip(place, self.cell, strict=True))
        stop = triple(a + c for a, c in zip(start, self.cell, strict=True))
        return Box(start, stop).clip(Box.of_shape(self.shape))

    def voxels(self, numbers: Iterable[int]) -> int:
        """Voxels of the boxes of these numbers together; a million take half a second."""
        _, ny, nx = self.counts
        z, y, x = (
            [min(c, s - start) for start in range(0, s, c)]
            for s, c in zip(self.shape, self.cell, strict=True)
        )
        return sum(z[i // (ny * nx)] * y[i // nx % ny] * x[i % nx] for i in numbers)

    def __iter__(self) -> Iterator[Box]:
        """The boxes in C order."""
        return (self.box(i) for i in range(len(self)))

    def covering(self, box: Box) -> Box:
        """The smallest box of whole cells that holds `box`, clipped to the volume."""
        inside = box.clip(Box.of_shape(self.shape))
        start = triple(a // c * c for a, c in zip(inside.start, self.cell, strict=True))
        stop = triple(-(-b // c) * c for b, c in zip(inside.stop, self.cell, strict=True))
        return Box(start, stop).clip(Box.of_shape(self.shape))

    def within(self, box: Box) -> Iterator[Box]:
        """The boxes that meet `box`, in C order."""
        _, ny, nx = self.counts
        inside = box.clip(Box.of_shape(self.shape))
        if inside.size == 0:
            return iter(())
        spans = (
            range(a // c, -(-b // c)) for a, b, c in zip(inside.start, inside.stop, self.cell, strict=True)
        )
        return (self.box((z * ny + y) * nx + x) for z, y, x in itertools.product(*spans))
