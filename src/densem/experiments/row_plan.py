"""Row plan: how all replicates of a row are trained, decided once, so that they differ in their seed alone.

With a time budget the first run of a row measures: width, patches and number of steps that fit are written
to `plan.json`, and every replicate, whenever and wherever it runs, is trained by that recipe. A distilled
network without a recipe of its own is trained by what was decided for the members of its ensemble, and a
budget of its own changes the number of steps alone.
Two runs that come at the same time wait for each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from densem.blocks import lock
from densem.errors import ConfigError, IntegrityError
from densem.experiments.made_by import made_by
from densem.experiments.setting import Setting
from densem.experiments.suite import Row
from densem.sampling import LabelledVolume
from densem.study.distillation import with_softness
from densem.study.training import Material, Validation, gather, volume_ids
from densem.training import Recipe, settle

FILE = "plan.json"
SEED = 0
"""Of the steps that are measured; seeds of replicates begin at 1."""


def recipe_of(setting: Setting, row: Row) -> Recipe:
    """The recipe by which every replicate of a row is trained; decides it if nobody has yet.

    Raises:
        IntegrityError: if the row was begun with another recipe, budget or other volumes.
    """
    folder = setting.folder.row(row.slug)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / ".plan.lock"):
        known = planned(setting, row)
        if known is not None:
            return known
        material = gather(setting.study)
        asked = _asked(setting, row, material)
        recipe = _decide(setting, row, material, folder / "measuring")
        facts = {
            "asked": asked,
            "recipe": recipe.model_dump(mode="json"),
            "hash": hash_of(recipe.model_dump(mode="json")),
            "made_by": made_by().model_dump(mode="json"),
        }
        part = folder / f".{FILE}.part"
        part.write_text(json.dumps(facts, indent=1) + "\n")
        os.replace(part, folder / FILE)
        return recipe


def planned(setting: Setting, row: Row) -> Recipe | None:
    """What was decided for a row; None if nothing was yet.

    Raises:
        IntegrityError: if it was decided for something else than what the suite asks for now.
    """
    path = setting.folder.row(row.slug) / FILE
    if not path.is_file():
        return None
    facts = json.loads(path.read_text())
    facts["asked"].setdefault("start", "random")  # as all began while there was no choice
    facts["asked"].setdefault("unlabelled volumes", {})  # nobody noted them
    now = json.loads(json.dumps(_asked(setting, row, gather(setting.study))))
    changed = [key for key in now if facts["asked"].get(key) != now[key]]
    if changed:
        raise IntegrityError(
            f"{path.parent}: row {row.slug!r} was begun with {_said(facts['asked'], changed)}, and now it "
            f"is {_said(now, changed)}; give what it was begun with, another --name, or remove that folder"
        )
    return Recipe.from_table(facts["recipe"], str(path))


def hash_of(recipe: dict[str, Any]) -> str:
    """16 hex digits over the table of a recipe; its description does not matter."""
    matters = {k: v for k, v in recipe.items() if k != "description"}
    return hashlib.sha256(json.dumps(matters, sort_keys=True).encode()).hexdigest()[:16]


def row_recipe(setting: Setting, row: Row) -> Recipe:
    """The recipe as the suite asks for it: overrides and number of restarts in it, nothing measured."""
    recipe = Recipe.load(_source(setting, row).recipe or "", _source(setting, row).overrides)
    if row.kind == "distilled":
        recipe = with_softness(recipe, row.soft, row.temperature)
    update: dict[str, Any] = {"restarts": setting.suite.restarts}
    steps = setting.suite.budget_of(row).steps
    if steps is not None:
        update["steps"] = steps
    return recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update=update)})


def _source(setting: Setting, row: Row) -> Row:
    """The row whose recipe a row is trained by: a distilled network has that of the ensemble's members."""
    while row.recipe is None and row.of is not None:
        row = setting.suite.row(row.of)
    if row.recipe is None:
        raise ConfigError(f"row {row.slug!r} has no recipe")
    return row


def _asked(setting: Setting, row: Row, material: Material) -> dict[str, Any]:
    budget = setting.suite.budget_of(row)
    return {
        "recipe": row_recipe(setting, row).model_dump(mode="json"),
        "budget": budget.model_dump(mode="json", exclude_none=True),
        "train volumes": volume_ids(material.learn),
        "eval volumes": volume_ids(material.judge),
        "classes": setting.study.schema.to_table(),
        **(_asked_of_a_pupil(setting, row) if row.kind == "distilled" else {}),
    }


def _asked_of_a_pupil(setting: Setting, row: Row) -> dict[str, Any]:
    images = {name: setting.study.image(name).id for name in unlabelled_names(setting, row)}
    return {"start": row.start, "unlabelled volumes": images}


def unlabelled_names(setting: Setting, row: Row) -> list[str]:
    """Names of the volumes that a distilled network learns from without labels."""
    return setting.study.names("unlabelled") if row.unlabelled else []


def _decide(setting: Setting, row: Row, material: Material, folder: Path) -> Recipe:
    budget = setting.suite.budget_of(row)
    if row.kind == "distilled" and row.recipe is None:
        recipe = with_softness(recipe_of(setting, _source(setting, row)), row.soft, row.temperature)
        if row.budget is None:
            return recipe
        if budget.steps is not None:
            schedule = recipe.schedule.model_copy(update={"steps": budget.steps})
            return recipe.model_copy(update={"schedule": schedule})
    else:
        recipe = row_recipe(setting, row)
    if budget.seconds is None:
        return recipe.with_filters(recipe.auto.otherwise) if recipe.is_auto else recipe
    return _measured(setting, recipe, budget.seconds, material, folder)


def _measured(setting: Setting, recipe: Recipe, seconds: float, material: Material, folder: Path) -> Recipe:
    """The recipe with all written out that fits into a time."""
    asked = recipe.schedule
    patient = asked.model_copy(update={"restarts": max(3, asked.restarts)})  # one bad seed decides nothing
    try:
        found = settle(
            recipe.model_copy(update={"schedule": patient}),
            [LabelledVolume(v.image, v.labels, v.name, objects=v.objects) for v in material.learn],
            setting.study.schema,
            folder,
            max_time=seconds,
            validate=Validation(material.judge, setting.study.schema),
            seed=SEED,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    schedule = found.schedule.model_copy(update={"restarts": asked.restarts})
    return found.model_copy(update={"schedule": schedule})


def _said(asked: dict[str, Any], keys: list[str]) -> str:
    """`recipe ...` in full would fill a page: only what is short is shown."""
    texts = [f"{k} {json.dumps(asked.get(k))}" for k in keys]
    return ", ".join(t if len(t) < 80 else f"another {k}" for t, k in zip(texts, keys, strict=True))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        lock.take(handle, wait=True)
        yield
