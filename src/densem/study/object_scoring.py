"""Evaluation of objects inside a study: found objects against the annotated ones of a volume, kept as JSON.

truth       annotations/<volume>/objects.zarr, or a file; classes from the annotation of the volume
prediction  objects/<name>/objects-<level>.zarr, or any file of object ids
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densem.errors import ConfigError, InputError, NotFoundError, ShapeError, nearest
from densem.evaluation import ObjectScores, ObjectVolumes, object_scores
from densem.study.manifest import check_name
from densem.study.prediction import open_prediction
from densem.study.study import Study
from densem.volumes import Volume, open_stack, open_volume

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ObjectRequest:
    """Which objects are compared with which; either `name` or `input`.

    Attributes:
        name: of objects of the study.
        level: which of their volumes: 0 for the outermost objects, 1 for those inside them.
        input: a file of object ids of any readable format.
        volume: the volume they are of; needed for a file, and for objects that do not say it.
        prediction: name of a prediction whose classes the predicted objects have.
        truth: a file of true object ids instead of the objects that were imported.
        ignored_id: true object id of voxels that nobody labelled.
        inner: whether to leave out objects that touch the border or ignored voxels.
        output: where the scores go; by default into the folder of the objects, or of the reports.
    """

    name: str | None = None
    level: int | None = None
    input: Path | None = None
    volume: str | None = None
    prediction: str | None = None
    truth: Path | None = None
    ignored_id: int | None = None
    inner: bool = False
    output: Path | None = None


@dataclass(frozen=True)
class ObjectResult:
    """Scores as plain values, and where they were written."""

    scores: dict[str, Any]
    file: Path


def evaluate_objects(
    folder: Path, request: ObjectRequest, progress: Progress, workers: int = 2
) -> ObjectResult:
    """Compare found objects with annotated ones; writes the scores as JSON.

    Args:
        folder: of the study.
        request: what is compared.
        progress: told blocks done and blocks in all.
        workers: blocks counted at the same time; never changes a score.

    Raises:
        ConfigError: for a request that does not say what to compare.
        NotFoundError: no such objects, level, volume, prediction or file.
        InputError and its kin: objects that are not finished, a volume without true objects, or volumes that
            cannot be compared.
    """
    study = Study.open(folder)
    _check(request)
    file = _file(study, request)
    own = _found(study, request)
    volume, classes = _origin(study, request, own)
    labels, truth = study.labels(volume), _truth(study, volume, request)
    found = own or open_objects(_input(request), truth)
    volumes = ObjectVolumes(truth, found, labels, classes, request.ignored_id)
    known = None if labels is None and classes is None else study.schema
    scores = object_scores(volumes, known, request.inner, workers=workers, progress=progress)
    _check_kind(request, found, volume, scores)
    record = {
        "objects": request.name or str(request.input), "level": found.attributes.get("level"),
        "volume": volume, "truth_id": truth.id, "objects_id": found.id, "ignored_id": request.ignored_id,
        **scores.to_dict(),
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(part, file)
    return ObjectResult(record, file)


def _input(request: ObjectRequest) -> Path:
    assert request.input is not None
    return request.input


def _check(request: ObjectRequest) -> None:
    if (request.name is None) == (request.input is None):
        raise ConfigError("densem evaluate-objects: give --objects NAME of the study, or --input FILE")
    if request.input is not None and request.volume is None:
        raise ConfigError(f"--input {request.input}: give the volume it is of with  --volume NAME")
    if request.input is not None and request.level is not None:
        raise ConfigError("--level: expected it with --objects NAME, whose volumes have levels")


# ---- what is compared ------------------------------------------------------------------------


def _found(study: Study, request: ObjectRequest) -> Volume | None:
    """The objects of the study that are asked for; None with a file, which needs the truth's voxel size."""
    if request.name is None:
        return None
    volumes = {v.attributes.get("level", 0): v for v in _levels(study, request.name)}
    if request.level is None and len(volumes) == 1:
        return next(iter(volumes.values()))
    told = "; ".join(f"{n}: {', '.join(v.attributes.get('classes', ()))}" for n, v in volumes.items())
    if request.level is None:
        raise ConfigError(
            f"objects {request.name!r} have several levels ({told}); say with --level which of them the true "
            "objects are"
        )
    if request.level not in volumes:
        raise NotFoundError(f"objects {request.name!r}: no level {request.level}; there are {told}")
    return volumes[request.level]


def _levels(study: Study, name: str) -> list[Volume]:
    home = study.folder / "objects"
    if not study.objects_folder(name).is_dir():
        known = [p.name for p in home.iterdir() if p.is_dir()] if home.is_dir() else []
        hint = nearest(name, known) if known else " It has none yet."
        raise NotFoundError(f"study {study.name}: no objects {name!r}.{hint}")
    return [open_volume(path) for path in study.finished_objects(name)]


def _check_kind(request: ObjectRequest, found: Volume, volume: str, scores: ObjectScores) -> None:
    """Refuse to compare, say, granules with cells alone: nothing could match."""
    true = [name for name, row in scores.classes.items() if row.truth]
    own = found.attributes.get("classes", ())
    if request.name is not None and own and true and not set(own) & set(true):
        raise InputError(
            f"objects {request.name!r}: level {found.attributes.get('level', 0)} holds {', '.join(own)}, but "
            f"the true objects of volume {volume!r} are {', '.join(true)}, so nothing could match; choose "
            "another --level, or give true objects of that kind with --truth FILE"
        )


def _origin(study: Study, request: ObjectRequest, found: Volume | None) -> tuple[str, Volume | None]:
    """Name of the volume the predicted objects are of, and the classes they have, if they are known."""
    if request.volume is not None:
        study.entry(request.volume)
    if request.prediction is not None:
        given = open_prediction(study, request.prediction)
        volume = request.volume or study.manifest.predictions[request.prediction].volume
        return volume, given
    source = None if found is None else found.provenance.get("input")
    entry = study.manifest.objects.get(request.name or "")
    rows = list(_sources(study)) if source else []
    if entry is not None:  # what is equal may be of other volumes too
        rows.sort(key=lambda row: row[0] != entry.volume)
    for volume, classes in rows:
        if classes.id == source:
            return request.volume or volume, classes
    if request.volume is None:
        raise ConfigError(
            f"objects {request.name!r}: what they were made from is not in study {study.name}; "
            "give the volume they are of with  --volume NAME"
        )
    return request.volume, None


def _sources(study: Study) -> Iterator[tuple[str, Volume]]:
    """All that objects can be made from: predictions and labels, with the volume they are of."""
    for name, entry in study.manifest.predictions.items():
        with suppress(NotFoundError, InputError):  # gone, or not finished
            yield entry.volume, open_prediction(study, name)
    for name in study.manifest.volumes:
        labels = study.labels(name)
        if labels is not None:
            yield name, labels


def _truth(study: Study, volume: str, request: ObjectRequest) -> Volume:
    if request.truth is not None:
        return open_objects(request.truth, study.image(volume))
    truth = study.objects(volume)
    if truth is None:
        raise InputError(
            f"study {study.name}: volume {volume!r} has no true objects to compare with; add them with  "
            f"densem import {study.folder} {volume} --instances FILE, or give --truth FILE"
        )
    return truth


def open_objects(path: Path, like: Volume) -> Volume:
    """A file of object ids; without a voxel size of its own it has that of the volume it is compared with.

    Raises:
        ShapeError: if it is in colour.
    """
    stack = open_stack(path)
    if stack.samples > 1:
        raise ShapeError(
            f"{path}: expected object ids, found {stack.samples} colour values per voxel; bring true "
            "objects in with  densem import STUDY VOLUME --instances FILE, which numbers the colours, or "
            "convert them to ids"
        )
    return replace(stack, voxel_size_nm=stack.voxel_size_nm or like.voxel_size_nm).volume()


def _file(study: Study, request: ObjectRequest) -> Path:
    """Where the scores go."""
    if request.output is not None:
        if not request.output.parent.is_dir():
            raise NotFoundError(f"--output {request.output}: there is no folder {request.output.parent}")
        return request.output
    if request.name is not None:
        level = "" if request.level is None else f"-{request.level}"
        return study.folder / "objects" / check_name(request.name, "objects") / f"scores{level}.json"
    return study.folder / "reports" / f"objects-{request.volume}-{_input(request).stem}.json"
