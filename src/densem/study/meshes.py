"""Meshes inside a study: of the objects of a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from densem.errors import NotFoundError, nearest
from densem.meshes.making import Meshes, MeshOptions, make_meshes
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
