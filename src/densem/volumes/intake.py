"""Intake: streaming a source into a new OME-Zarr volume, slab by slab, all of it or nothing.

1. refuse if the disk cannot hold it;
2. read slabs of whole shards, write them as level 0 under a temporary name, hash what was written; or
   have a crew do so layer by layer;
3. add the pyramid, the attributes, and rename into place. On any error the temporary is removed.

The id of a volume is a hash over shape, type, voxel size and the hash of every slice: it depends
on the content alone, not on how it was read or stored.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from densem import __version__
from densem.blocks import Box, Crew, Journal, LocalCrew, Triple
from densem.errors import InputError, ResourceError
from densem.volumes import ome_zarr, pyramid
from densem.volumes.intensity import check_finite, measure_intensity
from densem.volumes.layers import LayerTask, Read, SliceHashes, layer_grid, slabs
from densem.volumes.ome_zarr import Kind, Layout
from densem.volumes.shared import Shared
from densem.volumes.stacks import Stack, check_grey, logger, resolve_voxel_size
from densem.volumes.volume import IMAGE_DTYPES, Nanometres, Volume

Progress = Callable[[int, int], None]
LabelRows = list[tuple[int, str, tuple[int, int, int]]]

DISK_FACTOR = 1.4
WIDER = {"bool": "uint8", "int8": "int16", "float16": "float32"}
"""Types of images that are widened without loss to one that is stored."""


@dataclass(frozen=True)
class Writing:
    """How a volume is written.

    Attributes:
        provenance: plain values to store with it.
        overwrite: whether to replace what is there.
        progress: told `(done, total)`.
        crew: who writes it, in layers of a shard's depth; without one, this thread does, slab by slab.
    """

    provenance: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    progress: Progress | None = None
    crew: Crew | None = None


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

    def describe(volume: Volume) -> dict[str, Any]:
        return {"kind": "image", "intensity": measure_intensity(volume).to_dict()}

    for note in source.notes:
        logger.info("%s: %s", source.path, note)
    read = GreyReader(Shared(source), dtype, str(source.path))
    return write_volume(draft, read, Ledger(describe), with_source(writing, source))


@dataclass(frozen=True)
class GreyReader:
    """Reads grey values out of a stack; can be sent to other processes.

    Attributes:
        source: a stack.
        dtype: what it is stored in.
        name: of the stack, for messages.
    """

    source: Shared
    dtype: np.dtype
    name: str

    def __call__(self, box: Box) -> tuple[np.ndarray, None]:
        """The voxels of a box, (Z, Y, X); there is nothing to note.

        Raises:
            InputError: if one is not finite.
        """
        stack: Stack = self.source.get()
        block = stack.read(box)
        check_finite(block, box.shift((stack.first, 0, 0)).start, self.name)
        return block.astype(self.dtype, copy=False), None


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
    return replace(writing, provenance={**origin, **writing.provenance})


# ---- writing ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ledger:
    """What becomes of a volume's record.

    Attributes:
        describe: gives densem's attributes once level 0 is written, or raises.
        add: takes in what was noted of a slab; slabs come in C order.
    """

    describe: Callable[[Volume], dict[str, Any]]
    add: Callable[[Any], None] = lambda note: None


def write_volume(
    draft: Draft, read: Read, ledger: Ledger, writing: Writing, label_rows: LabelRows | None = None
) -> Volume:
    """Write a volume from boxes that cover it, with pyramid, id and attributes; all of it or nothing.

    Args:
        draft: what is written.
        read: gives the voxels of a box, in the draft's type.
        ledger: makes the attributes.
        writing: provenance, overwrite, progress, and who writes it.
        label_rows: (id, name, rgb) for the OME `image-label` metadata.
    """
    check_disk(draft)
    target, part = draft.target, ome_zarr.temporary(draft.target)
    array = ome_zarr.create(target, draft.shape, draft.dtype, draft.layout, writing.overwrite)
    try:
        if writing.crew is None:
            identity = _stream(array, read, ledger, draft, writing.progress)
        else:
            identity = _by_crew(writing.crew, read, ledger, draft, writing.progress)
        level = Volume(array, draft.voxel_size_nm, draft.offset_nm, target)
        attributes = {**ledger.describe(level), "provenance": writing.provenance, "id": identity}
        levels = pyramid.build(part, draft.voxel_size_nm, draft.kind, writing.crew)
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


def _stream(array: Any, read: Read, ledger: Ledger, draft: Draft, progress: Progress | None) -> str:
    """Write every slab, one after the other; returns the content id."""
    boxes = list(slabs(draft.shape, draft.dtype, draft.layout))
    content = ContentId(draft.shape, draft.dtype, draft.voxel_size_nm)
    for done, box in enumerate(boxes):
        block, note = read(box)
        array[box.slices] = block
        content.add(box, block)
        ledger.add(note)
        if progress:
            progress(done + 1, len(boxes))
    return content.digest()


def _by_crew(crew: Crew, read: Read, ledger: Ledger, draft: Draft, progress: Progress | None) -> str:
    """Have every layer written by a crew; returns the content id."""
    part = ome_zarr.temporary(draft.target).resolve()
    grid = layer_grid(draft.shape, draft.layout)
    journal = Journal(ome_zarr.levels_folder(part) / "s0")
    journal.begin({"shape": grid.shape, "block": grid.cell})
    stop = crew.options.stop if isinstance(crew, LocalCrew) else None
    crew.do(LayerTask(part, read, draft.layout, stop), grid, journal, progress)
    content = ContentId(draft.shape, draft.dtype, draft.voxel_size_nm)
    for _, record in sorted(journal.records().items()):
        content.take([bytes.fromhex(digest) for digest in record["slices"]])
        for note in record["notes"]:
            ledger.add(note)
    return content.digest()


# ---- identity --------------------------------------------------------------------------------


class ContentId:
    """The id of a volume while its slabs pass by, in C order, full in x."""

    def __init__(self, shape: Triple, dtype: np.dtype, voxel_size_nm: Nanometres) -> None:
        head = json.dumps([list(shape), np.dtype(dtype).name, [float(v) for v in voxel_size_nm]])
        self._total = hashlib.sha256(head.encode())
        self._height = shape[1]
        self._open = SliceHashes(0)

    def add(self, box: Box, block: np.ndarray) -> None:
        """Take in the voxels of a box, (Z, Y, X)."""
        if box.start[1] == 0:
            self._open = SliceHashes(box.shape[0])
        self._open.add(block)
        if box.stop[1] == self._height:
            self.take(self._open.digests())

    def take(self, slices: list[bytes]) -> None:
        """Take in the hashes of the slices that follow."""
        for digest in slices:
            self._total.update(digest)

    def digest(self) -> str:
        """16 hex digits."""
        return self._total.hexdigest()[:16]


def content_id(volume: Volume) -> str:
    """The id that `volume` would be given at import; reads all of it, slab by slab."""
    content = ContentId(volume.shape, volume.dtype, volume.voxel_size_nm)
    for box in slabs(volume.shape, volume.dtype, Layout.fitting(volume.shape)):
        content.add(box, volume.read(box))
    return content.digest()
