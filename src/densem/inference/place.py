"""Place: where a prediction is measured before it begins: the middle, or where there is an image at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from densem.blocks import Box, triple
from densem.inference.labeller import Labeller
from densem.inference.measurement import Crop
from densem.inference.tiles import Tiling
from densem.volumes import Volume

PLACES = 16
SEED = 0


@dataclass(frozen=True)
class Place:
    """A window of a volume with its voxels.

    Attributes:
        core: of the window.
        box: what was read.
        block: its voxels (Z, Y, X), of the volume's type.
        read_seconds: that reading them took.
        constant: whether there is a single value in them.
        looked: how many places were looked at.
    """

    core: Box
    box: Box
    block: np.ndarray
    read_seconds: float
    constant: bool
    looked: int

    @classmethod
    def find(cls, labeller: Labeller) -> Place:
        """The first place that is not constant: the middle, then a seeded handful; if all are, the middle."""
        first: Place | None = None
        for n, core in enumerate(_cores(labeller.tiling), 1):
            box = labeller.tiling.window(core).read
            start = time.perf_counter()
            block = labeller.volume.read(box)
            seconds = time.perf_counter() - start
            found = cls(core, box, block, seconds, bool(block.min() == block.max()), n)
            if not found.constant:
                return found
            first = replace(first or found, looked=n)
        assert first is not None
        return first

    def crop(self, volume: Volume) -> Volume:
        """The volume with no other voxels than these."""
        return replace(volume, array=Crop(volume.shape, self.box, self.block), path=None)


def _cores(tiling: Tiling) -> Iterator[Box]:
    """The core in the middle, then others in a seeded order."""
    grid = tiling.grid
    z, y, x = triple(c // 2 for c in grid.counts)
    middle = (z * grid.counts[1] + y) * grid.counts[2] + x
    others = np.random.default_rng(SEED).integers(len(grid), size=PLACES - 1)
    return (grid.box(int(i)) for i in dict.fromkeys([middle, *others]))
