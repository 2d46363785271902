"""MRC volumes: a clean header of 1024 bytes, lengths and origin in angstrom, modes 1, 2 and 6.

8 bits are written as 16 (mode 1): bytes are signed in some programs and unsigned in others. Row 0 here is row
0 of the file, which IMOD shows at the bottom. The origin is where the first voxel lies, the sign of MRC2014;
the flag that says so to IMOD, whose own sign is the opposite, is set.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import Source, fitted
from densem.volumes.exports.staging import Staging
from densem.volumes.slabs import Progress, slabs

MODES = {"int16": 1, "float32": 2, "uint16": 6}
TYPES = ("int16", "uint16", "float32")
ANGSTROM_PER_NM = 10.0
IMOD_STAMP = 1146047817
ORIGIN_IS_PLACE = 4
"""Bit of IMOD's flags: the origin has the sign of MRC2014."""
LITTLE_ENDIAN = (0x44, 0x44, 0, 0)


def write_mrc(source: Source, area: Staging, options: ExportOptions, progress: Progress | None) -> list[str]:
    """Write an MRC volume.

    Raises:
        InputError: if ids do not fit into 16 bits.
    """
    del options
    dtype = fitted(source, TYPES, "MRC", "export a --box with fewer objects")
    with area.main.open("wb") as file:
        header = _header(source, dtype)
        file.write(header.tobytes())
        _statistics(header, _voxels(file, source, dtype, progress), source.volume.box.size)
        file.seek(0)
        file.write(header.tobytes())
    return ["IMOD: 3dmod FILE; lengths are in angstrom; row 0 is at the bottom, as in all MRC files"]


def _header(source: Source, dtype: np.dtype) -> np.ndarray:
    """The header, a record of no axes; statistics are left at what says that nobody knows them."""
    header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    nz, ny, nx = source.volume.shape
    for prefix, sides in (("n", (nx, ny, nz)), ("m", (nx, ny, nz))):
        for axis, side in zip("xyz", sides, strict=True):
            header[f"{prefix}{axis}"] = side
    lengths = [n * v for n, v in zip(source.volume.shape, source.volume.voxel_size_nm, strict=True)]
    for axis, length, place in zip("zyx", lengths, source.volume.offset_nm, strict=True):
        header["cella"][axis] = length * ANGSTROM_PER_NM
        header["origin"][axis] = place * ANGSTROM_PER_NM
    for angle in ("alpha", "beta", "gamma"):
        header["cellb"][angle] = 90.0
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["mode"], header["ispg"], header["nversion"] = MODES[dtype.name], 1, 20141
    header["map"], header["machst"] = b"MAP ", LITTLE_ENDIAN
    stamp = np.array([IMOD_STAMP, ORIGIN_IS_PLACE], "<i4").tobytes()
    raw = bytearray(header.tobytes())
    raw[152:160] = stamp
    header = np.frombuffer(bytes(raw), HEADER_DTYPE.newbyteorder("<")).copy().reshape(())
    header["nlabl"], header["label"][0] = 1, f"densem: {source.title}"[:79].encode("ascii", "replace")
    return header


def _voxels(
    file: BinaryIO, source: Source, dtype: np.dtype, progress: Progress | None
) -> tuple[float, float, float, float]:
    """Append all voxels; gives minimum, maximum, sum and sum of squares."""
    low, high, total, squares = np.inf, -np.inf, 0.0, 0.0
    for _, slab in slabs(source.volume, progress):
        for plane in slab.astype(dtype.newbyteorder("<"), copy=False):
            low, high = min(low, float(plane.min())), max(high, float(plane.max()))
            total += float(plane.sum(dtype=np.float64))
            squares += float(np.square(plane, dtype=np.float64).sum())
            file.write(np.ascontiguousarray(plane).data.cast("B"))
    return low, high, total, squares


def _statistics(header: np.ndarray, sums: tuple[float, float, float, float], count: int) -> None:
    low, high, total, squares = sums
    mean = total / count
    header["dmin"], header["dmax"], header["dmean"] = low, high, mean
    header["rms"] = max(0.0, squares / count - mean**2) ** 0.5
