"""Zarr volumes, OME-Zarr 0.4 and 0.5 and bare arrays, as stacks."""

from __future__ import annotations

from pathlib import Path

from densem.errors import NotFoundError
from densem.volumes.ome_zarr import locate
from densem.volumes.stacks import Stack


def open_zarr(path: Path, dataset: str | None) -> Stack:
    """Open a Zarr volume as a stack.

    Args:
        path: folder of the volume, or of a group.
        dataset: an array or image inside it, or the number of a pyramid level.

    Raises:
        NotFoundError, FormatError, ShapeError, VoxelSizeError: with what was found and what to do.
    """
    inner = path / dataset.strip("/") if dataset else path
    if dataset and not inner.exists():
        if not dataset.isdigit():
            raise NotFoundError(f"{path}: no dataset {dataset!r} in it")
        found = locate(path, int(dataset))
    else:
        found = locate(inner)
    name = "OME-Zarr" if found.voxel_size_nm else "Zarr"
    return Stack(found.array, inner, name, found.voxel_size_nm, found.offset_nm, record=found.record)
