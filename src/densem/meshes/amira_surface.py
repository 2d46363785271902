"""Amira's surfaces (HyperSurface, .surf): binary, big-endian, a material and a patch for each object.

Vertices come first and are numbered from 1 through all patches, so both wait in temporary files until their
numbers are known.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from densem.errors import InputError
from densem.meshes.named import NamedMesh
from densem.volumes.exports.amira import UNITS, identifier
from densem.volumes.exports.options import NM_PER

LARGEST_INDEX = 2**31 - 1


def write_amira_surface(meshes: Iterable[NamedMesh], path: Path, unit: str = "nm") -> int:
    """Write surfaces into one file, one after the other; gives how many they were.

    Args:
        meshes: of which one is held at a time.
        path: the file to make.
        unit: of lengths: nm, um or mm.

    Raises:
        InputError: if there are none, or too many vertices.
    """
    with ExitStack() as stack:
        points, patches = (stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in range(2))
        count, materials = 0, ["        Exterior {\n            Id 1\n        }"]
        for number, made in enumerate(meshes, 2):
            points.write((made.mesh.vertices / NM_PER[unit]).astype(">f4").tobytes())
            _patch(patches, made, count)
            materials.append(_material(made, number))
            count += len(made.mesh.vertices)
        if not 0 < count <= LARGEST_INDEX:
            raise InputError(
                f"Amira surface: expected 1 to {LARGEST_INDEX} vertices in all surfaces, found {count}"
            )
        with path.open("wb") as file:
            file.write(_head(materials, unit, count).encode())
            _append(points, file)
            file.write(b"\nNBranchingPoints 0\nNVerticesOnCurves 0\nBoundaryCurves 0\n")
            file.write(f"Patches {len(materials) - 1}\n".encode())
            _append(patches, file)
        return len(materials) - 1


def _head(materials: list[str], unit: str, count: int) -> str:
    lines = [
        "# HyperSurface 0.1 BINARY",
        "",
        "Parameters {",
        "    Materials {",
        *materials,
        "    }",
        f'    Units {{\n        Coordinates "{UNITS[unit]}"\n    }}',
        '    BoundaryIds {\n        Name "BoundaryConditions"\n    }',
        "}",
        "",
        f"Vertices {count}",
        "",
    ]
    return "\n".join(lines)


def _material(made: NamedMesh, number: int) -> str:
    red, green, blue = (v / 255 for v in made.rgb)
    return (
        f"        {identifier(made.name)} {{\n            Color {red:.6g} {green:.6g} {blue:.6g},\n"
        f"            Id {number}\n        }}"
    )


def _patch(file: IO[bytes], made: NamedMesh, first: int) -> None:
    """Append a patch whose vertex 0 has the number `first` + 1."""
    head = (
        f"{{\nInnerRegion {identifier(made.name)}\nOuterRegion Exterior\nBoundaryID 0\nBranchingPoints 0\n \n"
        f"Triangles {len(made.mesh.faces)}\n"
    )
    file.write(head.encode())
    file.write((made.mesh.faces.astype(np.int64) + first + 1).astype(">i4").tobytes())
    file.write(b"\n}\n")


def _append(part: IO[bytes], file: IO[bytes]) -> None:
    part.seek(0)
    shutil.copyfileobj(part, file)
