"""Objects inside a study: of a prediction, or of the labels of a volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densem.blocks import EngineChoice
from densem.errors import ConfigError, DensemError, ExistsError, InputError, NotFoundError
from densem.objects import Objects, ObjectsOptions, Rules, find_objects
from densem.objects.finding import BLOCK
from densem.objects.rules import read_rules
from densem.study.manifest import ObjectsEntry, check_name, locked
from densem.study.object_tuning import tuned_file, tuned_settings
from densem.study.prediction import open_prediction
from densem.study.study import Study
from densem.volumes import Volume
from densem.volumes.affinities import Affinities

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ObjectsRequest:
    """Which objects are wanted and how, as the command line gives it."""

    prediction: str | None = None
    labels: str | None = None
    name: str | None = None
    settings: Path | None = None
    overrides: tuple[str, ...] = ()
    block: tuple[int, int, int] | None = None
    workers: int = 1
    engine: str = "local"
    scheduler: str | None = None
    overwrite: bool = False
    tuned: bool = True


def find_in_study(folder: Path, request: ObjectsRequest, progress: Progress | None = None) -> Objects:
    """Find the objects of a prediction or of labels, and note in study.toml what they were made from.

    Raises:
        InputError: neither or both of prediction and labels, or the volume has no labels.
        NotFoundError: no such prediction or volume, with the nearest name; or its files are gone.
        ExistsError: objects of that name are of something else, or are there already.
        ConfigError: settings were chosen that the prediction cannot be cut by.
        DensemError: as `densem.objects.find_objects` and `read_rules`.
    """
    study = Study.open(folder)
    if (request.prediction is None) == (request.labels is None):
        raise InputError("densem objects: give either --prediction NAME or --labels VOLUME")
    classes, entry = _of_prediction(study, request.prediction) if request.prediction else _of_labels(
        study, str(request.labels)
    )  # fmt: skip
    name = check_name(
        request.name or (entry.name if request.prediction else f"{entry.name}-labels"), "objects"
    )
    known = study.manifest.objects.get(name)
    if known and (known.source, known.name) != (entry.source, entry.name) and not request.overwrite:
        raise ExistsError(
            f"study {study.name}: objects {name!r} are of {known.source} {known.name!r}; "
            "give another --name or --overwrite"
        )
    affinities = Affinities.beside(classes.path) if entry.source == "prediction" else None
    table = read_rules(request.settings, request.overrides)
    told = affinities.classes if affinities else ()
    model = _model_of(study, entry)
    chosen = tuned_settings(study, model) if request.tuned else {}
    _check_chosen(chosen, table, told, tuned_file(study, model))
    where = str(request.settings or "--set")
    rules = Rules.of(study.schema, classes.voxel_size_nm, merged(chosen, table), where, told)
    engine = EngineChoice(request.engine, request.workers, request.scheduler, study.folder)
    options = ObjectsOptions(request.block or BLOCK, engine, overwrite=request.overwrite)
    facts = study.provenance("densem objects", source=f"{entry.source} {entry.name}", volume=entry.volume)
    facts |= {"tuned": chosen} if chosen else {}
    target = study.objects_folder(name)
    found = find_objects(classes, study.schema, rules, target, options, progress, facts, affinities)
    with locked(study.path) as manifest:
        manifest.objects[name] = entry
    return found


def _check_chosen(chosen: dict[str, Any], asked: dict[str, Any], told: tuple[str, ...], file: Path) -> None:
    """Refuse affinities that were chosen for a prediction without those of the class.

    Raises:
        ConfigError: naming the file of the choice.
    """
    for name, entries in chosen.items():
        own = asked.get(name, {})  # may be no table, which is refused later
        holds = isinstance(own, dict) and "method" not in own
        if holds and entries.get("method") == "mutex" and name not in told:
            raise ConfigError(
                f'{file}: [{name}] method = "mutex", as densem tune-objects chose: expected a prediction '
                f"with affinities of {name}, found {', '.join(told) or 'none'}; predict without "
                "--no-affinities and --resample, choose another method, such as  "
                f"--set {name}.method=components, or give --untuned"
            )


def merged(chosen: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Settings by class: what was asked for goes before what was chosen, entry by entry.

    Where another method is asked for, nothing of what was chosen for the class holds.
    """
    found = dict(chosen)
    for name, entries in asked.items():
        known = chosen.get(name, {})
        other = isinstance(entries, dict) and entries.get("method", known.get("method")) != known.get(
            "method"
        )
        found[name] = entries if other or not isinstance(entries, dict) else {**known, **entries}
    return found


def _model_of(study: Study, entry: ObjectsEntry) -> str:
    """Id of the models of the prediction that objects are of; empty for other sources."""
    known = study.manifest.predictions.get(entry.name) if entry.source == "prediction" else None
    return known.model_id if known else ""


def _of_prediction(study: Study, name: str) -> tuple[Volume, ObjectsEntry]:
    known = study.manifest.predictions.get(name)
    if known is not None and not study.prediction_folder(name).exists():
        raise NotFoundError(
            f"study {study.name}: prediction {name!r} stands in study.toml, but its folder "
            f"{study.prediction_folder(name)} is gone; was the study moved "
            "without it? Put it back, or predict anew"
        )
    classes = open_prediction(study, name)
    volume = known.volume if known else _volume_of(study, classes)
    return classes, ObjectsEntry(source="prediction", name=name, volume=volume, classes_id=classes.id)


def _volume_of(study: Study, classes: Volume) -> str:
    """The volume that a prediction which is not in study.toml was made from."""
    wanted = classes.provenance.get("input")
    for name in study.manifest.volumes:
        try:
            if study.image(name).id == wanted:
                return name
        except DensemError:  # an image that is gone
            continue
    raise NotFoundError(
        f"study {study.name}: {classes.path} is of no volume of this study; "
        "import the volume it was made from"
    )


def _of_labels(study: Study, volume: str) -> tuple[Volume, ObjectsEntry]:
    classes = study.labels(volume)
    if classes is None:
        raise InputError(
            f"study {study.name}: volume {volume!r} has no labels; "
            f"add them with  densem import {study.folder} {volume} --labels FILE"
        )
    return classes, ObjectsEntry(source="labels", name=volume, volume=volume, classes_id=classes.id)
