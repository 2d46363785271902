"""Amira mesh: a uniform lattice in binary, with bounding box, unit, and a material for each class.

The bounding box reaches from the centre of the first voxel to the centre of the last one. A label is the
position of its material in the list, so positions that are no class are filled with materials that nothing is
made of.
"""

from __future__ import annotations

import re

import numpy as np

from densem.schema import UNLABELLED
from densem.volumes.exports.options import NM_PER, ExportOptions
from densem.volumes.exports.raw_stream import write_voxels
from densem.volumes.exports.source import GREY, Entry, Source, fitted
from densem.volumes.exports.staging import Staging
from densem.volumes.slabs import Progress, slabs

TYPES = {"uint8": "byte", "uint16": "ushort", "int16": "short", "float32": "float", "int32": "int"}
"""Names of types, and what Amira calls them."""
IMAGE_TYPES = ("uint8", "uint16", "int16", "float32")
LABEL_TYPES = ("uint8", "uint16", "int32")
UNITS = {"nm": "nm", "um": "µm", "mm": "mm"}


def write_amira(
    source: Source, area: Staging, options: ExportOptions, progress: Progress | None
) -> list[str]:
    """Write a lattice of grey values (Data) or labels (Labels).

    Raises:
        InputError: if ids do not fit.
    """
    types = IMAGE_TYPES if source.kind == "image" else LABEL_TYPES
    dtype = fitted(source, types, "an Amira mesh", "export a --box with fewer objects")
    with area.main.open("wb") as file:
        file.write(_header(source, dtype, options.unit or "nm").encode())
        write_voxels(file, source, dtype, progress)
        file.write(b"\n")
    return [f"Amira, Avizo: File > Open Data; lengths are in {options.unit or 'nm'}"]


def _header(source: Source, dtype: np.dtype, unit: str) -> str:
    shape = source.volume.shape[::-1]
    sides = " ".join(map(str, shape))
    name = "Data" if source.kind == "image" else "Labels"
    kind = TYPES[dtype.name]
    lines = [
        "# AmiraMesh BINARY-LITTLE-ENDIAN 2.1",
        "",
        f"define Lattice {sides}",
        "",
        "Parameters {",
        *materials(_entries(source)),
        f'    Units {{\n        Coordinates "{UNITS[unit]}"\n    }}',
        f'    Content "{"x".join(map(str, shape))} {kind}, uniform coordinates",',
        f"    BoundingBox {_bounding_box(source, unit)},",
        '    CoordType "uniform"',
        "}",
        "",
        f"Lattice {{ {kind} {name} }} @1",
        "",
        "# Data section follows",
        "@1",
        "",
    ]
    return "\n".join(lines)


def _bounding_box(source: Source, unit: str) -> str:
    """Centres of the first and last voxel, x first."""
    ends: list[float] = []
    sides = zip(source.centre_nm, source.volume.voxel_size_nm, source.volume.shape, strict=True)
    for first, step, count in reversed(list(sides)):
        ends += [first / NM_PER[unit], (first + step * (count - 1)) / NM_PER[unit]]
    return " ".join(f"{v:.10g}" for v in ends)


def _entries(source: Source) -> tuple[Entry, ...]:
    """The classes, and unlabelled where a voxel is: 256 materials are many."""
    if source.kind == "classes" and any((slab == UNLABELLED).any() for _, slab in slabs(source.volume)):
        return source.entries
    return source.entries[:-1]


def materials(entries: tuple[Entry, ...]) -> list[str]:
    """The lines of a `Materials` block in which the material of id i is at position i."""
    if not entries:
        return []
    known = {e.id: e for e in entries}
    lines = ["    Materials {"]
    for number in range(max(known) + 1):
        entry = known.get(number, Entry(number, f"unused_{number}", GREY))
        red, green, blue = (v / 255 for v in entry.rgb)
        lines += [
            f"        {identifier(entry.name)} {{",
            f"            Color {red:.6g} {green:.6g} {blue:.6g},",
            f"            Id {number + 1}",
            "        }",
        ]
    return [*lines, "    }"]


def identifier(name: str) -> str:
    """A name as Amira's parameters allow it: letters, digits and underscores, a letter first."""
    word = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return word if word[:1].isalpha() else f"_{word}"
