"""Gatan DM3 and DM4 files: the largest image of the file, voxel size from its calibration tags."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ncempy.io.dm import fileDM

from densem.errors import FormatError, ShapeError
from densem.volumes.raw import RawArray
from densem.volumes.stacks import Stack
from densem.volumes.units import unit_in_nm
from densem.volumes.volume import Nanometres

DTYPES = {
    1: np.int16,
    2: np.float32,
    6: np.uint8,
    7: np.int32,
    9: np.int8,
    10: np.uint16,
    11: np.uint32,
    12: np.float64,
    14: np.uint8,
}
"""Gatan's numbers for voxel types; 23 (RGB) is a thumbnail and is passed over."""


def open_gatan(path: Path, dataset: str | None) -> Stack:
    """Open a DM3 or DM4 file as a stack; an image of two axes is one slice.

    Raises:
        FormatError: if it is no DM file, truncated, or holds no image of a readable type.
        ShapeError: if the image has more than three axes.
    """
    del dataset
    tags = _tags(path)
    images = [i for i in _image_numbers(tags) if tags[f"{_data(i)}.DataType"] in DTYPES]
    if not images:
        raise FormatError(f"{path}: expected a DM file with a grey image, found none in it")
    number = max(images, key=lambda i: int(np.prod(_sides(tags, i))))
    sides = _sides(tags, number)
    if sum(s > 1 for s in sides) > 3:
        raise ShapeError(f"{path}: expected at most three axes, found {' x '.join(map(str, sides))}")
    shape = (*(1,) * (3 - len(sides)), *sides)[-3:]
    kind = np.dtype(DTYPES[int(tags[f"{_data(number)}.DataType"])]).newbyteorder("<")
    voxels = RawArray(path, int(tags[f"{_data(number)}.Data.arrayOffset"]), shape, kind)
    size, notes = _voxel_size(tags, number)
    return Stack(voxels, path, f"Gatan {path.suffix[1:].upper()}", size, notes=notes)


def _tags(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as file:
                return dict(fileDM(file).allTags)
    except Exception as error:
        raise FormatError(
            f"{path}: expected a Gatan DM3 or DM4 file, but its tags cannot be read "
            f"({error or type(error).__name__}); it is truncated or corrupt"
        ) from error


def _data(number: int) -> str:
    return f".ImageList.{number}.ImageData"


def _image_numbers(tags: dict[str, Any]) -> list[int]:
    last = ".ImageData.DataType"
    return [int(k.split(".")[2]) for k in tags if k.startswith(".ImageList.") and k.endswith(last)]


def _sides(tags: dict[str, Any], number: int) -> tuple[int, ...]:
    """Side lengths, slowest axis first; the file lists x first."""
    sides: list[int] = []
    while (key := f"{_data(number)}.Dimensions.{len(sides) + 1}") in tags:
        sides.append(int(tags[key]))
    return tuple(reversed(sides))


def _voxel_size(tags: dict[str, Any], number: int) -> tuple[Nanometres | None, tuple[str, ...]]:
    """In nm, where all three axes have a scale with a unit of length."""
    found: list[float | None] = []
    for axis in (3, 2, 1):
        place = f"{_data(number)}.Calibrations.Dimension.{axis}"
        unit = unit_in_nm(tags.get(f"{place}.Units"))
        scale = abs(float(tags.get(f"{place}.Scale", 0)))
        found.append(scale * unit if unit and scale > 0 else None)
    z, y, x = found
    if z is not None and y is not None and x is not None:
        return (z, y, x), ()
    if y is not None and x is not None:
        return None, (f"it says {y:g} x {x:g} nm in y and x, but no distance of slices",)
    return None, ()
