"""TIFF for Fiji: ImageJ's own hyperstack, and OME-TIFF where the name ends in .ome.tif.

ImageJ's has calibration, unit, origin and the colours of the classes as a colour table, and ends at 4 GB.
OME-TIFF is opened through Bio-Formats and is a BigTIFF where it has to be. x and y of ImageJ count from
corners of pixels, and its origin is the pixel at which they are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile

from densem.errors import InputError
from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import GREY, Source, fitted
from densem.volumes.exports.staging import Staging
from densem.volumes.slabs import Progress, slabs

IMAGEJ_TYPES = ("uint8", "uint16", "int16", "float32")
OME_TYPES = ("uint8", "uint16", "uint32", "int16", "float32")
LARGEST_TIFF = 2**32 - 2**25
"""Bytes of voxels that a TIFF with offsets of 32 bits can hold, with room for its directories."""


def write_fiji(source: Source, area: Staging, options: ExportOptions, progress: Progress | None) -> list[str]:
    """Write ImageJ TIFF, or OME-TIFF by its name.

    Raises:
        InputError: if ids do not fit, or ImageJ TIFF ends before the volume does.
    """
    del options
    if area.target.name.lower().endswith((".ome.tif", ".ome.tiff")):
        return _write_ome(source, area, progress)
    dtype = fitted(
        source,
        IMAGEJ_TYPES,
        "an ImageJ TIFF",
        "give --out a name that ends in .ome.tif: OME-TIFF holds 32 bits",
    )
    size = source.volume.box.size * dtype.itemsize
    if size > LARGEST_TIFF:
        raise InputError(
            f"{area.target}: expected less than 4 GB, where ImageJ TIFF ends, found {size / 1e9:.3g} GB of "
            "voxels; give --out a name that ends in .ome.tif (a BigTIFF for Fiji's Bio-Formats), a "
            "--box, or a coarser --scale"
        )
    colors = _colormap(source) if dtype == np.uint8 and source.kind == "classes" else None
    _write(source, area, dtype, progress, imagej=True, metadata=_calibration(source, dtype), colormap=colors)
    return ["Fiji: File > Open; Image > Properties shows the voxel size in nm"]


def _write(source: Source, area: Staging, dtype: np.dtype, progress: Progress | None, **facts: Any) -> None:
    metadata, colormap, imagej = facts["metadata"], facts.get("colormap"), facts.get("imagej", False)
    _, height, width = source.volume.voxel_size_nm
    size = source.volume.box.size * dtype.itemsize
    bigtiff = not imagej and size > LARGEST_TIFF
    with tifffile.TiffWriter(area.main, bigtiff=bigtiff, imagej=imagej, ome=not imagej) as file:
        file.write(
            (plane for _, slab in slabs(source.volume, progress) for plane in slab.astype(dtype, copy=False)),
            shape=source.volume.shape,
            dtype=dtype,
            photometric="minisblack" if colormap is None else "palette",
            colormap=colormap,
            compression=None if imagej else "zlib",
            resolution=(1 / width, 1 / height),
            resolutionunit="NONE",  # pixels a nm; the unit stands in the description
            metadata=metadata,
        )


def _calibration(source: Source, dtype: np.dtype) -> dict[str, Any]:
    """What ImageJ's description says: spacing, unit, origin in pixels, range of display, names of classes."""
    volume = source.volume
    offset, size = volume.offset_nm, volume.voxel_size_nm
    zero = {f"{a}origin": -o / v for a, o, v in zip("zyx", offset, size, strict=True) if o}
    names = "".join(f"{e.id} = {e.name}\n" for e in source.entries)
    shown = {"min": 0.0, "max": 255.0} if source.kind == "classes" and dtype == np.uint8 else {}
    spacing = {"axes": "ZYX", "spacing": size[0], "unit": "nm"}
    return {**spacing, **zero, **shown, "Info": f"{source.title}\n{names}"}


def _colormap(source: Source) -> np.ndarray:
    """Colours of the 256 ids, uint16 (3, 256); ids that are no class are grey."""
    table = np.full((256, 3), GREY, np.uint16)
    for entry in source.entries:
        table[entry.id] = entry.rgb
    return table.T * 257


# ---- OME-TIFF --------------------------------------------------------------------------------


def _write_ome(source: Source, area: Staging, progress: Progress | None) -> list[str]:
    dtype = fitted(source, OME_TYPES, "OME-TIFF", "export a --box with fewer objects, or take ome-zarr")
    metadata: dict[str, Any] = {"axes": "ZYX", "Name": source.title}
    for axis, side in zip("ZYX", source.volume.voxel_size_nm, strict=True):
        metadata |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": "nm"}
    if any(source.volume.offset_nm):
        metadata["Plane"] = _positions(source)
    _write(source, area, dtype, progress, metadata=metadata)
    return ["Fiji: Plugins > Bio-Formats > Bio-Formats Importer (OME-TIFF keeps no colours of classes)"]


def _positions(source: Source) -> dict[str, Any]:
    """Where each slice lies, in nm."""
    oz, oy, ox = source.volume.offset_nm
    deep, height = source.volume.shape[0], source.volume.voxel_size_nm[0]
    places = {"X": [ox] * deep, "Y": [oy] * deep, "Z": [oz + z * height for z in range(deep)]}
    units = {f"Position{axis}Unit": ["nm"] * deep for axis in places}
    return {f"Position{axis}": values for axis, values in places.items()} | units
