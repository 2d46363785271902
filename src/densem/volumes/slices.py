"""A folder of numbered slices (PNG, TIFF, DM3 or DM4), one file each, in the order of their numbers.

Names must be alike but for their number: what varies between all of them is the number. Gaps are
refused: a slice that is left out silently would shift everything behind it.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from densem.errors import FormatError, ShapeError
from densem.volumes.stacks import READERS, Stack

SUFFIXES = (".png", ".tif", ".tiff", ".dm3", ".dm4")
GREY_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F")


@dataclass(frozen=True, eq=False)
class PngArray:
    """One PNG image as (1, Y, X) or (1, Y, X, S)."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """The voxels of a box."""
        with Image.open(self.path) as image:
            values = np.asarray(image)
        return values.astype(self.dtype, copy=False)[None][key]


def open_png(path: Path, dataset: str | None) -> Stack:
    """Open one PNG image as a stack of one slice.

    Raises:
        FormatError: if it cannot be read.
    """
    del dataset
    try:
        with Image.open(path) as image:
            mode, (width, height), palette = image.mode, image.size, image.getpalette("RGB")
    except Exception as error:
        raise FormatError(
            f"{path}: expected a PNG image, but it cannot be read ({error}); it is truncated or corrupt"
        ) from None
    samples = () if mode in GREY_MODES else (len(mode),)
    kind = np.dtype(
        np.uint8 if mode in ("1", "L", "P") or samples else np.float32 if mode == "F" else np.uint16
    )
    colors = None
    if mode == "P" and palette:
        colors = np.zeros((256, 3), np.uint8)
        colors[: len(palette) // 3] = np.array(palette, np.uint8).reshape(-1, 3)
    return Stack(PngArray(path, (1, height, width, *samples), kind), path, "PNG", colormap=colors)


@dataclass(frozen=True, eq=False)
class SliceArray:
    """Slices that are read from one file each."""

    files: tuple[Path, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """The voxels of a box, file by file."""
        chosen = range(*key[0].indices(self.shape[0]))
        height, width = (len(range(*k.indices(n))) for k, n in zip(key[1:], self.shape[1:3], strict=True))
        out = np.empty((len(chosen), height, width, *self.shape[3:]), self.dtype)
        for place, z in zip(out, chosen, strict=True):
            place[...] = _open(self.files[z]).read()[(0, *key[1:])]
        return out


def open_folder(path: Path, dataset: str | None) -> Stack:
    """Open a folder of numbered slices as a stack.

    Raises:
        FormatError: if there are none, they are of several kinds, or their numbers have gaps.
        ShapeError: if slices differ in size, type or colours; names the first that differs.
    """
    del dataset
    files = _numbered(path)
    first = _open(files[0])
    for file in files:
        _check_alike(first, _open(file))
    shape = (len(files), *first.array.shape[1:])
    return Stack(
        SliceArray(files, shape, first.dtype),
        path,
        f"folder of {len(files)} {first.format} slices",
        notes=first.notes,
        colormap=first.colormap,
    )


def _open(file: Path) -> Stack:
    module, function = READERS[file.suffix.lower()]
    stack: Stack = getattr(importlib.import_module(f"densem.volumes.{module}"), function)(file, None)
    return stack


def _check_alike(first: Stack, other: Stack) -> None:
    if other.shape[0] != 1:
        raise ShapeError(
            f"{other.path}: expected one slice in each file of the folder, found {other.shape[0]}"
        )
    if (other.array.shape, other.dtype) != (first.array.shape, first.dtype):
        raise ShapeError(
            f"{other.path}: expected {_text(first)} as in {first.path.name}, found {_text(other)}; slices of "
            "one stack must have one size and type"
        )


def _text(stack: Stack) -> str:
    return f"{' x '.join(map(str, stack.array.shape[1:]))} {stack.dtype}"


# ---- the order of the files ------------------------------------------------------------------


def _numbered(folder: Path) -> tuple[Path, ...]:
    """The slices of a folder in the order of their numbers."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise FormatError(
            f"{folder}: expected numbered slices ({' '.join(SUFFIXES)}), found none in the folder"
        )
    kinds = sorted({f.suffix.lower() for f in files})
    if len(kinds) > 1:
        raise FormatError(
            f"{folder}: expected slices of one kind, found {' and '.join(kinds)}; remove the others"
        )
    if len(files) == 1:
        return (files[0],)
    numbers = _numbers(sorted(files), folder)
    _check_gaps(sorted(numbers.values()), folder)
    return tuple(sorted(files, key=lambda f: numbers[f]))


def _numbers(files: list[Path], folder: Path) -> dict[Path, int]:
    """The number in each name: the first run of digits that differs between all of them."""
    parts = {f: re.split(r"(\d+)", f.stem) for f in files}
    pattern = parts[files[0]][::2]
    for f in files:
        if parts[f][::2] != pattern or len(parts[f]) < 3:
            raise FormatError(
                f"{folder}: expected names that differ in a number only, found {files[0].name} and {f.name}; "
                "keep one stack in a folder"
            )
    for place in range(1, len(parts[files[0]]), 2):
        numbers = {f: int(p[place]) for f, p in parts.items()}
        if len(set(numbers.values())) == len(files):
            return numbers
    raise FormatError(
        f"{folder}: expected one number that differs between all names, found none (for example "
        f"{files[0].name} and {files[1].name}); keep one stack in a folder"
    )


def _check_gaps(numbers: list[int], folder: Path) -> None:
    steps = np.diff(numbers)
    step = int(steps.min())
    if (steps == step).all():
        return
    missing = sorted(set(range(numbers[0], numbers[-1] + 1, step)) - set(numbers))
    listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
    raise FormatError(
        f"{folder}: expected slices {numbers[0]} to {numbers[-1]} without gaps, missing {listed or 'some'}; "
        "put a copy of the neighbouring slice there, or import the parts one by one"
    )
