"""Distillation as a row of a benchmark: one network trained on what an ensemble says, judged like the others.

It learns from the volumes of role train, and unless its row says otherwise from those of role unlabelled.
The ensemble was chosen by the eval volumes, as any.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from densem.errors import IncompleteError
from densem.experiments.ensembles import load
from densem.experiments.made_by import PeakMemory
from densem.experiments.record import RunRecord
from densem.experiments.replicate import finish, keep_model
from densem.experiments.row_plan import recipe_of, unlabelled_names
from densem.experiments.setting import Run, Setting
from densem.model import Ensemble, Model
from densem.study.distillation import best_start, taught, unlabelled
from densem.study.training import ContextMeasure, Validation, gather
from densem.training import Recipe, train

log = logging.getLogger(__name__)
TEACHER = "teacher.txt"


def run_distilled(setting: Setting, run: Run) -> RunRecord:
    """Train, predict, score and record one network distilled from an ensemble.

    Raises:
        IncompleteError: if the ensemble is not there.
    """
    members = teachers(setting, run)
    ensemble = Ensemble(load(setting, members))
    _forget_another(setting.place(run), ensemble.id)
    return finish(setting, run, lambda: _trained(setting, run, ensemble), tuple(m.name for m in members))


def teachers(setting: Setting, run: Run) -> list[RunRecord]:
    """The members of the ensemble that a run is distilled from.

    Raises:
        IncompleteError: if it is not finished.
    """
    source = setting.run(run.row.of or "")
    record = setting.record(source)
    if record is None or not record.done:
        raise IncompleteError(
            f"a distilled network learns from ensemble {source.name!r}, which is not finished"
        )
    finished = {r.name: r for r in setting.finished(source.row.of or "")}
    gone = [name for name in record.members if name not in finished]
    if gone:
        raise IncompleteError(
            f"a distilled network learns from ensemble {source.name!r}, whose member {gone[0]!r} is not "
            "finished any more; run the ensemble's row anew"
        )
    return [finished[name] for name in record.members]


def _trained(setting: Setting, run: Run, ensemble: Ensemble) -> Model:
    folder, study = setting.place(run), setting.study
    recipe = recipe_of(setting, run.row)
    material = gather(study)
    extra = [unlabelled(study, name) for name in unlabelled_names(setting, run.row)]
    assert run.seed is not None
    with PeakMemory() as peak:
        result = train(
            recipe,
            taught(ensemble, [*material.learn, *extra], folder / "targets"),
            study.schema,
            folder / "training",
            validate=Validation(material.judge, study.schema),
            seed=run.seed,
            name=f"{run.row.slug}-s{run.seed}",
            measure=ContextMeasure(material.judge),
            start=_start(run, ensemble, recipe),
        )
    keep_model(result.model, folder, peak.mb)
    shutil.rmtree(folder / "targets", ignore_errors=True)
    return result.model


def _start(run: Run, ensemble: Ensemble, recipe: Recipe) -> Model | None:
    """The model that a run begins with; None for random weights."""
    if run.row.start == "random":
        return None
    found = best_start(ensemble, recipe)
    if found is None:
        log.warning(
            "%s: no member of ensemble %s is the network to be trained: it begins with random weights",
            run.name,
            run.row.of,
        )
    return found


def _forget_another(folder: Path, teacher: str) -> None:
    """Remove what was learned from another ensemble than this one."""
    note = folder / TEACHER
    if note.is_file() and note.read_text().strip() == teacher:
        return
    for name in ("model", "training", "targets", "predictions"):
        shutil.rmtree(folder / name, ignore_errors=True)
    note.write_text(f"{teacher}\n")
