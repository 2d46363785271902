"""Distillation: one network that learns from an ensemble what the ensemble would say.

1. The ensemble labels the training volumes, and unlabelled ones if there are any, with its probabilities;
   these soft targets are stored once (see `densem.sampling.SoftTargets` for why).
2. A network of a member's size is trained on them, and on the labels where there are labels. It begins with
   the weights of the ensemble's best member where it is the same network.
3. It is validated on the eval volumes like any other. Labels of eval and test volumes teach nothing.

Source: Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densem.errors import ConfigError, ExistsError, SchemaError
from densem.schema import UNLABELLED
from densem.study.manifest import ModelEntry, check_name, claimed, locked
from densem.study.prediction import load_model
from densem.study.study import Study
from densem.study.training import (
    ContextMeasure,
    Labelled,
    Validation,
    gather,
    keep_record,
    seen_by,
    volume_ids,
    with_intensity,
)
from densem.volumes import Volume, open_volume

if TYPE_CHECKING:
    from densem.model import Ensemble, Model
    from densem.sampling import LabelledVolume
    from densem.training import Recipe

Progress = Callable[[int, int], None]
TARGETS = "targets"
BEST, RANDOM = "best", "random"


@dataclass(frozen=True)
class DistilRequest:
    """What is to be distilled, as the command line gives it.

    Attributes:
        ensemble: names of models of the study, or model folders.
        recipe: of the network; that of the first member without it.
        name: of the model.
        max_time: seconds of training; the recipe's steps without it.
        overrides: section.key=value.
        seed: of weights and samples.
        unlabelled: names of volumes to learn from beside those of role train.
        soft, temperature: as in a recipe's [loss]; the recipe's without them.
        start: best, the member of the highest score on the eval volumes where the network is the same;
            random; or a model of the study or a model folder.
    """

    ensemble: tuple[str, ...]
    recipe: str | None = None
    name: str | None = None
    max_time: float | None = None
    overrides: tuple[str, ...] = ()
    seed: int = 0
    unlabelled: tuple[str, ...] = ()
    soft: float | None = None
    temperature: float | None = None
    start: str = BEST


def distil(study: Study, request: DistilRequest, progress: Progress | None = None) -> Iterator[str]:
    """Distil an ensemble into one model of the study.

    Yields:
        Lines for the user.

    Raises:
        ConfigError: without an ensemble, or for a volume that must not teach.
    """
    from densem.model import Ensemble
    from densem.training import train

    if not request.ensemble:
        raise ConfigError("densem distill: give --ensemble MODEL, repeated for every member")
    ensemble = Ensemble([load_model(study, m) for m in request.ensemble])
    _check_classes(study, ensemble)
    name = check_name(request.name or _free_name(study), "model")
    if name in study.manifest.models:
        raise ExistsError(f"study {study.name}: there is a model {name!r} already; give another --name")
    recipe = _recipe(ensemble, request)
    material = gather(study)
    yield from material.said
    extra = [unlabelled(study, v) for v in request.unlabelled]
    start = _start(study, request.start, ensemble, recipe)
    run = study.run_folder(name)
    with claimed(run, f"training {name}"):
        yield f"The ensemble of {len(ensemble.members)} labels {_named([*material.learn, *extra])}."
        volumes = taught(ensemble, [*material.learn, *extra], run / TARGETS, progress)
        begun = f", beginning with the weights of {start.name}" if start is not None else ""
        yield f"Training {name} on what it says{begun}."
        result = train(
            recipe,
            volumes,
            study.schema,
            run,
            validate=Validation(material.judge, study.schema),
            seed=request.seed,
            max_time=request.max_time,
            name=name,
            measure=ContextMeasure(material.judge),
            start=start,
        )
    with locked(study.path) as manifest:
        result.model.save(study.model_folder(name), overwrite=True)
        keep_record(run, study.model_folder(name))
        manifest.models[name] = ModelEntry(
            id=result.model.id,
            recipe=request.recipe or f"as {ensemble.members[0].name}",
            trained_on={**seen_by(study, request.ensemble), **volume_ids([*material.learn, *extra])},
            evaluated_on=volume_ids(material.judge),
        )
    shutil.rmtree(run / TARGETS, ignore_errors=True)
    score = "not validated" if result.score is None else f"MIoU {result.score:.3f} on the eval volume"
    yield f"Model {name} ({result.model.id}): {score}, step {result.best_step} of {result.steps}."
    yield f"Next: densem predict {study.folder} --model {name} --volume VOLUME"


def taught(
    ensemble: Ensemble, volumes: Sequence[Labelled], folder: Path, progress: Progress | None = None
) -> list[LabelledVolume]:
    """Volumes with what an ensemble takes them for.

    Args:
        ensemble: the teacher.
        volumes: to be learned from; labels may be 255 throughout.
        folder: where the soft targets go; those of the same teacher that are there are taken up.
        progress: told voxels done and voxels in all of a volume.
    """
    from densem.sampling import LabelledVolume, SoftTargets

    found = []
    for volume in volumes:
        place = folder / volume.name
        classes = _labelled_by(ensemble, volume.image, place, progress)
        probabilities = _array(place / "probabilities.zarr")
        soft = SoftTargets(classes, probabilities, f"{ensemble.id} {volume.image.id}")
        found.append(LabelledVolume(volume.image, volume.labels, volume.name, soft, volume.objects))
    return found


def unlabelled(study: Study, name: str) -> Labelled:
    """A volume to learn from without its labels, if it has any.

    Raises:
        ConfigError: for a volume of role eval or test, which must teach nothing.
    """
    role = study.entry(name).role
    if role in ("eval", "test"):
        raise ConfigError(
            f"study {study.name}: volume {name!r} has role {role}: a network that has seen it could "
            "no longer be judged by it; give volumes of role unlabelled"
        )
    image = with_intensity(study.image(name))
    nothing = np.broadcast_to(np.uint8(UNLABELLED), image.shape)
    record = {"id": f"unlabelled {image.id}"}
    return Labelled(name, image, Volume(nothing, image.voxel_size_nm, image.offset_nm, None, record))


def _labelled_by(ensemble: Ensemble, image: Volume, place: Path, progress: Progress | None) -> Volume:
    from densem.inference import PredictOptions, predict_anew

    path = place / "classes.zarr"
    if path.exists() and (place / "probabilities.zarr").exists():
        known = open_volume(path)
        record = known.provenance
        finished = known.attributes.get("complete", False)
        if finished and (record.get("model_id"), record.get("input")) == (ensemble.id, image.id):
            return known
    options = PredictOptions(save=("probabilities",), runtime="torch", affinities=False)
    return predict_anew(ensemble, image, place, options, progress, {"command": "densem distill"}).classes


def _array(path: Path) -> Any:
    """The finest level of a volume of probabilities, float32 (C, Z, Y, X)."""
    import zarr

    return zarr.open_group(path, mode="r")["s0"]


def _recipe(ensemble: Ensemble, request: DistilRequest) -> Recipe:
    from densem.training import Recipe

    first = ensemble.members[0]
    if request.recipe is not None:
        recipe = Recipe.load(request.recipe, request.overrides)
    else:
        recipe = Recipe.of_model(first.training, first.name, request.overrides)
    return with_softness(recipe, request.soft, request.temperature)


def best_start(ensemble: Ensemble, recipe: Recipe) -> Model | None:
    """The member of the highest score on the eval volumes that is the network of a recipe; None if none."""
    from densem.training import begun_with

    ranked = sorted(ensemble.members, key=lambda m: -float(m.training.get("eval_miou", -1.0)))
    for member in ranked:
        with suppress(ConfigError):
            begun_with(member, recipe, ensemble.schema, ensemble.voxel_size_nm)
            return member
    return None


def _check_classes(study: Study, ensemble: Ensemble) -> None:
    ours, theirs = study.schema, ensemble.schema
    if (ours.ids, ours.names) != (theirs.ids, theirs.names):
        raise SchemaError(
            f"study {study.name}: expected an ensemble of its classes, {', '.join(ours.names)}, found one of "
            f"{', '.join(theirs.names)}; distil it in a study of these classes"
        )


def _start(study: Study, word: str, ensemble: Ensemble, recipe: Recipe) -> Model | None:
    if word == RANDOM:
        return None
    return best_start(ensemble, recipe) if word == BEST else load_model(study, word)


def with_softness(recipe: Recipe, soft: float | None, temperature: float | None) -> Recipe:
    """A recipe with another share and temperature of soft targets."""
    given = {"soft": soft, "temperature": temperature}
    changed = {k: v for k, v in given.items() if v is not None}
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update=changed)})


def _free_name(study: Study) -> str:
    number = 1
    while f"distilled-{number}" in study.manifest.models:
        number += 1
    return f"distilled-{number}"


def _named(volumes: Sequence[Labelled]) -> str:
    return ", ".join(v.name for v in volumes)
