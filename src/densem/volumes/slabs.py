"""Slabs of whole slices, for formats that are written from the first voxel to the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from densem.blocks import Box
from densem.volumes.volume import Volume

Progress = Callable[[int, int], None]
SLAB_BYTES = 2**26
DEEPEST = 16
"""Slices read at once at most: as deep as a chunk."""


def slabs(volume: Volume, progress: Progress | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """The volume in slabs of whole slices; memory is bounded by 64 MB or a slice.

    Several slices are read at once, since chunks on disk are deep.

    Args:
        volume: what is read.
        progress: told (slices read, slices in all), before a slab is given: some writers take the last slice
            and do not ask again.

    Yields:
        Number of the first slice, and the voxels (Z, Y, X).
    """
    height, width = volume.shape[1:]
    depth = max(1, min(DEEPEST, SLAB_BYTES // (height * width * volume.dtype.itemsize)))
    for z in range(0, volume.shape[0], depth):
        stop = min(z + depth, volume.shape[0])
        block = volume.read(Box((z, 0, 0), (stop, height, width)))
        if progress:
            progress(stop, volume.shape[0])
        yield z, block
