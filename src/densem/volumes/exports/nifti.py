"""NIfTI-1: RAS, so that x and y of the volume point to negative x and y there, and a slice looks as in Fiji.

The affine gives the centre of the first voxel. NIfTI has no nanometre: lengths are mm, or µm on request.
Labels have a colour table for 3D Slicer beside them. Header: https://nifti.nimh.nih.gov/nifti-1.
"""

from __future__ import annotations

import contextlib
import gzip
import struct

import numpy as np

from densem.errors import InputError
from densem.volumes.exports.color_table import write_color_table
from densem.volumes.exports.options import NM_PER, ExportOptions
from densem.volumes.exports.raw_stream import write_voxels
from densem.volumes.exports.source import Source, fitted
from densem.volumes.exports.staging import Staging
from densem.volumes.slabs import Progress

CODES = {"uint8": 2, "int16": 4, "float32": 16, "uint16": 512, "uint32": 768}
UNITS = {"mm": 2, "um": 3}
LONGEST_SIDE = 32767
ALIGNED = 2
"""Code of a form whose coordinates are those of some other file, such as the image of labels."""
LABELS = 1002
"""Intent of voxels that are labels."""
COMPRESSION = 3


def write_nifti(
    source: Source, area: Staging, options: ExportOptions, progress: Progress | None
) -> list[str]:
    """Write a NIfTI-1 volume in one file, gzipped if its name ends in .gz.

    Raises:
        InputError: if a side is too long, or ids do not fit.
    """
    if max(source.volume.shape) > LONGEST_SIDE:
        raise InputError(
            f"{source.title}: expected sides of at most {LONGEST_SIDE} voxels, the longest of NIfTI-1, found "
            f"{' x '.join(map(str, source.volume.shape))}; export a --box, a coarser --scale, or take nrrd"
        )
    dtype = fitted(source, tuple(CODES), "NIfTI", "export a --box with fewer objects")
    unit = options.unit or "mm"
    notes = [f"NIfTI: RAS, lengths in {unit}"]
    if source.entries:
        table = area.target.with_name(f"{_stem(area.target.name)}.ctbl")
        write_color_table(source.entries, table, area)
        notes.append(f"{table}: colours and names, for 3D Slicer's module Colors")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(area.main.open("wb"))
        packed = area.target.name.lower().endswith(".gz")
        out = stack.enter_context(gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0)) if packed else file
        out.write(_header(source, dtype, unit))
        write_voxels(out, source, dtype, progress)
    return notes


def _stem(name: str) -> str:
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else name[: -len(".nii")]


def _header(source: Source, dtype: np.dtype, unit: str) -> bytes:
    """The 348 bytes of the header and four that say that no extension follows."""
    x, y, z = (v / NM_PER[unit] for v in reversed(source.volume.voxel_size_nm))
    ox, oy, oz = (v / NM_PER[unit] for v in reversed(source.centre_nm))
    nx, ny, nz = reversed(source.volume.shape)
    header = bytearray(352)

    def put(offset: int, kinds: str, *values: object) -> None:
        struct.pack_into(f"<{kinds}", header, offset, *values)

    put(0, "i", 348)
    put(40, "8h", 3, nx, ny, nz, 1, 1, 1, 1)
    put(68, "h", 0 if source.kind == "image" else LABELS)
    put(70, "2h", CODES[dtype.name], dtype.itemsize * 8)
    put(76, "8f", 1.0, x, y, z, 0.0, 0.0, 0.0, 0.0)
    put(108, "3f", 352.0, 1.0, 0.0)
    put(123, "B", UNITS[unit])
    put(148, "80s", f"densem: {source.title}".encode("ascii", "replace")[:79])
    put(252, "2h", ALIGNED, ALIGNED)
    put(256, "6f", 0.0, 0.0, 1.0, -ox, -oy, oz)  # half a turn about z
    put(280, "12f", -x, 0.0, 0.0, -ox, 0.0, -y, 0.0, -oy, 0.0, 0.0, z, oz)
    put(344, "4s", b"n+1\0")
    return bytes(header)
