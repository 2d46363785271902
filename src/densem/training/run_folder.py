"""Run folder: what a run was started with, so that only the same run is resumed.

run.json        identity: recipe as asked for, seed, time budget, volumes, schema; the automatic choices
recipe.toml     the recipe as run, automatic choices filled in
checkpoint.pt   see `checkpoint`;  metrics.jsonl, tensorboard/   see `metrics`
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densem.errors import IntegrityError
from densem.sampling import LabelledVolume
from densem.schema import LabelSchema
from densem.training import checkpoint, metrics
from densem.training.recipe import Recipe

IDENTITY, RECIPE = "run.json", "recipe.toml"


def identity(
    recipe: Recipe,
    volumes: Sequence[LabelledVolume],
    schema: LabelSchema,
    seed: int,
    max_time: float | None,
    start: str | None = None,
) -> dict[str, Any]:
    """All that decides a run, as plain values; `start` is the id of a model that it begins with."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
        "max_time": max_time,
        "volumes": {
            v.name: {
                "image": v.image.id,
                "labels": v.labels.id,
                **({"soft targets": v.soft.id} if v.soft is not None else {}),
                **({"objects": v.objects.id} if v.objects is not None and recipe.affinities.share else {}),
            }
            for v in volumes
        },
        "schema": schema.to_table(),
        **({"start": start} if start is not None else {}),
    }


def find(folder: Path, asked: dict[str, Any]) -> Recipe | None:
    """The recipe of the run that is in the folder; None if there is no run.

    Raises:
        IntegrityError: if the run there was started with something else.
    """
    path = folder / IDENTITY
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    differences = _differences(found["asked"], json.loads(json.dumps(asked)))
    if differences:
        raise IntegrityError(
            f"{folder}: the run there was started with other settings ({'; '.join(differences[:4])}); "
            "give the same settings to go on with it, another --name, or remove that folder to start anew"
        )
    return Recipe.from_table(found["recipe"], str(path))


def begin(folder: Path, asked: dict[str, Any], recipe: Recipe) -> None:
    """Write down what the run is started with; earlier runs in the folder are forgotten."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECIPE).write_text(recipe.to_toml())
    part = folder / f".{IDENTITY}.part"
    part.write_text(json.dumps({"asked": asked, "recipe": recipe.model_dump(mode="json")}, indent=1))
    os.replace(part, folder / IDENTITY)


def clear(folder: Path) -> None:
    """Remove the files of a run, and nothing else."""
    for name in (IDENTITY, RECIPE, checkpoint.LAST, checkpoint.PREVIOUS, metrics.FILE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    for path in folder.glob("boundary-*.zarr"):
        shutil.rmtree(path, ignore_errors=True)


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    """`key: before -> now` for every value that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        both = [*before, *(k for k in now if k not in before)]
        return [d for k in both for d in _differences(before.get(k), now.get(k), f"{key}.{k}" if key else k)]
    return [] if before == now else [f"{key}: {before!r} -> {now!r}"]
