"""The meshes that `densem mesh` left beside a study's objects, read one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from densem.errors import FormatError, InputError, NotFoundError
from densem.meshes.making import FOLDER, INDEX
from densem.meshes.mesh import Mesh
from densem.meshes.named import NamedMesh, Room
from densem.study.meshes import mesh_command
from densem.study.study import Study
from densem.volumes import Volume

Progress = Callable[[int, int], None]
READ = ("ply", "glb", "obj", "stl")
"""Formats that are read; the exact ones first."""


def room_of(volume: Volume) -> Room:
    """Where the meshes lie."""
    return Room(volume.shape, volume.voxel_size_nm, volume.offset_nm)


def stored_meshes(
    study: Study, name: str, level: int, progress: Progress | None = None
) -> Iterator[NamedMesh]:
    """The meshes of a level of objects, in the order of their index.

    Args:
        study: that they belong to.
        name: of the objects.
        level: 0 for the outermost things.
        progress: told (meshes read, meshes in all).

    Raises:
        NotFoundError: if there are none, or their files are gone.
        InputError: if they lie there in no format that is read, or none is of that level.
        FormatError: if the index or a file cannot be read.
    """
    folder = study.objects_folder(name) / FOLDER
    wanted = [row for row in _index(study, name, folder) if row["level"] == level]
    if not wanted:
        raise InputError(f"--level {level}: expected meshes of that level in {folder / INDEX}, found none")
    for done, row in enumerate(wanted, 1):
        path = _file(folder, row, study, name)
        rgb = bytes.fromhex(str(row["color"]).lstrip("#"))
        yield NamedMesh(int(row["id"]), str(row["class"]), (rgb[0], rgb[1], rgb[2]), _read(path))
        if progress:
            progress(done, len(wanted))


def _index(study: Study, name: str, folder: Path) -> list[dict[str, Any]]:
    if not (folder / INDEX).exists():
        raise NotFoundError(
            f"objects {name!r} have no meshes yet; make them with  "
            f"densem mesh {study.folder} --objects {name}"
        )
    return mesh_rows(folder)


def mesh_rows(folder: Path) -> list[dict[str, Any]]:
    """What the index of finished meshes says of each of them.

    Raises:
        FormatError: if it cannot be read.
    """
    path = folder / INDEX
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text())["meshes"]
        for row in rows:
            row["level"], row["files"], row["color"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path}: expected the index of meshes, but it cannot be read ({error!r})"
        ) from None
    return rows


def _file(folder: Path, row: dict[str, Any], study: Study, name: str) -> Path:
    files = row["files"]
    kind = next((f for f in READ if f in files), None)
    again = f"make them with  {mesh_command(study, name, kind or READ[0])}"
    if kind is None:
        there = ", ".join(files) or "none"
        raise InputError(f"mesh {row['name']}: expected one of {', '.join(READ)}, found {there}; {again}")
    path = folder / str(files[kind])
    if not path.is_file():
        raise NotFoundError(f"{path}: the mesh stands in {INDEX}, but is gone; {again}")
    return path


def _read(path: Path) -> Mesh:
    try:
        import trimesh
    except ImportError:
        raise InputError(
            "--meshes: expected the package trimesh, which reads meshes; install it with  "
            "pip install 'densem[meshes]'"
        ) from None
    try:  # triangles of an STL share no vertices, until they are merged
        found: Any = trimesh.load_mesh(path, process=path.suffix == ".stl")
        return Mesh(np.asarray(found.vertices, np.float32), np.asarray(found.faces, np.uint32))
    except Exception as error:
        raise FormatError(
            f"{path}: expected a mesh, but it cannot be read ({error}); make it anew"
        ) from error
