"""Settings of objects chosen on an eval volume: the best of some for each class, kept for later runs.

    tuned/<id of the models>.toml    what was chosen, on what, by which score, and all that was tried

1. the classes are those whose objects were annotated in the volume, or stand in a file; what was chosen for
   others before stays, so that cells and organelles can be tuned one after the other
2. for each class: components; watershed with several h; the affinities with several biases, where there are
   some; each with several smallest volumes. Of equal scores the first in this order is taken
3. `densem objects` takes what was chosen for every prediction of the same models, before what is asked for

A volume of role train or test is refused: on the one all settings look good, the other is for judging.
"""

from __future__ import annotations

import math
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w

from densem.blocks import EngineChoice
from densem.errors import ConfigError, InputError, NotFoundError, ShapeError, VoxelSizeError
from densem.evaluation import ObjectVolumes, Overlaps, overlaps, panoptic, partition_scores
from densem.evaluation.countable import countable
from densem.evaluation.object_classes import object_classes
from densem.evaluation.overlaps import totals
from densem.objects import Objects, ObjectsOptions, Rules, find_objects
from densem.study.manifest import claimed
from densem.study.object_scoring import open_objects
from densem.study.study import Study
from densem.volumes import Volume
from densem.volumes.affinities import Affinities

Metric = Literal["pq", "are"]
Progress = Callable[[int, int], None]
H_STEPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Of h, in longest sides of a voxel."""
BIASES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SHARES = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Of the volume that 19 of 20 true objects of the class are larger than: smallest volumes that are tried."""


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
        file: where it stands.
        settings: entries of each class that was tuned now.
        scores: of these, by class.
        tried: number of settings tried for each of them.
    """

    file: Path
    settings: dict[str, dict[str, Any]]
    scores: dict[str, float]
    tried: dict[str, int]


def tuned_file(study: Study, model_id: str) -> Path:
    """Where the settings for the predictions of some models stand, or would."""
    return study.folder / "tuned" / f"{model_id}.toml"


def tuned_settings(study: Study, model_id: str) -> dict[str, Any]:
    """The settings chosen for predictions of these models, by thing class; none where nothing was chosen.

    A class that the schema no longer has, or no longer calls a thing, is left away.

    Raises:
        ConfigError: for a file that cannot be read.
    """
    things = {c.name for c in study.schema.classes if c.thing}
    rows = _read(tuned_file(study, model_id))
    return {name: row["settings"] for name, row in rows.items() if name in things}


def tune_objects(
    folder: Path,
    prediction: str,
    metric: Metric = "pq",
    workers: int = 1,
    progress: Progress | None = None,
    truth: Path | None = None,
) -> Tuned:
    """Choose the settings of each annotated thing class on the volume of a prediction.

    Args:
        folder: of the study.
        prediction: of a volume of role eval.
        metric: panoptic quality of the class (pq), or adapted Rand error (are) of all its level's objects.
        workers: blocks worked on at a time.
        progress: told settings tried and settings in all.
        truth: a file of true object ids, instead of the annotated objects of the volume.

    Raises:
        NotFoundError: no such prediction or file.
        InputError: a volume of another role, or without annotated objects.
        ShapeError, VoxelSizeError: a file of another shape or voxel size.
        ConfigError: an earlier choice that cannot be read.
        ResourceError: settings for the same models are being chosen by another process.
    """
    study = Study.open(folder)
    material = _Material.of(study, prediction, truth)
    file = tuned_file(study, material.model_id)
    _read(file)  # what cannot be read is said before minutes of work
    scratch = file.with_name(f".{file.stem}")
    with claimed(scratch, "choosing settings of objects", "tune another model's"):
        try:
            now = _chosen(material, metric, scratch / "objects", workers, progress)
            _write(file, _read(file) | now)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Tuned(
        file,
        {name: row["settings"] for name, row in now.items()},
        {name: row["score"] for name, row in now.items()},
        {name: len(row["tried"]) for name, row in now.items()},
    )


def _chosen(
    material: _Material, metric: Metric, scratch: Path, workers: int, progress: Progress | None
) -> dict[str, dict[str, Any]]:
    """What is best for each class, with all that was tried."""
    candidates = {name: list(material.candidates(name)) for name in material.things}
    total = sum(map(len, candidates.values()))
    done = 0
    best: dict[str, tuple[float, dict[str, Any]]] = {}
    tried: dict[str, list[dict[str, Any]]] = {name: [] for name in candidates}
    for name, entries in candidates.items():
        for entry in entries:
            for chosen, score in material.tried(name, entry, metric, scratch, workers):
                tried[name].append({**chosen, metric: round(score, 5)})
                worse = name in best and _gain(metric) * score <= _gain(metric) * best[name][0]
                if not worse:
                    best[name] = (score, chosen)
            done += 1
            if progress is not None:
                progress(done, total)
    of = {
        "metric": metric, "volume": material.volume, "prediction": material.prediction,
        "truth_id": material.truth.id,
    }  # fmt: skip
    return {
        name: {**of, "score": score, "settings": chosen, "tried": tried[name]}
        for name, (score, chosen) in best.items()
    }


@dataclass(frozen=True)
class _Material:
    """What settings are tried on."""

    study: Study
    prediction: str
    volume: str
    model_id: str
    classes: Volume
    labels: Volume
    truth: Volume
    affinities: Affinities | None
    things: tuple[str, ...]

    @classmethod
    def of(cls, study: Study, prediction: str, file: Path | None) -> _Material:
        from densem.sampling.object_labels import annotated_things, thing_names
        from densem.study.prediction import open_prediction

        classes = open_prediction(study, prediction)
        entry = study.manifest.predictions.get(prediction)
        if entry is None:
            raise NotFoundError(f"study {study.name}: prediction {prediction!r} does not stand in study.toml")
        role = study.entry(entry.volume).role
        if role != "eval":
            raise InputError(
                f"densem tune-objects: expected a prediction of a volume of role eval, found "
                f"{entry.volume!r} of role {role}: what a model learnt from, or is judged by, must choose "
                "nothing"
            )
        truth, labels = study.objects(entry.volume), study.labels(entry.volume)
        if file is not None:
            truth = _same_grid(open_objects(file, classes), classes, file)
        if truth is None or labels is None:
            missing = "annotated objects" if truth is None else "annotated classes"
            more = "--instances FILE , or give --truth FILE" if truth is None else "--labels FILE"
            raise InputError(
                f"study {study.name}: volume {entry.volume!r} has no {missing} to choose settings by; add "
                f"them with  densem import {study.folder} {entry.volume} {more}"
            )
        things = annotated_things([(entry.volume, labels, truth)], study.schema)
        if not things:
            raise InputError(
                f"the objects in {truth.name} cover no thing class ({thing_names(study.schema)}) of volume "
                f"{entry.volume!r} for the most part; look at both with  densem info"
            )
        told = Affinities.beside(classes.path)
        return cls(study, prediction, entry.volume, entry.model_id, classes, labels, truth, told, things)

    def candidates(self, name: str) -> Iterator[dict[str, Any]]:
        """Settings of a class that are tried, but for the smallest volume."""
        yield {"method": "components"}
        for step in H_STEPS:
            yield {"method": "watershed", "h_nm": step * max(self.classes.voxel_size_nm)}
        if self.affinities is not None and name in self.affinities.classes:
            for bias in BIASES:
                yield {"method": "mutex", "mutex_bias": bias}

    def tried(
        self, name: str, entry: dict[str, Any], metric: Metric, scratch: Path, workers: int
    ) -> Iterator[tuple[dict[str, Any], float]]:
        """The settings with each smallest volume, and the score that `evaluate_objects` would give them."""
        found = self._objects(name, entry, scratch, workers)
        level = next(v for v in found.volumes if name in v.attributes["classes"])
        compared = ObjectVolumes(self.truth, level, self.labels, self.classes)
        table = countable(overlaps(compared, workers=workers), self.study.schema).overlaps
        kinds = zip(found.table["id"], found.table["class"], strict=True)
        own = np.array([i for i, kind in kinds if kind == name], np.uint64)
        voxel = math.prod(self.classes.voxel_size_nm)
        for smallest in self._smallest(table, name, voxel):
            chosen = {**entry, "min_volume_nm3": smallest}
            yield chosen, self._score(_without(table, own, smallest / voxel), name, metric)

    def _objects(self, name: str, entry: dict[str, Any], scratch: Path, workers: int) -> Objects:
        told = self.affinities.classes if self.affinities else ()
        size = self.classes.voxel_size_nm
        rules = Rules.of(self.study.schema, size, {name: entry}, "densem tune-objects", told)
        options = ObjectsOptions(engine=EngineChoice(workers=workers), overwrite=True)
        shutil.rmtree(scratch, ignore_errors=True)
        return find_objects(
            self.classes, self.study.schema, rules, scratch, options, affinities=self.affinities
        )

    def _smallest(self, table: Overlaps, name: str, voxel: float) -> list[float]:
        """Smallest volumes that are tried, from the sizes of the true objects of the class."""
        schema = self.study.schema
        ids, sizes = totals(table.true_ids, table.voxels)
        kinds = object_classes(ids, table.true_ids, table.true_classes, table.voxels, schema)
        sizes = sizes[(ids > 0) & (kinds == schema.names.index(name))]
        typical = float(np.quantile(sizes, 0.05)) if sizes.size else 0.0
        return sorted({round(share * typical) * voxel for share in SHARES})

    def _score(self, table: Overlaps, name: str, metric: Metric) -> float:
        if metric == "are":
            error = partition_scores(*table.pairs()).adapted_rand_error
            return 1.0 if error is None else error
        found = panoptic(table, self.study.schema).classes.get(name)
        return found.pq or 0.0 if found else 0.0


def _same_grid(truth: Volume, classes: Volume, file: Path) -> Volume:
    """True objects that lie on the grid of the prediction."""
    if truth.shape != classes.shape:
        raise ShapeError(
            f"--truth {file}: expected the shape of the prediction, {classes.shape} (z, y, x), found "
            f"{truth.shape}; give the true objects of the predicted volume"
        )
    if not np.allclose(truth.voxel_size_nm, classes.voxel_size_nm, rtol=1e-3, atol=0):
        have, want = (" x ".join(f"{v:g}" for v in x.voxel_size_nm) for x in (truth, classes))
        raise VoxelSizeError(
            f"--truth {file}: expected voxels of {want} nm (z y x), as the prediction has, found {have} nm; "
            "give the true objects of the predicted volume"
        )
    return truth


def _gain(metric: Metric) -> int:
    """Larger is better, or smaller."""
    return -1 if metric == "are" else 1


def _without(table: Overlaps, own: np.ndarray, voxels: float) -> Overlaps:
    """As if smaller ones of some predicted objects, `own`, had been left away."""
    ids, sizes = totals(table.predicted_ids, table.voxels)
    small = np.intersect1d(ids[sizes < voxels], own)
    kept = np.where(np.isin(table.predicted_ids, small), np.uint64(0), table.predicted_ids)
    return replace(table, predicted_ids=kept)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """What was chosen for each class; nothing where no file is."""
    if not file.is_file():
        return {}
    try:
        found = tomllib.loads(file.read_text())
        return {name: {**row, "settings": dict(row["settings"])} for name, row in found.items()}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file}: damaged, or of an earlier version ({error}); remove it, and tune again"
        ) from None


def _write(file: Path, record: dict[str, dict[str, Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(f"# Chosen by  densem tune-objects , for each class.\n{tomli_w.dumps(record)}")
    os.replace(part, file)
