"""Neuroglancer's precomputed format: images, or segmentations with the names of their segments.

1. scales: level 0 and coarser ones, images by mean, labels by mode. A scale's voxels lie on the grid that
   starts at nanometre 0, as its `voxel_offset` is whole; where the first voxel is in the middle of a coarser
   one, it is repeated;
2. chunks of 16 x 128 x 128 voxels, images as they are, segmentations compressed, written by TensorStore;
3. `segment_properties`: a label for each segment and, of objects, its class as a tag. The format has no place
   for colours, so `segment_colors.json` holds what a layer's state takes.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.errors import InputError
from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import Entry, Source, fitted
from densem.volumes.exports.staging import Staging
from densem.volumes.ome_zarr import Kind
from densem.volumes.pyramid import coarser_levels, reduce
from densem.volumes.segment_tags import segment_tags
from densem.volumes.slabs import Progress
from densem.volumes.volume import Nanometres

CHUNK: Triple = (16, 128, 128)
BLOCK: Triple = (16, 1024, 1024)
"""Voxels held at a time, in whole chunks."""
AT_ONCE = 32
"""Chunks written at a time."""
IMAGE_TYPES = ("uint8", "uint16", "int16", "float32")
SEGMENT_TYPES = ("uint32", "uint64")
PROPERTIES = "segment_properties"
COLORS = "segment_colors.json"


@dataclass(frozen=True)
class Scale:
    """A level of the pyramid on the grid that starts at nanometre 0.

    Attributes:
        box: its voxels on that grid, (z, y, x).
        voxel_size_nm: (z, y, x).
        by: how many voxels of the scale before became one.
    """

    box: Box
    voxel_size_nm: Nanometres
    by: Triple


def write_precomputed(
    source: Source, area: Staging, options: ExportOptions, progress: Progress | None
) -> list[str]:
    """Write a precomputed volume.

    Raises:
        InputError: if TensorStore is not installed, or ids are wider than 64 bits.
    """
    del options
    _tensorstore()
    types = IMAGE_TYPES if source.kind == "image" else SEGMENT_TYPES
    dtype = fitted(source, types, "Neuroglancer", "export a --box")
    scales, notes = _scales(source)
    for number, scale in enumerate(scales):
        store = _create(area.main, source, dtype, scale)
        if number == 0:
            _fill(store, source, scale.box, progress)
        else:
            _fill_coarser(store, _open(area.main, number - 1), scales[number - 1], scale, source)
    if source.kind != "image":
        _describe_segments(area.main, source)
        notes.append(
            f"{area.target / COLORS}: colours for the layer's state; Neuroglancer shows id 0 as nothing"
        )
    return [
        *notes,
        f"Neuroglancer: precomputed://http://HOST:PORT/{area.target.name}, from a web server with CORS",
    ]


def _tensorstore() -> Any:
    try:
        return importlib.import_module("tensorstore")
    except ImportError:
        raise InputError(
            "--to neuroglancer: expected the package tensorstore, which writes this format; install it with  "
            "pip install 'densem[export]'"
        ) from None


# ---- scales ----------------------------------------------------------------------------------


def _scales(source: Source) -> tuple[list[Scale], list[str]]:
    """All scales, and a note if the volume does not lie on whole voxels."""
    volume = source.volume
    exact = [o / v for o, v in zip(volume.offset_nm, volume.voxel_size_nm, strict=True)]
    first = triple(round(e) for e in exact)
    notes = []
    if any(abs(a - b) > 1e-3 for a, b in zip(exact, first, strict=True)):
        place = " x ".join(f"{o:g}" for o in volume.offset_nm)
        notes.append(f"The volume lies at {place} nm, between whole voxels; it was moved to the nearest one")
    scales = [Scale(volume.box.shift(first), volume.voxel_size_nm, (1, 1, 1))]
    for level in coarser_levels(volume.shape, volume.voxel_size_nm):
        finer = scales[-1].box
        start = triple(a // f for a, f in zip(finer.start, level.by, strict=True))
        stop = triple(-(-b // f) for b, f in zip(finer.stop, level.by, strict=True))
        scales.append(Scale(Box(start, stop), level.voxel_size_nm, level.by))
    return scales, notes


def _context() -> dict[str, Any]:
    return {
        "cache_pool": {"total_bytes_limit": 0},  # every chunk is written and read once
        "data_copy_concurrency": {"limit": 2},
        "file_io_concurrency": {"limit": 4},
        "file_io_sync": False,
    }


def _create(folder: Path, source: Source, dtype: np.dtype, scale: Scale) -> Any:
    segments = source.kind != "image"
    encoding: dict[str, Any] = {"encoding": "raw"}
    if segments:
        encoding = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "context": _context(),
        "multiscale_metadata": {
            "type": "segmentation" if segments else "image",
            "data_type": dtype.name,
            "num_channels": 1,
        },
        "scale_metadata": {
            "size": list(scale.box.shape[::-1]),
            "voxel_offset": list(scale.box.start[::-1]),
            "resolution": list(scale.voxel_size_nm[::-1]),
            "chunk_size": list(CHUNK[::-1]),
            **encoding,
        },
        "create": True,
    }
    return _tensorstore().open(spec).result()


def _open(folder: Path, number: int) -> Any:
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "context": _context(),
        "scale_index": number,
    }
    return _tensorstore().open(spec).result()


def _put(store: Any, box: Box, block: np.ndarray) -> None:
    """Write a box, some chunks at a time; where one has failed, none is on its way any more."""
    cells = list(Grid(box.shape, CHUNK))
    for first in range(0, len(cells), AT_ONCE):
        futures = []
        for cell in cells[first : first + AT_ONCE]:
            z, y, x = cell.shift(box.start).slices
            chunk = np.ascontiguousarray(block[cell.slices].transpose(2, 1, 0), store.dtype.numpy_dtype)
            futures.append(store[x, y, z, 0].write(chunk))
        failed = [error for future in futures if (error := future.exception()) is not None]
        if failed:  # TensorStore has a ValueError for every failure
            number = errno.ENOSPC if "No space left" in str(failed[0]) else errno.EIO
            raise OSError(number, os.strerror(number), str(box)) from failed[0]


def _get(store: Any, box: Box) -> np.ndarray:
    z, y, x = box.slices
    return np.asarray(store[x, y, z, 0].read().result()).transpose(2, 1, 0)


def _fill(store: Any, source: Source, place: Box, progress: Progress | None) -> None:
    boxes = list(Grid(source.volume.shape, BLOCK))
    for done, box in enumerate(boxes, 1):
        _put(store, box.shift(place.start), source.volume.read(box))
        if progress:
            progress(done, len(boxes))


def _fill_coarser(store: Any, finer_store: Any, finer: Scale, scale: Scale, source: Source) -> None:
    kind: Kind = "image" if source.kind == "image" else "labels"
    for cell in Grid(scale.box.shape, BLOCK):
        box = cell.shift(scale.box.start)
        start = triple(a * f for a, f in zip(box.start, scale.by, strict=True))
        stop = triple(b * f for b, f in zip(box.stop, scale.by, strict=True))
        wanted = Box(start, stop)
        there = wanted.clip(finer.box)
        front = [(a - w, 0) for a, w in zip(there.start, wanted.start, strict=True)]
        block = np.pad(_get(finer_store, there), front, mode="edge")
        _put(store, box, reduce(block, scale.by, kind))


# ---- segments --------------------------------------------------------------------------------


def _describe_segments(folder: Path, source: Source) -> None:
    rows: Sequence[Entry] = [e for e in (source.entries or tuple(source.object_entries)) if e.id]
    if not rows:
        return
    info = json.loads((folder / "info").read_text())
    (folder / "info").write_text(json.dumps({**info, PROPERTIES: PROPERTIES}))
    properties: list[dict[str, Any]] = [{"id": "label", "type": "label", "values": [e.name for e in rows]}]
    if source.kind == "objects":
        properties.append(segment_tags("class", [source.class_of[e.id] for e in rows]))
    inline = {"ids": [str(e.id) for e in rows], "properties": properties}
    (folder / PROPERTIES).mkdir()
    (folder / PROPERTIES / "info").write_text(
        json.dumps({"@type": "neuroglancer_segment_properties", "inline": inline})
    )
    colors = {str(e.id): "#" + bytes(e.rgb).hex() for e in rows}
    (folder / COLORS).write_text(json.dumps({"segmentColors": colors}, indent=1))
