"""Meshes inside a study: of the objects of a name."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

from densem.errors import NotFoundError, nearest
from densem.meshes.formats import FORMATS
from densem.meshes.making import FOLDER, INDEX, Meshes, MeshOptions, is_finished, make_meshes
from densem.study.study import Study

Progress = Callable[[int, int], None]


def mesh_in_study(
    folder: Path, objects: str, options: MeshOptions, progress: Progress | None = None
) -> Meshes:
    """Make meshes of objects of a study, beside them.

    Raises:
        NotFoundError: no objects of that name, with the nearest name; or their files are gone.
        DensemError: as `densem.meshes.making.make_meshes`.
    """
    study = Study.open(folder)
    place = study.objects_folder(objects)
    if not place.exists():
        known = study.manifest.objects
        if objects in known:
            raise NotFoundError(
                f"study {study.name}: objects {objects!r} stand in study.toml, but their folder "
                f"{place} is gone; was the study moved without it? Put it back, or find them anew"
            )
        hint = nearest(objects, list(known)) or " It has none yet: make some with  densem objects"
        raise NotFoundError(f"study {study.name}: no objects {objects!r}.{hint}")
    return make_meshes(place, study.schema, options, progress)


def mesh_command(study: Study, objects: str, wanted: str) -> str:
    """The command that makes meshes in a format, and again in those that lie there, which it replaces."""
    place = study.objects_folder(objects) / FOLDER
    there = _formats(place)
    formats = [name for name in FORMATS if name in there or name == wanted]
    words = ["densem", "mesh", str(study.folder), "--objects", objects]
    words += [word for name in formats for word in ("--format", name)]
    return shlex.join([*words, *(["--overwrite"] if is_finished(place) else [])])


def _formats(folder: Path) -> set[str]:
    """Formats of the meshes that lie in a folder; none where their index cannot be read."""
    try:
        rows = json.loads((folder / INDEX).read_text())["meshes"]
        return {name for row in rows for name in row["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
