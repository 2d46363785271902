"""Writing volumes as TIFF: numbers as they are, slice by slice, with the voxel size in nanometres.

zlib without loss, readable by Fiji and tifffile; BigTIFF from 2 GB on, so that no reader's 4 GB limit is met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from densem.blocks import Box
from densem.volumes.volume import Volume

Progress = Callable[[int, int], None]


def write_tiff(volume: Volume, path: Path, progress: Progress | None = None) -> None:
    """Write a volume of numbers as a multi-page TIFF; memory is bounded by a few slices.

    Args:
        volume: of any integer type or float32.
        path: the file to make.
        progress: told (slices read, slices in all).
    """
    import tifffile

    depth, height, width = volume.voxel_size_nm
    with tifffile.TiffWriter(path, bigtiff=volume.box.size * volume.dtype.itemsize > 2**31) as file:
        file.write(
            _slices(volume, progress),
            shape=volume.shape,
            dtype=volume.dtype,
            photometric="minisblack",
            compression="zlib",
            resolution=(1 / width, 1 / height),
            metadata={"axes": "ZYX", "spacing": depth, "unit": "nm"},
        )


def _slices(volume: Volume, progress: Progress | None) -> Iterator[np.ndarray]:
    """Slice by slice; several are read at once, since chunks on disk are deep."""
    depth = max(1, min(16, 2**27 // (volume.shape[1] * volume.shape[2] * volume.dtype.itemsize)))
    for z in range(0, volume.shape[0], depth):
        stop = min(z + depth, volume.shape[0])
        slab = volume.read(Box((z, 0, 0), (stop, *volume.shape[1:])))
        if progress:  # told before: the writer takes the last slice and does not ask again
            progress(stop, volume.shape[0])
        yield from slab
