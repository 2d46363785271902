"""Intake: streaming a source into a new OME-Zarr volume, slab by slab, all of it or nothing.

1. refuse if the disk cannot hold it;
2. read slabs of whole shards, write them as level 0 under a temporary name, hash what was written;
3. add the pyramid, the attributes, and rename into place. On any error the temporary is removed.

The id of a volume is a hash over shape, type, voxel size and the hash of every slice: it depends
on the content alone, not on how it was read or stored.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densem import __version__
from densem.blocks import Box, Grid, Triple
from densem.errors import InputError, ResourceError
from densem.volumes import ome_zarr, pyramid
from densem.volumes.intensity import check_finite, measure_intensity
from densem.volumes.ome_zarr import Kind, Layout
from densem.volumes.stacks import Stack, check_grey, logger, resolve_voxel_size
from densem.volumes.volume import IMAGE_DTYPES, Nanometres, Volume

Progress = Callable[[int, int], None]
LabelRows = list[tuple[int, str, tuple[int, int, int]]]

SLAB_BYTES = 128 * 2**20
DISK_FACTOR = 1.4
WIDER = {"bool": "uint8", "int8": "int16", "float16": "float32"}
"""Types of images that are widened without loss to one that is stored."""


@dataclass(frozen=True)
class Writing:
    """How a volume is written: provenance to store, whether to replace, whom to tell `(done, total)`."""

    provenance: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    progress: Progress | None = None


@dataclass(frozen=True)
class Draft:
    """A volume that is to be written."""

    target: Path
    shape: Triple
    dtype: np.dtype
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    kind: Kind

    @property
    def layout(self) -> Layout:
        """Chunks and shards on disk."""
        return Layout.fitting(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of level 0 in memory."""
        z, y, x = self.shape
        return z * y * x * self.dtype.itemsize


# ---- images ----------------------------------------------------------------------------------


def import_image(
    source: Stack, target: Path, voxel_size_nm: object = None, writing: Writing | None = None
) -> Volume:
    """Bring an image stack into OME-Zarr 0.5 with a pyramid; memory is bounded by a few slabs.

    Intensity statistics, provenance and content id are stored with it. A part of a stack keeps its
    place: its offset is that of its first slice.

    Args:
        source: grey values of 8 or 16 bits or float32.
        target: folder to make, by custom ending in `.zarr`.
        voxel_size_nm: (z, y, x); needed where the file says none, and taken where they differ.
        writing: provenance, overwrite and progress.

    Raises:
        VoxelSizeError, ShapeError, InputError, FormatError, ExistsError, ResourceError: and nothing
            is left at the target.
    """
    check_grey(source)
    dtype = image_dtype(source)
    size = resolve_voxel_size(source.voxel_size_nm, voxel_size_nm, str(source.path), source.notes)
    draft = Draft(target, source.shape, dtype, size, source.origin_nm(size), "image")

    def read(box: Box) -> np.ndarray:
        block = source.read(box)
        check_finite(block, box.shift((source.first, 0, 0)).start, str(source.path))
        return block.astype(dtype, copy=False)

    def describe(volume: Volume) -> dict[str, Any]:
        return {"kind": "image", "intensity": measure_intensity(volume).to_dict()}

    for note in source.notes:
        logger.info("%s: %s", source.path, note)
    return write_volume(draft, read, describe, with_source(writing, source))


def image_dtype(source: Stack) -> np.dtype:
    """The type an image is stored in.

    Raises:
        InputError: if its values are indices of colours, or of a type that is not an image.
    """
    if source.colormap is not None and not _is_ramp(source.colormap):
        raise InputError(
            f"{source.path}: expected grey values, found indices into a colour table; convert it to 8-bit "
            "grey"
        )
    name = WIDER.get(source.dtype.name, source.dtype.name)
    if name not in IMAGE_DTYPES:
        raise InputError(
            f"{source.path}: expected an image of {', '.join(IMAGE_DTYPES)}, found {source.dtype.name}; "
            "convert it to 16-bit or float32"
        )
    return np.dtype(name)


def _is_ramp(colormap: np.ndarray) -> bool:
    return bool((colormap == np.arange(256, dtype=np.uint8)[:, None]).all())


def with_source(writing: Writing | None, source: Stack) -> Writing:
    """With where it came from added to the provenance."""
    writing = writing or Writing()
    origin = {
        "densem": __version__,
        "source": str(source.path),
        "format": source.format,
        "slices": [source.first, source.first + source.shape[0]],
    }
    return Writing({**origin, **writing.provenance}, writing.overwrite, writing.progress)


# ---- writing ---------------------------------------------------------------------------------


def write_volume(
    draft: Draft,
    read: Callable[[Box], np.ndarray],
    describe: Callable[[Volume], dict[str, Any]],
    writing: Writing,
    label_rows: LabelRows | None = None,
) -> Volume:
    """Write a volume from boxes that cover it, with pyramid, id and attributes; all of it or nothing.

    Args:
        draft: what is written.
        read: gives the voxels of a box, (Z, Y, X) in the draft's type; boxes come in C order.
        describe: gives densem's attributes once level 0 is written, or raises.
        writing: provenance, overwrite and progress.
        label_rows: (id, name, rgb) for the OME `image-label` metadata.
    """
    check_disk(draft)
    target, part = draft.target, ome_zarr.temporary(draft.target)
    array = ome_zarr.create(target, draft.shape, draft.dtype, draft.layout, writing.overwrite)
    try:
        identity = _stream(array, read, draft, writing.progress)
        level = Volume(array, draft.voxel_size_nm, draft.offset_nm, target)
        attributes = {**describe(level), "provenance": writing.provenance, "id": identity}
        levels = pyramid.build(part, draft.voxel_size_nm, draft.kind)
        ome_zarr.describe(part, levels, draft.offset_nm, attributes, label_rows)
        return ome_zarr.finish(target, writing.overwrite)
    except BaseException:
        ome_zarr.discard(target)
        raise


def check_disk(draft: Draft) -> None:
    """Refuse to start where the disk cannot hold the volume uncompressed with its pyramid.

    Raises:
        ResourceError: with what is needed and what is free.
    """
    place = draft.target.absolute().parent
    while not place.exists():
        place = place.parent
    need, free = int(draft.nbytes * DISK_FACTOR), shutil.disk_usage(place).free
    if free < need:
        raise ResourceError(
            f"{draft.target}: expected {need / 1e9:.3g} GB of free disk (the volume uncompressed, with its "
            f"pyramid), found {free / 1e9:.3g} GB; free some, or choose another place"
        )


def slabs(shape: Triple, dtype: np.dtype, layout: Layout) -> Iterator[Box]:
    """Boxes of whole shards over a volume, full in x, in y as long as they stay small, in C order."""
    deep, tall, _ = layout.shard
    row = deep * tall * shape[2] * dtype.itemsize
    height = tall * max(1, SLAB_BYTES // row)
    yield from Grid(shape, (deep, min(height, -(-shape[1] // tall) * tall), max(1, shape[2])))


def _stream(array: Any, read: Callable[[Box], np.ndarray], draft: Draft, progress: Progress | None) -> str:
    """Write every slab; returns the content id."""
    boxes = list(slabs(draft.shape, draft.dtype, draft.layout))
    content = ContentId(draft.shape, draft.dtype, draft.voxel_size_nm)
    for done, box in enumerate(boxes):
        block = read(box)
        array[box.slices] = block
        content.add(box, block)
        if progress:
            progress(done + 1, len(boxes))
    return content.digest()


# ---- identity --------------------------------------------------------------------------------


class ContentId:
    """The id of a volume while its slabs pass by, in C order, full in x."""

    def __init__(self, shape: Triple, dtype: np.dtype, voxel_size_nm: Nanometres) -> None:
        head = json.dumps([list(shape), np.dtype(dtype).name, [float(v) for v in voxel_size_nm]])
        self._total = hashlib.sha256(head.encode())
        self._height = shape[1]
        self._open: list[Any] = []

    def add(self, box: Box, block: np.ndarray) -> None:
        """Take in the voxels of a box, (Z, Y, X)."""
        if box.start[1] == 0:
            self._open = [hashlib.sha256() for _ in range(box.shape[0])]
        for digest, plane in zip(self._open, block, strict=True):
            digest.update(np.ascontiguousarray(plane).data)
        if box.stop[1] == self._height:
            for digest in self._open:
                self._total.update(digest.digest())

    def digest(self) -> str:
        """16 hex digits."""
        return self._total.hexdigest()[:16]


def content_id(volume: Volume) -> str:
    """The id that `volume` would be given at import; reads all of it, slab by slab."""
    content = ContentId(volume.shape, volume.dtype, volume.voxel_size_nm)
    for box in slabs(volume.shape, volume.dtype, Layout.fitting(volume.shape)):
        content.add(box, volume.read(box))
    return content.digest()
