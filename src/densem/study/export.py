"""Export out of a study: an image, labels, a prediction or objects, in the format of another tool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from densem.errors import InputError, NotFoundError, nearest
from densem.object_table import read_rows
from densem.study.prediction import open_prediction
from densem.study.study import Study
from densem.volumes import Volume, open_volume
from densem.volumes.cut import box_of, parse_box
from densem.volumes.exports import ExportOptions, Source, export_volume

Progress = Callable[[int, int], None]
PARTS = {"classes": "classes", "confidence": "image", "entropy": "image"}
"""Parts of a prediction, and what they are."""


@dataclass(frozen=True)
class ExportRequest:
    """What is wanted, and where, as the command line gives it."""

    to: str
    out: Path
    volume: str | None = None
    labels: str | None = None
    annotator: str | None = None
    instances: str | None = None
    prediction: str | None = None
    part: str | None = None
    objects: str | None = None
    meshes: str | None = None
    level: int | None = None
    box: str | None = None
    scale: int = 0
    unit: str | None = None
    palette: str | None = None
    overwrite: bool = False


def export_from_study(folder: Path, request: ExportRequest, progress: Progress | None = None) -> list[str]:
    """Write a volume of a study in the format of another tool; gives lines for people.

    Raises:
        InputError: none or several things are named, the file would lie among the study's own, or as
            `densem.volumes.exports.export_volume`.
        NotFoundError: no such volume, prediction or objects, with the nearest name.
        DensemError: as `densem.volumes.exports.export_volume`.
    """
    study = Study.open(folder)
    _check_place(study, request.out)
    if request.meshes is not None:
        return _export_meshes(study, request, progress)
    source = _cut(_source(study, request), request)
    options = ExportOptions(request.unit, request.palette)
    return export_volume(source, request.to, request.out, options, request.overwrite, progress)


def _source(study: Study, request: ExportRequest) -> Source:
    """What is named, whole and at full resolution."""
    _check_one(request)
    if request.volume is not None:
        return Source(study.image(request.volume), "image", request.volume, study.schema)
    if request.labels is not None:
        return _labels(study, request.labels, request.annotator)
    if request.instances is not None:
        return _instances(study, request.instances)
    if request.prediction is not None:
        return _prediction(study, request.prediction, request.part or "classes")
    return _objects(study, str(request.objects), request.level or 0)


def _check_one(request: ExportRequest) -> None:
    named = {
        "--volume": request.volume, "--labels": request.labels, "--instances": request.instances,
        "--prediction": request.prediction, "--objects": request.objects, "--meshes": request.meshes,
    }  # fmt: skip
    given = [flag for flag, name in named.items() if name is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        raise InputError(f"densem export: expected one of {', '.join(named)}, found {found}")
    belong = {
        "--annotator": (request.annotator, ("--labels",)), "--part": (request.part, ("--prediction",)),
        "--level": (request.level, ("--objects", "--meshes")),
    }  # fmt: skip
    for flag, (value, homes) in belong.items():
        if value is not None and given[0] not in homes:
            raise InputError(f"{flag} {value}: expected it with {' or '.join(homes)}, found {given[0]}")


def _export_meshes(study: Study, request: ExportRequest, progress: Progress | None) -> list[str]:
    """The meshes of a level of objects, all in one file."""
    from densem.meshes.exports import export_meshes
    from densem.study.export_meshes import room_of, stored_meshes

    _check_one(request)
    if request.box is not None or request.scale:
        raise InputError("--meshes: expected no --box and no --scale, as meshes are of whole objects")
    name = str(request.meshes)
    level = request.level or 0
    room = room_of(_objects(study, name, level).volume)
    meshes = stored_meshes(study, name, level, progress)
    options = ExportOptions(request.unit, request.palette)
    return export_meshes(meshes, room, request.to, request.out, options, request.overwrite)


def _labels(study: Study, name: str, annotator: str | None) -> Source:
    volume = study.labels(name) if annotator is None else study.annotation(name, annotator)
    if volume is None:
        raise InputError(
            f"study {study.name}: volume {name!r} has no labels; "
            f"add them with  densem import {study.folder} {name} --labels FILE"
        )
    return Source(volume, "classes", f"{name} labels", study.schema)


def _instances(study: Study, name: str) -> Source:
    volume = study.objects(name)
    if volume is None:
        raise InputError(
            f"study {study.name}: volume {name!r} has no annotated objects; "
            f"add them with  densem import {study.folder} {name} --instances FILE"
        )
    return Source(volume, "objects", f"{name} instances", study.schema)


def _prediction(study: Study, name: str, part: str) -> Source:
    if part not in PARTS:
        raise InputError(f"--part {part}: expected {', '.join(PARTS)}.{nearest(part, list(PARTS))}")
    classes = open_prediction(study, name)
    if part == "classes":
        return Source(classes, "classes", name, study.schema)
    if not (study.prediction_folder(name) / f"{part}.zarr").exists():
        raise NotFoundError(
            f"study {study.name}: prediction {name!r} has no {part}; it is written where  densem predict "
            f"--save {part}  asked for it"
        )
    return Source(open_prediction(study, name, part), "image", f"{name} {part}", study.schema)


def _objects(study: Study, name: str, level: int) -> Source:
    if not study.objects_folder(name).is_dir():
        known = list(study.manifest.objects)
        hint = nearest(name, known) if known else " It has none yet; make them with  densem objects."
        raise NotFoundError(f"study {study.name}: no objects {name!r}.{hint}")
    paths = study.finished_objects(name)
    path = study.objects_folder(name) / f"objects-{level}.zarr"
    if path not in paths:
        there = (p.stem.removeprefix("objects-") for p in paths)
        raise NotFoundError(f"--level {level}: objects {name!r} have the levels {', '.join(there)}")
    return Source(
        open_volume(path), "objects", name, study.schema, _classes_of(path.with_name("objects.csv"), level)
    )


def _classes_of(table: Path, level: int) -> dict[int, str]:
    """The class of each object of a level."""
    return {i: kind for i, kind, at in read_rows(table, ("id", "class", "level")) if at == level}


# ---- which part of it ------------------------------------------------------------------------


def _cut(source: Source, request: ExportRequest) -> Source:
    """A coarser level, and a box of it."""
    volume = source.volume
    if request.scale:
        volume = _coarser(volume, request.scale)
    if request.box is not None:
        volume = volume.part(box_of(parse_box(request.box), volume))
    return replace(source, volume=volume)


def _coarser(volume: Volume, level: int) -> Volume:
    """A level of the pyramid; its corner is that of the finest one."""
    assert volume.path is not None
    found = open_volume(volume.path, level)
    return replace(found, offset_nm=volume.offset_nm)


MANAGED = ("volumes", "annotations", "models", "runs", "predictions", "objects", "corrections")


def _check_place(study: Study, out: Path) -> None:
    place = out.resolve()
    home = study.folder.resolve()
    if place == home or home.is_relative_to(place) or any(
        place.is_relative_to(home / name) for name in MANAGED
    ):  # fmt: skip
        raise InputError(
            f"--out {out}: expected a place outside the study's own folders, which densem alone writes in; "
            f"{home / 'exports'} would do"
        )
