"""OME-Zarr for napari, WEBKNOSSOS and Neuroglancer: 0.5 (Zarr 3, sharded), and 0.4 (Zarr 2).

Labels carry the colours and names of their classes as `image-label`, and are called "labels": WEBKNOSSOS
takes images of that name for segmentations. The translation of a level is that of densem's own volumes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc

from densem.blocks import Box, Grid, Triple, triple
from densem.volumes import ome_zarr
from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import Source
from densem.volumes.exports.staging import Staging
from densem.volumes.intake import Draft, LabelRows, Ledger, Writing, check_disk, write_volume
from densem.volumes.ome_zarr import Kind
from densem.volumes.pyramid import coarser_levels, reduce
from densem.volumes.slabs import Progress
from densem.volumes.volume import Nanometres, Volume

CHUNK: Triple = (32, 256, 256)
"""Chunks of 0.4, where each is a file."""
SLAB_ROWS = 1024


def write_ome_zarr(
    source: Source, area: Staging, options: ExportOptions, progress: Progress | None
) -> list[str]:
    """Write OME-Zarr 0.5 with a pyramid."""
    del options
    volume, kind = source.volume, _kind(source)
    draft = Draft(area.main, volume.shape, volume.dtype, volume.voxel_size_nm, volume.offset_nm, kind)
    check_disk(replace(draft, target=area.target))  # before it is done under the hidden name
    record = _record(source)
    ledger = Ledger(lambda written: record)
    writing = Writing(record.pop("provenance"), progress=progress)
    write_volume(draft, lambda box: (volume.read(box), None), ledger, writing, _rows(source))
    group = zarr.open_group(area.main, mode="r+")
    ome: Any = group.attrs["ome"]
    ome["multiscales"][0]["name"] = _name(source)
    if "image-label" in ome:
        ome["image-label"] = _image_label(source)
    group.attrs["ome"] = ome
    return [f"napari: napari --plugin napari-ome-zarr {area.target}"]


def _kind(source: Source) -> Kind:
    return "image" if source.kind == "image" else "labels"


def _name(source: Source) -> str:
    return source.title if source.kind == "image" else "labels"


def _rows(source: Source) -> LabelRows | None:
    return [(e.id, e.name, e.rgb) for e in source.entries] or None


def _image_label(source: Source) -> dict[str, Any]:
    """Names and colours; the background is transparent, as it would hide the image under the labels."""
    assert source.schema is not None
    told = ome_zarr.image_label(_rows(source) or [])
    for row in told["colors"]:
        row["rgba"][3] = 0 if row["label-value"] == source.schema.background_id else 255
    return told


def _record(source: Source) -> dict[str, Any]:
    """Densem's own attributes, so that an export can be imported again."""
    known = source.volume.attributes
    kept = {"intensity": known["intensity"]} if source.kind == "image" and "intensity" in known else {}
    kind = {"image": "image", "classes": "labels", "objects": "objects"}[source.kind]
    provenance = {"exported_from": source.volume.id, **source.volume.provenance}
    return {"kind": kind, **kept, "provenance": provenance}


# ---- 0.4 -------------------------------------------------------------------------------------


def write_ome_zarr_04(
    source: Source, area: Staging, options: ExportOptions, progress: Progress | None
) -> list[str]:
    """Write OME-Zarr 0.4 with a pyramid, each level from the one before."""
    del options
    volume, kind = source.volume, _kind(source)
    group = zarr.open_group(area.main, mode="w", zarr_format=2)
    levels: list[tuple[str, Nanometres]] = [("0", volume.voxel_size_nm)]
    coarser = list(coarser_levels(volume.shape, volume.voxel_size_nm))
    _fill(group, "0", volume, progress)
    finer = volume.shape
    for level in coarser:
        name = str(len(levels))
        _fill_coarser(group, name, (finer, level.shape, level.by), kind)
        levels.append((name, level.voxel_size_nm))
        finer = level.shape
    _describe_04(area.main, source, levels)
    return ["OME-Zarr 0.4: WEBKNOSSOS, older versions of napari-ome-zarr, Fiji (MoBIE, BigDataViewer)"]


def _create(group: zarr.Group, name: str, shape: Triple, dtype: np.dtype) -> zarr.Array:
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype.newbyteorder("<"),
        chunks=triple(min(c, s) for c, s in zip(CHUNK, shape, strict=True)),
        compressors=Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def _boxes(shape: Triple) -> Grid:
    return Grid(shape, (CHUNK[0], SLAB_ROWS, SLAB_ROWS))


def _fill(group: zarr.Group, name: str, volume: Volume, progress: Progress | None) -> None:
    array = _create(group, name, volume.shape, volume.dtype)
    boxes = list(_boxes(volume.shape))
    for done, box in enumerate(boxes, 1):
        array[box.slices] = volume.read(box)
        if progress:
            progress(done, len(boxes))


def _fill_coarser(group: zarr.Group, name: str, step: tuple[Triple, Triple, Triple], kind: Kind) -> None:
    """Write a level from the one before: shapes of both, and how many voxels become one."""
    finer, shape, by = step
    source = group[str(int(name) - 1)]
    assert isinstance(source, zarr.Array)
    array = _create(group, name, shape, source.dtype)
    for box in _boxes(shape):
        start = triple(a * f for a, f in zip(box.start, by, strict=True))
        stop = triple(b * f for b, f in zip(box.stop, by, strict=True))
        read = Box(start, stop).clip(Box.of_shape(finer))
        array[box.slices] = reduce(np.asarray(source[read.slices]), by, kind)


def _describe_04(folder: Path, source: Source, levels: list[tuple[str, Nanometres]]) -> None:
    ome = ome_zarr.multiscales(_name(source), levels, source.volume.offset_nm)
    scales = [{**scale, "version": "0.4"} for scale in ome["multiscales"]]
    attributes: dict[str, Any] = {"multiscales": scales, "densem": _record(source)}
    if source.entries:
        attributes["image-label"] = {**_image_label(source), "version": "0.4"}
    zarr.open_group(folder, mode="r+").attrs.put(attributes)
