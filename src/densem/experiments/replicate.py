"""Replicate: one row of networks trained with one seed, predicted, scored and recorded.

1. The row's plan gives the recipe, the same for all replicates.
2. Training sees the volumes of role train, and for its validations those of role eval.
3. The model of the best validation is saved; only then the test volumes are opened.
4. Eval and test volumes are predicted and scored; the record is written last.

Whatever was done before an interruption is not done again: a checkpoint, a model, a prediction is taken up.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from densem import networks
from densem.experiments.curve import curve_of
from densem.experiments.judging import judge
from densem.experiments.made_by import PeakMemory, made_by
from densem.experiments.record import NetworkFacts, RecipeFacts, RunRecord, TrainingFacts
from densem.experiments.row_plan import hash_of, recipe_of, row_recipe
from densem.experiments.setting import Run, Setting
from densem.model import Ensemble, Model
from densem.sampling import LabelledVolume
from densem.study.training import ContextMeasure, Validation, gather, keep_record
from densem.training import train

log = logging.getLogger(__name__)
MEMORY = "memory.txt"


def run_replicate(setting: Setting, run: Run) -> RunRecord:
    """Train, predict, score and record one network.

    Raises:
        CollapseError: if training collapsed.
        KeyboardInterrupt: when asked to stop; the same call goes on from there.
    """
    return finish(setting, run, lambda: _trained(setting, run))


def finish(
    setting: Setting, run: Run, train_it: Callable[[], Model], members: tuple[str, ...] = ()
) -> RunRecord:
    """Train a network unless its model is there, then predict, score and record.

    Args:
        setting: the benchmark.
        run: of a network or a distilled one.
        train_it: trains it and leaves the model in the folder of the run.
        members: whom it was distilled from.
    """
    started = time.monotonic()
    folder = setting.place(run)
    known = folder / "model"
    model = Model.load(known) if (known / "model.toml").is_file() else train_it()
    results = judge(setting, Ensemble([model]), folder)
    record = RunRecord(
        **facts_of(setting, run),
        members=members,
        status="done",
        network=network_facts(model),
        training=_training_facts(model, folder / "model"),
        curve=curve_of(folder / "model" / "training" / "metrics.jsonl"),
        results=results,
        model="model",
        seconds=round(time.monotonic() - started, 1),
        made_by=made_by(),
    )
    record.write(folder)
    return record


def _trained(setting: Setting, run: Run) -> Model:
    folder = setting.place(run)
    recipe = recipe_of(setting, run.row)
    material = gather(setting.study)
    assert run.seed is not None
    with PeakMemory() as peak:
        result = train(
            recipe,
            [LabelledVolume(v.image, v.labels, v.name, objects=v.objects) for v in material.learn],
            setting.study.schema,
            folder / "training",
            validate=Validation(material.judge, setting.study.schema),
            seed=run.seed,
            name=f"{run.row.slug}-s{run.seed}",
            measure=ContextMeasure(material.judge),
        )
    keep_model(result.model, folder, peak.mb)
    return result.model


def keep_model(model: Model, folder: Path, memory_mb: float | None) -> None:
    """Save a model with its record into the folder of its run, whole or not at all; drop the checkpoints."""
    part, target = folder / ".model.part", folder / "model"
    model.save(part, overwrite=True)
    keep_record(folder / "training", part)
    if memory_mb is not None:
        (part / "training" / MEMORY).write_text(f"{memory_mb:.1f}\n")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    shutil.rmtree(folder / "training", ignore_errors=True)


def facts_of(setting: Setting, run: Run) -> dict[str, Any]:
    """What is known of a run before it begins, as entries of its record."""
    row = run.row
    facts: dict[str, Any] = {"row": row.slug, "title": row.title, "kind": row.kind, "seed": run.seed}
    if run.seed is not None:
        source = row if row.recipe else setting.suite.row(setting.suite.row(row.of or "").of or "")
        recipe = _recipe_known(setting, run)
        facts["recipe"] = RecipeFacts(
            name=source.recipe or "", hash=hash_of(recipe), overrides=source.overrides
        )
    return facts


def _recipe_known(setting: Setting, run: Run) -> dict[str, Any]:
    """The recipe as run, or as far as it is known."""
    model = setting.place(run) / "model"
    if (model / "model.toml").is_file():
        return dict(Model.load(model).training["recipe"])
    return row_recipe(setting, run.row).model_dump(mode="json")


def network_facts(*models: Model) -> NetworkFacts:
    """Of one network, or of several that are run together."""
    costs = [_mflop(m) for m in models]
    config: Any = models[0].network.config
    return NetworkFacts(
        architecture="+".join(dict.fromkeys(m.architecture for m in models)),
        parameters=sum(networks.parameters(m.network) for m in models),
        mflop_per_voxel=None if None in costs else round(sum(c for c in costs if c is not None), 4),
        config=config.model_dump(mode="json") if len(models) == 1 else {},
    )


def _mflop(model: Model) -> float | None:
    try:
        return networks.mflop_per_voxel(model.network)
    except (RuntimeError, NotImplementedError) as error:  # a layer that cannot be counted without numbers
        log.info("%s: operations not counted: %s", model.name, str(error).splitlines()[0])
        return None


def _training_facts(model: Model, folder: Path) -> TrainingFacts:
    """From what the model says of its training."""
    summary = model.training
    memory = folder / "training" / MEMORY
    filters = summary["recipe"]["network"]["config"].get("filters")
    return TrainingFacts(
        seconds=summary["seconds"],
        steps=summary["steps"],
        filters=filters if isinstance(filters, int) else None,
        best_step=summary["best_step"],
        best_miou=summary.get("eval_miou"),
        restarts=len(summary.get("restarts", ())),
        peak_memory_mb=float(memory.read_text()) if memory.is_file() else None,
    )
