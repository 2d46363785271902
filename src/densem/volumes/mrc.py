"""MRC volumes: header of 1024 bytes, lengths in angstrom, modes 0, 1, 2, 6 and 12.

Mode 0 is signed by the standard; files of IMOD say in their header that it is not. The y axis of
MRC points up: the first row of the file is row 0 here, viewers of the format show it at the bottom.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from densem.errors import FormatError, ShapeError
from densem.volumes.raw import RawArray
from densem.volumes.stacks import Stack
from densem.volumes.volume import Nanometres

HEADER = 1024
DTYPES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}
IMOD_STAMP = 1146047817
"""Bytes 152 to 155 of a header that IMOD wrote; bit 0 of the next four says that mode 0 is signed."""
FLIPPED = "y points up in MRC files: viewers of the format show row 0 at the bottom"


def open_mrc(path: Path, dataset: str | None) -> Stack:
    """Open an MRC file as a stack.

    Raises:
        FormatError: if it is no MRC file, truncated, or of a mode that is not read.
        ShapeError: if it holds a stack of volumes, or its axes are permuted.
    """
    del dataset
    header = _header(path)
    shape = _shape(header, path)
    kind = np.dtype(_dtype(header, path)).newbyteorder(_order(header))
    voxels = RawArray(path, HEADER + int(header.nsymbt), shape, kind)
    size, notes = _voxel_size(header)
    return Stack(voxels, path, f"MRC (mode {int(header.mode)})", size, notes=(*notes, FLIPPED))


def _header(path: Path) -> Any:
    """The first 1024 bytes as a record, in the byte order in which they make sense."""
    with path.open("rb") as file:
        raw = file.read(HEADER)
    if len(raw) < HEADER:
        raise FormatError(
            f"{path}: expected an MRC file with a header of {HEADER} bytes, found {len(raw)}; it is truncated"
        )
    for order in "<>":
        header = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order)).view(np.recarray)[0]
        if _makes_sense(header):
            return header
    sides = np.frombuffer(raw[:12], "<i4")[::-1]
    raise FormatError(
        f"{path}: expected an MRC file, found {' x '.join(map(str, sides))} voxels in its header; it is "
        "corrupt or of another format"
    )


def _order(header: Any) -> str:
    return ">" if header.dtype["nx"].byteorder == ">" else "<"


def _makes_sense(header: Any) -> bool:
    axes = sorted((int(header.mapc), int(header.mapr), int(header.maps)))
    sides = (int(header.nx), int(header.ny), int(header.nz))
    return min(sides) > 0 and int(header.nsymbt) >= 0 and axes in ([1, 2, 3], [0, 0, 0])


def _shape(header: Any, path: Path) -> tuple[int, int, int]:
    order = (int(header.mapc), int(header.mapr), int(header.maps))
    if order not in ((1, 2, 3), (0, 0, 0)):
        raise ShapeError(f"{path}: expected columns, rows, sections to be x, y, z (1 2 3), found {order}")
    if int(header.ispg) > 400:
        raise ShapeError(f"{path}: expected one volume, found a stack of volumes; extract one first")
    return int(header.nz), int(header.ny), int(header.nx)


def _dtype(header: Any, path: Path) -> Any:
    mode = int(header.mode)
    if mode not in DTYPES:
        known = ", ".join(map(str, DTYPES))
        raise FormatError(f"{path}: expected one of the MRC modes {known}, found mode {mode}; convert it")
    stamp, flags = np.frombuffer(header.tobytes()[152:160], f"{_order(header)}i4")
    if mode == 0 and int(stamp) == IMOD_STAMP and not int(flags) & 1:
        return np.uint8
    return DTYPES[mode]


def _voxel_size(header: Any) -> tuple[Nanometres | None, tuple[str, ...]]:
    """In nm; none where the cell is empty, or a voxel is 1 angstrom: what IMOD writes for unknown."""
    cells = [(header.cella.z, header.mz), (header.cella.y, header.my), (header.cella.x, header.mx)]
    if any(not np.isfinite(length) or length <= 0 or count <= 0 for length, count in cells):
        return None, ()
    z, y, x = (float(length) / int(count) / 10 for length, count in cells)
    if all(abs(v - 0.1) < 1e-6 for v in (z, y, x)):
        return None, ("its header says 1 x 1 x 1 angstrom, which programs write for an unknown size",)
    return (z, y, x), ()
