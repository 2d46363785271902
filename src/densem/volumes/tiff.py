"""TIFF stacks: plain, ImageJ and OME, one page or a whole series; read page by page.

Uncompressed series that lie in one piece are read straight from the file: an ImageJ hyperstack
above 4 GB has one directory only and the other slices follow as bare voxels.
"""

from __future__ import annotations

import logging
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from densem.blocks import Triple
from densem.errors import DensemError, FormatError, ShapeError, nearest
from densem.volumes.raw import RawArray
from densem.volumes.stacks import Stack
from densem.volumes.units import unit_in_nm
from densem.volumes.volume import Nanometres

SLICE_AXES = frozenset("ZQIT")
WHITE_IS_ZERO = 0
PALETTE = 3


def open_tiff(path: Path, dataset: str | None) -> Stack:
    """Open a TIFF file as a stack.

    Args:
        path: the file.
        dataset: number or name of the series to take where there are several.

    Raises:
        FormatError: if it is truncated, corrupt, or holds several series and none is named.
        ShapeError: if a series is not one volume.
    """
    with _quiet:
        try:
            tif = tifffile.TiffFile(path)
            _check_chain(tif, path)
            index, series = _choose(tif, path, dataset)
            return _stack(tif, index, series, path)
        except DensemError:
            raise
        except Exception as error:
            raise FormatError(
                f"{path}: expected a TIFF file, but it cannot be read ({error}); it is truncated or corrupt"
            ) from error


class _Quiet:
    """Keeps tifffile's log quiet, in all threads: what it logs about a broken file is raised here."""

    def __init__(self) -> None:
        self._log = logging.getLogger("tifffile")
        self._lock = threading.Lock()
        self._inside, self._level = 0, logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._level = self._log.level
                self._log.setLevel(logging.CRITICAL)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._log.setLevel(self._level)


_quiet = _Quiet()


def _stack(tif: Any, index: int, series: Any, path: Path) -> Stack:
    shape, samples = _layout(series, path)
    page = series.keyframe
    size, notes = _voxel_size(tif, index)
    if page.photometric == WHITE_IS_ZERO:
        notes += (
            "the file says that 0 is white: viewers show it inverted, the values are taken as they are",
        )
    return Stack(
        _voxels(tif, series, shape, samples, path),
        path,
        _name(tif),
        size,
        notes=notes,
        colormap=_colormap(page) if page.photometric == PALETTE else None,
    )


def _name(tif: Any) -> str:
    kind = "OME-TIFF" if tif.is_ome else "ImageJ TIFF" if tif.is_imagej else "TIFF"
    return f"{kind} (BigTIFF)" if tif.is_bigtiff else kind


def _colormap(page: Any) -> np.ndarray | None:
    """Colours of the indices, uint8 (256, 3)."""
    table = page.colormap
    if table is None or table.shape[1] > 256:
        return None
    colors = np.zeros((256, 3), np.uint8)
    colors[: table.shape[1]] = (table.T >> 8) if table.dtype.itemsize > 1 else table.T
    return colors


# ---- which series, of what shape -------------------------------------------------------------


def _check_chain(tif: Any, path: Path) -> None:
    """Refuse a file whose last directory points to another one that is not there."""
    place = tif.pages.next_page_offset
    tif.filehandle.seek(place)
    raw = tif.filehandle.read(tif.tiff.offsetsize)
    if len(raw) < tif.tiff.offsetsize or struct.unpack(tif.tiff.offsetformat, raw)[0]:
        raise FormatError(
            f"{path}: ends after {len(tif.pages)} slices although more should follow; the file is truncated, "
            "copy it again"
        )


def _choose(tif: Any, path: Path, dataset: str | None) -> tuple[int, Any]:
    """The series asked for, or the only one that is not a thumbnail."""
    numbered = list(enumerate(tif.series))
    if dataset is not None:
        named = [(i, s) for i, s in numbered if dataset in (str(i), s.name)]
        if not named:
            known = [str(i) for i, _ in numbered] + [s.name for _, s in numbered if s.name]
            raise FormatError(f"{path}: no image series {dataset!r} in it.{nearest(dataset, known)}")
        return named[0]
    kept = [(i, s) for i, s in numbered if not _is_thumbnail(s, tif.series)]
    if len(kept) != 1:
        found = "; ".join(f"{i}: {_describe(s)}" for i, s in kept[:8])
        raise FormatError(
            f"{path}: expected one image series, found {len(kept)} ({found}); slices of one stack must have "
            "one size and type, otherwise name a series with --dataset"
        )
    return kept[0]


def _describe(series: Any) -> str:
    return f"{series.name + ' ' if series.name else ''}{' x '.join(map(str, series.shape))} {series.dtype}"


def _is_thumbnail(series: Any, every: list[Any]) -> bool:
    """Marked as reduced, or one page not half as wide and high as the largest series."""
    height, width = _plane(series)
    tallest, widest = (max(v) for v in zip(*(_plane(s) for s in every), strict=True))
    small = len(series) == 1 and 2 * height <= tallest and 2 * width <= widest
    return len(every) > 1 and (small or bool(series.keyframe.is_reduced))


def _plane(series: Any) -> tuple[int, int]:
    return series.keyframe.imagelength, series.keyframe.imagewidth


def _layout(series: Any, path: Path) -> tuple[Triple, int]:
    """Shape in (z, y, x) and colour values per voxel."""
    sides = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if a in "YX" or n > 1]
    samples = next((n for a, n in sides if a == "S"), 1)
    slices = [(a, n) for a, n in sides if a not in "YXS"]
    if len(slices) > 1 or any(a not in SLICE_AXES for a, _ in slices):
        axes = ", ".join(f"{a} {n}" for a, n in sides)
        raise ShapeError(
            f"{path}: expected one volume with axes (z, y, x), found axes {axes}; take out one channel and "
            "one time point first"
        )
    height, width = (next(n for a, n in sides if a == axis) for axis in "YX")
    return (slices[0][1] if slices else 1, height, width), samples


# ---- voxels ----------------------------------------------------------------------------------


def _voxels(tif: Any, series: Any, shape: Triple, samples: int, path: Path) -> Any:
    _check_count(tif, shape, path)
    whole = shape if samples == 1 else (*shape, samples)
    plain = series.keyframe.shape in (whole[1:], whole[1:3])
    offset = series.dataoffset
    if offset is not None and plain and all(p is None or p.parent is tif for p in series.pages):
        return RawArray(path, offset, whole, series.dtype.newbyteorder(tif.byteorder))
    pages = list(series.pages)
    if len(pages) != shape[0] or None in pages:
        raise FormatError(
            f"{path}: expected {shape[0]} slices, found {sum(p is not None for p in pages)}; the file is "
            "truncated, or other files of its set are missing"
        )
    _check_extent(pages, path)
    for parent in {page.parent for page in pages}:
        parent.filehandle.set_lock(True)  # slices may be read in several threads
    return PageArray(tif, pages, whole, series.dtype)


def _check_count(tif: Any, shape: Triple, path: Path) -> None:
    """An ImageJ header tells how many slices there should be."""
    told = (tif.imagej_metadata or {}).get("images") if tif.is_imagej else None
    if told and int(told) > shape[0]:
        raise FormatError(
            f"{path}: expected {told} slices as its ImageJ header says, found {shape[0]}; the file is "
            "truncated"
        )


def _check_extent(pages: list[Any], path: Path) -> None:
    for z, page in enumerate(pages):
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if not ends or max(ends) > page.parent.filehandle.size:
            raise FormatError(
                f"{path}: slice {z} of {len(pages)} reaches beyond the end of the file; it is truncated, "
                "copy it again"
            )


@dataclass(frozen=True, eq=False)
class PageArray:
    """Slices that are decoded page by page; (Z, Y, X) or (Z, Y, X, S)."""

    tif: Any
    pages: list[Any]
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """The voxels of a box; whole slices are decoded, one at a time."""
        chosen = range(*key[0].indices(self.shape[0]))
        height, width = (len(range(*k.indices(n))) for k, n in zip(key[1:], self.shape[1:3], strict=True))
        out = np.empty((len(chosen), height, width, *self.shape[3:]), self.dtype)
        for place, z in zip(out, chosen, strict=True):
            place[...] = self._slice(z)[key[1:]]
        return out

    def _slice(self, z: int) -> np.ndarray:
        with _quiet:
            image = np.asarray(self.pages[z].asarray())
        if image.shape != self.shape[1:] and image.ndim == len(self.shape) - 1 == 3:
            image = np.moveaxis(image, 0, -1)
        return image.reshape(self.shape[1:])


# ---- voxel size ------------------------------------------------------------------------------


def _voxel_size(tif: Any, index: int) -> tuple[Nanometres | None, tuple[str, ...]]:
    """Voxel size in nm if the file tells all three sides with a unit, and what it tells otherwise."""
    sides = _ome_sides(tif, index) if tif.is_ome else _resolution_sides(tif, index)
    if sides is None:
        return None, ()
    z, y, x = (None if v is None or not np.isfinite(v) or v <= 0 else float(v) for v in sides)
    if z is not None and y is not None and x is not None:
        return (z, y, x), ()
    if y is not None and x is not None:
        return None, (f"it says {y:g} x {x:g} nm in y and x, but no distance of slices",)
    return None, ()


Sides = tuple[float | None, float | None, float | None]


def _ome_sides(tif: Any, index: int) -> Sides | None:
    """From `PhysicalSizeZ` and its unit, which is the micrometre where none is given."""
    root = ElementTree.fromstring(tif.ome_metadata)
    pixels = [e for e in root.iter() if e.tag.endswith("}Pixels") or e.tag == "Pixels"]
    if index >= len(pixels):
        return None

    def side(axis: str) -> float | None:
        value = pixels[index].get(f"PhysicalSize{axis}")
        unit = unit_in_nm(pixels[index].get(f"PhysicalSize{axis}Unit", "µm"))
        return float(value) * unit if value and unit else None

    return side("Z"), side("Y"), side("X")


def _resolution_sides(tif: Any, index: int) -> Sides | None:
    """From the resolution tags, and unit and spacing of the ImageJ or tifffile description."""
    told = _description(tif, index)
    unit = unit_in_nm(told.get("unit"))
    if unit is None:
        return None
    spacing = told.get("spacing")
    z = abs(float(spacing)) * unit if spacing is not None else None
    tags = tif.series[index].keyframe.tags
    y, x = (_pixel(tags.get(f"{axis}Resolution"), unit) for axis in "YX")
    return z, y, x


def _description(tif: Any, index: int) -> dict[str, Any]:
    if tif.is_imagej:
        return tif.imagej_metadata or {}
    shaped = tif.shaped_metadata or ()
    return shaped[index] if index < len(shaped) else {}


def _pixel(tag: Any, unit: float) -> float | None:
    """Side of a pixel in nm from pixels per unit, a fraction."""
    if tag is None:
        return None
    count, per = tag.value
    return per / count * unit if count else None
