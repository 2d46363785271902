"""Stack: a file of images as it came from a microscope or a tool, read lazily, slab by slab.

It knows what the file says (voxel size or none, colours, notes) and guesses nothing. `open_stack`
chooses the reader by the end of the name.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box, Triple, triple
from densem.errors import DensemError, FormatError, InputError, NotFoundError, ShapeError, VoxelSizeError
from densem.volumes.volume import Nanometres, Volume, check_voxel_size

logger = logging.getLogger(__name__)

TOLERANCE = 0.01
"""Voxel sizes that differ by less, relatively, are the same."""

READERS = {
    ".tif": ("tiff", "open_tiff"),
    ".tiff": ("tiff", "open_tiff"),
    ".png": ("slices", "open_png"),
    ".mrc": ("mrc", "open_mrc"),
    ".rec": ("mrc", "open_mrc"),
    ".st": ("mrc", "open_mrc"),
    ".map": ("mrc", "open_mrc"),
    ".h5": ("hdf5", "open_hdf5"),
    ".hdf5": ("hdf5", "open_hdf5"),
    ".hdf": ("hdf5", "open_hdf5"),
    ".dm3": ("gatan", "open_gatan"),
    ".dm4": ("gatan", "open_gatan"),
    ".json": ("run_length", "open_run_length"),
}
"""End of a file's name: module of this folder and its function `(path, dataset) -> Stack`."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Images in (z, y, x), with what their file says about them.

    Attributes:
        array: anything indexable by three slices, (Z, Y, X) or, in colour, (Z, Y, X, S).
        path: the file or folder.
        format: its format, for people.
        voxel_size_nm: what the file says, or None.
        offset_nm: where the first voxel of the file lies.
        notes: what a user should know, one sentence each.
        colormap: uint8 (256, 3) where the values index colours.
        first: which slice of the file is slice 0 here.
        depth: how many slices are taken; all that follow without it.
        record: densem's own attributes, for its own volumes.
        address: path and dataset it was opened from, so that another process can open it again.
        whole: why the file is read as a whole to open it, so that only one process should; empty otherwise.
    """

    array: Any
    path: Path
    format: str
    voxel_size_nm: Nanometres | None = None
    offset_nm: Nanometres = (0.0, 0.0, 0.0)
    notes: tuple[str, ...] = ()
    colormap: np.ndarray | None = None
    first: int = 0
    depth: int | None = None
    record: dict[str, Any] = field(default_factory=dict)
    address: tuple[Path, str | None] | None = None
    whole: str = ""

    def __post_init__(self) -> None:
        if len(self.array.shape) not in (3, 4) or 0 in self.array.shape:
            raise ShapeError(
                f"{self.path}: expected images with axes (z, y, x), found shape {tuple(self.array.shape)}"
            )

    @property
    def shape(self) -> Triple:
        """Side lengths in voxels, without colours."""
        deep, height, width = triple(self.array.shape[:3])
        return (deep - self.first if self.depth is None else self.depth, height, width)

    @property
    def samples(self) -> int:
        """Values of a voxel: 1, or 3 and 4 for RGB and RGBA."""
        return int(self.array.shape[3]) if len(self.array.shape) == 4 else 1

    @property
    def dtype(self) -> np.dtype:
        """Type of the values, in the machine's byte order."""
        return np.dtype(self.array.dtype).newbyteorder("=")

    def read(self, box: Box | None = None) -> np.ndarray:
        """The voxels of a box, (Z, Y, X) or (Z, Y, X, S); the whole stack without one.

        Raises:
            ShapeError: if the box reaches outside.
            FormatError: if the file cannot be read there.
        """
        box = Box.of_shape(self.shape) if box is None else box
        if not Box.of_shape(self.shape).contains(box):
            raise ShapeError(f"{self.path}: box {box} reaches outside the stack of shape {self.shape}")
        inner = box.shift((self.first, 0, 0))
        try:
            block = np.asarray(self.array[inner.slices])
        except (DensemError, MemoryError):
            raise
        except Exception as error:
            raise FormatError(
                f"{self.path}: {self.format} slices {inner.start[0]}:{inner.stop[0]} cannot be read "
                f"({error}); the file is truncated or corrupt"
            ) from error
        return block.astype(self.dtype, copy=False)

    def part(self, slices: slice) -> Stack:
        """The slices `start:stop` of it, in place.

        Raises:
            InputError: if they are none, or reach outside the stack.
        """
        deep = self.shape[0]
        start = 0 if slices.start is None else slices.start
        stop = deep if slices.stop is None else slices.stop
        if slices.step not in (None, 1) or not 0 <= start < stop <= deep:
            raise InputError(
                f"{self.path}: expected slices a:b with 0 <= a < b <= {deep}, found {start}:{stop}; "
                "change --slices"
            )
        return replace(self, first=self.first + start, depth=stop - start)

    def origin_nm(self, voxel_size_nm: Nanometres) -> Nanometres:
        """Where slice 0 lies, with voxels of that size: a part keeps its place in the file."""
        z, y, x = self.offset_nm
        return z + self.first * voxel_size_nm[0], y, x

    def volume(self) -> Volume:
        """As a volume, without copying.

        Raises:
            ShapeError, VoxelSizeError: if it is in colour, or has no voxel size.
        """
        check_grey(self)
        size = resolve_voxel_size(self.voxel_size_nm, None, str(self.path), self.notes)
        whole = Volume(self.array, size, self.offset_nm, self.path, dict(self.record))
        place = Box.of_shape(self.shape).shift((self.first, 0, 0))
        return whole if place == whole.box else whole.part(place)


def check_grey(stack: Stack) -> None:
    """Refuse colours where grey values are expected.

    Raises:
        ShapeError: naming what was found and what to do.
    """
    if stack.samples > 1:
        raise ShapeError(
            f"{stack.path}: expected grey values, found {stack.samples} colour values per voxel; convert it "
            "to 8-bit grey, or give --palette if these are labels"
        )


def resolve_voxel_size(
    stored: Nanometres | None, given: object, where: str, notes: tuple[str, ...] = ()
) -> Nanometres:
    """The voxel size to use: what the user gave, else what the file says. Never guessed.

    A given size that differs from the stored one by more than 1 % is used, with a warning in the log.

    Raises:
        VoxelSizeError: if there is neither, naming the flag.
    """
    if given is None:
        if stored is None:
            told = f" ({'; '.join(notes)})" if notes else ""
            raise VoxelSizeError(
                f"{where}: expected a voxel size in the file, found none{told}; give it with "
                "--voxel-size Z Y X in nm"
            )
        return check_voxel_size(stored, where)
    size = check_voxel_size(given, where)
    if stored and any(abs(a / b - 1) > TOLERANCE for a, b in zip(size, stored, strict=True)):
        logger.warning(
            "%s: the file says a voxel is %s nm (z y x), --voxel-size says %s nm; taking the latter",
            where,
            " x ".join(f"{v:g}" for v in stored),
            " x ".join(f"{v:g}" for v in size),
        )
    return size


def open_stack(
    path: Path | str,
    dataset: str | None = None,
    voxel_size_nm: object = None,
    slices: slice | None = None,
) -> Stack:
    """Open images or labels of any readable format; voxels are read when asked for.

    Args:
        path: a TIFF, MRC, HDF5, DM3 or DM4 file, run-length JSON, a Zarr volume, or a folder of slices.
        dataset: which array of an HDF5 or Zarr file, or which series of a TIFF.
        voxel_size_nm: (z, y, x) that overrides what the file says.
        slices: the part `start:stop` to take.

    Raises:
        NotFoundError, FormatError, ShapeError, VoxelSizeError, InputError: with what to do.
    """
    path = Path(path)
    stack = replace(_reader(path)(path, dataset), address=(path, dataset))
    if voxel_size_nm is not None:
        size = resolve_voxel_size(stack.voxel_size_nm, voxel_size_nm, str(path))
        stack = replace(stack, voxel_size_nm=size)
    return stack if slices is None else stack.part(slices)


def _reader(path: Path) -> Callable[[Path, str | None], Stack]:
    if not path.exists():
        raise NotFoundError(f"{path}: no file or folder there")
    if path.is_dir():
        zarr = path.suffix == ".zarr" or any((path / n).exists() for n in ("zarr.json", ".zgroup", ".zarray"))
        place = ("zarr_stack", "open_zarr") if zarr else ("slices", "open_folder")
    else:
        if path.suffix.lower() not in READERS:
            known = " ".join(sorted(READERS))
            raise FormatError(
                f"{path}: expected a name that ends in one of {known}, or a .zarr folder or a folder of "
                f"slices, found {path.suffix or 'no ending'!r}"
            )
        if path.stat().st_size == 0:
            raise FormatError(f"{path}: the file is empty (0 bytes); copy it again")
        place = READERS[path.suffix.lower()]
    module = importlib.import_module(f"densem.volumes.{place[0]}")
    reader: Callable[[Path, str | None], Stack] = getattr(module, place[1])
    return reader
