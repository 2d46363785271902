"""Training inside a study: which volumes, which slices are held out, where the model goes.

Training knows nothing of prediction and evaluation; it is handed `validate`, made here of both.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densem.blocks import Box, Grid, Triple
from densem.errors import ConfigError, DensemWarning, ExistsError, InputError
from densem.evaluation import contingency, scores
from densem.schema import UNLABELLED, LabelSchema
from densem.study.manifest import ModelEntry, check_name, claimed, locked
from densem.study.prediction import load_model
from densem.study.study import Study
from densem.volumes import Volume
from densem.volumes.intensity import measure_intensity

if TYPE_CHECKING:
    from densem.model import Model
    from densem.training import Recipe


@dataclass(frozen=True)
class TrainRequest:
    """What is to be trained, as the command line gives it.

    Attributes:
        recipe: name or file; without one that of `start`, for as many steps, or `default`.
        name: of the model.
        max_time: seconds of training; the recipe's steps without it.
        overrides: section.key=value.
        seed: of weights and samples.
        volumes: to learn from; all of role train without them.
        start: model of the study, or a model folder, to begin with in place of random weights.
    """

    recipe: str | None = None
    name: str | None = None
    max_time: float | None = None
    overrides: tuple[str, ...] = ()
    seed: int = 0
    volumes: tuple[str, ...] | None = None
    start: str | None = None


@dataclass(frozen=True)
class Labelled:
    """A labelled volume, or a part of one, that a model learns from or is validated on.

    `objects` are annotated object ids, where there are any.
    """

    name: str
    image: Volume
    labels: Volume
    objects: Volume | None = None


@dataclass(frozen=True)
class Material:
    """What a model learns from and what it is validated on.

    Attributes:
        learn: labelled volumes of role train.
        judge: labelled volumes of role eval, or what was held out of the others.
        said: sentences for the user.
    """

    learn: list[Labelled]
    judge: list[Labelled]
    said: tuple[str, ...] = ()


def gather(study: Study, volumes: tuple[str, ...] | None = None) -> Material:
    """The labelled volumes of a study, for training and for validation; test volumes are not looked at.

    Args:
        study: whose they are.
        volumes: names of those to learn from; all of role train without them.

    Raises:
        ConfigError: if there is nothing to learn from.
        InputError: for a volume without labels, or voxel sizes that differ too much.
    """
    learn = [labelled(study, n) for n in _chosen(study, volumes)]
    judge = [labelled(study, n) for n in study.names("eval") if n not in {v.name for v in learn}]
    said: tuple[str, ...] = ()
    if not judge:
        learn, judge, sentence = hold_out(learn)
        said = (sentence,)
    _check_voxel_sizes(study.name, [*learn, *judge])
    _warn_of_the_same_image(learn, judge)
    return Material(learn, judge, said)


def parse_time(text: str | None, where: str = "--max-time") -> float | None:
    """`90s`, `10m` or `2h` in seconds; `where` is for the message.

    Raises:
        InputError: if it is anything else or not above zero.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"{where} {text}: expected a time such as 90s, 10m or 2h")
    return seconds


def train_model(study: Study, request: TrainRequest) -> Iterator[str]:
    """Train a model and store it in the study.

    Yields:
        Lines for the user: what was decided, and at the end how good the model is.
    """
    source = request.recipe or request.start or "default"
    name = check_name(request.name or _free_name(study, Path(source).stem), "model")
    if name in study.manifest.models:
        raise ExistsError(f"study {study.name}: there is a model {name!r} already; give another --name")
    from densem.sampling import LabelledVolume
    from densem.training import train

    start = load_model(study, request.start) if request.start else None
    recipe, said = _recipe(request, start)
    material = gather(study, request.volumes)
    learn, judge = material.learn, material.judge
    yield from material.said
    yield f"Training {name} {said} on {_listed(learn)}; validating on {_listed(judge)}."
    validate = Validation(judge, study.schema)
    with claimed(study.run_folder(name), f"training {name}"):
        result = train(
            recipe,
            [LabelledVolume(v.image, v.labels, v.name, objects=v.objects) for v in learn],
            study.schema,
            study.run_folder(name),
            validate=validate,
            seed=request.seed,
            max_time=request.max_time,
            name=name,
            measure=ContextMeasure(judge),
            start=start,
        )
    with locked(study.path) as manifest:
        result.model.save(study.model_folder(name), overwrite=True)  # left over from a kill right here
        keep_record(study.run_folder(name), study.model_folder(name))
        manifest.models[name] = ModelEntry(
            id=result.model.id,
            recipe=request.recipe or (f"as {start.name}" if start else "default"),
            trained_on={**seen_by(study, [request.start] if request.start else []), **volume_ids(learn)},
            evaluated_on=volume_ids(judge),
        )
    yield from _outcome(study, name, result)


def _recipe(request: TrainRequest, start: Model | None) -> tuple[Recipe, str]:
    """The recipe, and how it is named in a sentence."""
    from densem.training import Recipe

    if request.recipe is None and start is not None:
        recipe = Recipe.of_model(start.training, start.name, request.overrides)
        return recipe, f"by the recipe of {start.name}, beginning with its weights,"
    name = request.recipe or "default"
    begun = f", beginning with the weights of {start.name}," if start is not None else ""
    return Recipe.load(name, request.overrides), f"by recipe {name}{begun}"


def _outcome(study: Study, name: str, result: Any) -> Iterator[str]:
    if result.restarts:
        yield f"The run collapsed {result.restarts} time(s) and was started again with another seed."
    score = "not validated" if result.score is None else f"MIoU {result.score:.3f} on the eval volume"
    yield f"Model {name} ({result.model.id}): {score}, step {result.best_step} of {result.steps}."
    yield f"Next: densem predict {study.folder} --model {name} --volume VOLUME"


def _free_name(study: Study, recipe: str) -> str:
    """`<recipe>-<n>`: an unfinished run of that recipe goes on, else the first free number."""
    models = study.manifest.models
    number = 1
    while f"{recipe}-{number}" in models:
        number += 1
    return f"{recipe}-{number}"


def _chosen(study: Study, names: tuple[str, ...] | None) -> list[str]:
    chosen = list(names) if names is not None else study.names("train")
    if not chosen:
        raise ConfigError(
            f"study {study.name}: expected at least one volume of role train, found none; "
            "import one with labels and --role train"
        )
    return chosen


def labelled(study: Study, name: str) -> Labelled:
    """A volume with its labels.

    Raises:
        InputError: if it has none.
    """
    labels = study.labels(name)
    if labels is None:
        raise InputError(
            f"study {study.name}: volume {name!r} has no labels to learn from or be judged by; "
            f"add them with  densem import {study.folder} {name} --labels FILE"
        )
    return Labelled(name, with_intensity(study.image(name)), labels, study.objects(name))


def with_intensity(image: Volume) -> Volume:
    """An image with its grey-value statistics, measured where it has none.

    Those that densem imports have; one that is referred to and was not written by densem has not.
    """
    if image.intensity is not None:
        return image
    record = {**image.attributes, "intensity": measure_intensity(image).to_dict()}
    return replace(image, attributes=record)


def _check_voxel_sizes(study: str, volumes: list[Labelled]) -> None:
    first = volumes[0]
    for other in volumes[1:]:
        ratio = [b / a for a, b in zip(first.image.voxel_size_nm, other.image.voxel_size_nm, strict=True)]
        if max(abs(r - 1) for r in ratio) > 0.1:
            raise InputError(
                f"study {study}: volumes {first.name!r} and {other.name!r} differ by more than "
                f"10 % in voxel size ({first.image.voxel_size_nm} and {other.image.voxel_size_nm} nm); "
                "train on one of them with --volumes"
            )


def _warn_of_the_same_image(learn: list[Labelled], judge: list[Labelled]) -> None:
    """Two names may stand for one image; overlapping parts of one have other ids and go unnoticed."""
    names = {v.image.id: v.name for v in learn}
    for other in judge:
        if other.image.id in names:
            warnings.warn(
                f"volumes {names[other.image.id]!r} and {other.name!r} are the same image: scores on the "
                "eval volume will say how well the model fits what it has seen; import another part with "
                "--role eval",
                DensemWarning,
                stacklevel=4,
            )


def seen_by(study: Study, models: Sequence[str]) -> dict[str, str]:
    """Volume name -> ids of image and labels, of all volumes that models have learned from.

    Args:
        study: whose models they are.
        models: names of its models, or model folders.
    """
    found: dict[str, str] = {}
    for word in models:
        known = study.manifest.models.get(word)
        if known is not None:
            found |= known.trained_on
        else:
            volumes = load_model(study, word).training.get("volumes", {})
            found |= {name: f"{ids['image']} {ids['labels']}" for name, ids in volumes.items()}
    return found


def volume_ids(volumes: list[Labelled]) -> dict[str, str]:
    """Volume name -> ids of image and labels."""
    return {v.name: f"{v.image.id} {v.labels.id}" for v in volumes}


def _listed(volumes: list[Labelled]) -> str:
    return ", ".join(f"{v.name} {'x'.join(map(str, v.image.shape))}" for v in volumes)


def keep_record(run: Path, model: Path) -> None:
    """Copy what should stay of a training run into the model's folder: recipe as run, metrics."""
    import shutil

    target = model / "training"
    target.mkdir(exist_ok=True)
    for file in ("recipe.toml", "metrics.jsonl"):
        source = run / file
        if source.exists():
            shutil.copy2(source, target / file)


# ---- validation ------------------------------------------------------------------------------


def labelled_slices(labels: Volume) -> list[int]:
    """The z indices of slices in which at least one voxel is labelled."""
    _, height, width = labels.shape
    return [
        z
        for z in range(labels.shape[0])
        if (labels.read(Box((z, 0, 0), (z + 1, height, width))) != UNLABELLED).any()
    ]


def hold_out(volumes: list[Labelled]) -> tuple[list[Labelled], list[Labelled], str]:
    """Split off the last fifth of the labelled slices of the volume that has most of them.

    Returns:
        Volumes to learn from, the part to validate on, and a sentence saying so.

    Raises:
        InputError: if no volume has two labelled slices.
    """
    slices = {v.name: labelled_slices(v.labels) for v in volumes}
    deepest = max(volumes, key=lambda v: len(slices[v.name]))
    rows = slices[deepest.name]
    if len(rows) < 2:
        raise InputError(
            f"volume {deepest.name!r}: expected at least two labelled slices to hold one out for validation, "
            f"found {len(rows)}; label more, or import an eval volume with --role eval"
        )
    first = rows[len(rows) - max(1, len(rows) // 5)]
    learn = [v if v is not deepest else _cut(v, 0, first) for v in volumes]
    judge = [_cut(deepest, first, deepest.image.shape[0])]
    said = (
        f"No volume of role eval is left: the last fifth of the labelled slices of {deepest.name} "
        f"(slices {first} to {rows[-1]}) is held out for validation."
    )
    return learn, judge, said


def _cut(volume: Labelled, start: int, stop: int) -> Labelled:
    _, height, width = volume.image.shape
    box = Box((start, 0, 0), (stop, height, width))
    objects = None if volume.objects is None else volume.objects.part(box)
    return Labelled(volume.name, volume.image.part(box), volume.labels.part(box), objects)


class Validation:
    """Scores of a model on the eval volumes by blockwise prediction, as training wants them.

    Args:
        volumes: the eval volumes.
        schema: the classes.
        limit: at most so many voxels are labelled; of larger volumes, boxes spread evenly.
    """

    def __init__(self, volumes: list[Labelled], schema: LabelSchema, limit: int = 3_000_000) -> None:
        self._schema = schema
        self._parts = [(v, box) for v in volumes for box in probe_boxes(v, limit // len(volumes))]

    def __call__(self, model: Any) -> dict[str, Any]:
        """`miou`, `miou_organelles`, `iou` per class, `predicted` and `true` voxels per class."""
        from densem.inference import label_volume

        table = None
        for volume, box in self._parts:
            labels = label_volume(model, volume.image, box)
            truth = Volume(volume.labels.read(box), volume.image.voxel_size_nm)
            part = contingency(truth, Volume(labels, volume.image.voxel_size_nm), self._schema)
            table = part if table is None else table + part
        assert table is not None
        found = scores(table)
        predicted = table.counts.sum(axis=0)
        return {
            "miou": found.miou or 0.0,
            "miou_organelles": found.miou_organelles,
            "iou": {c.name: c.iou for c in found.classes},
            "predicted": {n: int(predicted[i]) for i, n in enumerate(self._schema.names)},
            "true": {n: int(row.sum()) for n, row in zip(self._schema.names, table.counts, strict=True)},
        }


def probe_boxes(volume: Labelled, limit: int) -> list[Box]:
    """The whole volume, or of a larger one boxes with labels, spread evenly, about `limit` voxels in all.

    Raises:
        InputError: if nothing is labelled.
    """
    whole = volume.image.box
    side: Triple = (min(whole.shape[0], 8), min(whole.shape[1], 256), min(whole.shape[2], 256))
    labelled = [b for b in Grid(whole.shape, side) if (volume.labels.read(b) != UNLABELLED).any()]
    if not labelled:
        raise InputError(
            f"volume {volume.name!r}: expected labels to judge a model by, found every voxel unlabelled; "
            "give it another --role, or import labels"
        )
    if whole.size <= limit:
        return [whole]
    count = max(1, limit // (side[0] * side[1] * side[2]))
    places = np.linspace(0, len(labelled) - 1, min(count, len(labelled)))
    return [labelled[i] for i in dict.fromkeys(round(float(p)) for p in places)]


class ContextMeasure:
    """Measures the practical context of a trained model on the eval volume."""

    def __init__(self, volumes: list[Labelled]) -> None:
        self._image = max((v.image for v in volumes), key=lambda v: v.box.size)

    def __call__(self, model: Any) -> Any:
        """The model's tile with its practical context."""
        from densem.inference import measure_context

        return measure_context(model, self._image)
