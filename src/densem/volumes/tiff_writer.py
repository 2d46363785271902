"""Writing volumes as TIFF: numbers as they are, slice by slice, with the voxel size in nanometres.

zlib without loss, readable by Fiji and tifffile; BigTIFF from 2 GB on, so that no reader's 4 GB limit is met.
"""

from __future__ import annotations

from pathlib import Path

from densem.volumes.slabs import Progress, slabs
from densem.volumes.volume import Volume


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
            (plane for _, slab in slabs(volume, progress) for plane in slab),
            shape=volume.shape,
            dtype=volume.dtype,
            photometric="minisblack",
            compression="zlib",
            resolution=(1 / width, 1 / height),
            metadata={"axes": "ZYX", "spacing": depth, "unit": "nm"},
        )
