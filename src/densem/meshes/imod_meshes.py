"""Meshes as an IMOD model: an object for each class, a mesh for each object, in pixels of the exported "
"image."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from densem.errors import InputError
from densem.meshes.named import NamedMesh, Room, vertex_normals
from densem.volumes.exports.imod_model import (
    ModelObject,
    end_model,
    mesh,
    write_model_head,
    write_object_head,
)
from densem.volumes.exports.source import Color

LARGEST_SURFACE = 2**15 - 1
"""Largest number of a surface that a mesh can have."""


@dataclass
class _Part:
    """The meshes of a class, on disk until all are known."""

    rgb: Color
    file: IO[bytes]
    meshes: int = 0
    surfaces: int = 0


def write_imod_meshes(meshes: Iterable[NamedMesh], path: Path, room: Room, title: str) -> int:
    """Write surfaces into one model; gives how many they were.

    Args:
        meshes: of which one is held at a time.
        path: the file to make.
        room: the volume whose pixels coordinates count.
        title: name of the model.

    Raises:
        InputError: if there are none.
    """
    with ExitStack() as stack:
        parts: dict[str, _Part] = {}
        for made in meshes:
            if made.kind not in parts:
                spool = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                parts[made.kind] = _Part(made.rgb, spool)
            _add(parts[made.kind], made, room)
        if not parts:
            raise InputError(f"{title}: expected surfaces, found none")
        with path.open("wb") as file:
            write_model_head(file, title, room.shape, room.voxel_size_nm, len(parts))
            for kind, part in sorted(parts.items()):
                head = ModelObject(kind, part.rgb, meshes=part.meshes, surfaces=part.surfaces)
                write_object_head(file, head)
                part.file.seek(0)
                shutil.copyfileobj(part.file, file)
            end_model(file)
        return sum(part.meshes for part in parts.values())


def _add(part: _Part, made: NamedMesh, room: Room) -> None:
    surface = made.id if made.id <= LARGEST_SURFACE else 0
    part.file.write(mesh(pixels(made, room), vertex_normals(made.mesh), made.mesh.faces, surface))
    part.meshes += 1
    part.surfaces = max(part.surfaces, surface)


def pixels(made: NamedMesh, room: Room) -> np.ndarray:
    """Vertices in pixels, float64 (N, 3): corners are whole in x and y, centres of slices in z."""
    size, offset = np.array(room.voxel_size_nm[::-1]), np.array(room.offset_nm[::-1])
    return (made.mesh.vertices.astype(np.float64) - offset) / size - np.array([0, 0, 0.5])
