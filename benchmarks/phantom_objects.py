"""The phantom end to end: volumes that no training has seen, predicted, cut into objects, compared with their truth.

    densem demo STUDY                                            # makes, trains; or any study with a model
    python benchmarks/phantom_objects.py STUDY SCRATCH [--model demo] [--out results.json]

Every step is a command that a user would type. Scores are those of all objects, the border's too, of found classes
against true ones; beside them the objects of the true classes, which is what remains wrong with a perfect network. Once with
the defaults, once with what `densem tune-objects` chooses on a second phantom, of role eval and another seed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

from densem.cli.app import run
from densem.experiments.made_by import made_by
from densem.study import Study
from densem.study.object_tuning import tuned_file

SHAPE = ("24", "400", "400")
SEEDS = {"eval": 78, "test": 77}
KEPT = ("truth", "predicted", "matched", "pq", "sq", "rq", "mean_ap")


def do(*words: object) -> None:
    """A command that must succeed."""
    code = run([str(w) for w in words])
    if code:
        raise SystemExit(f"densem {' '.join(map(str, words))}: exit code {code}")


def scores(study: Path, name: str, files: Path) -> dict[str, Any]:
    """By class; cells are level 0, organelles level 1."""
    found: dict[str, Any] = {}
    for level, truth in enumerate((files / "cells.tif", files / "organelles.tif")):
        do("evaluate-objects", study, "--objects", name, "--level", level, "--truth", truth)
        record = json.loads((study / "objects" / name / f"scores-{level}.json").read_text())
        found |= {kind: {k: row[k] for k in KEPT} for kind, row in record["classes"].items()}
        parts = {k: record["partitions"][k] for k in ("adapted_rand_error", "vi_split", "vi_merge")}
        found[f"level {level}"] = {
            **{k: record["all"][k] for k in KEPT},
            **parts,
            "left out": record["left_out"],
        }
    return found


def predicted(study: Path, scratch: Path, role: str, model: str) -> tuple[str, Path]:
    """Name of the prediction of a new phantom of this role, and the folder of its truth."""
    volume, files = f"objects-{role}", scratch / role
    if volume not in Study.open(study).manifest.volumes:
        shutil.rmtree(files, ignore_errors=True)
        do("phantom", files, "--shape", *SHAPE, "--seed", SEEDS[role], "--dense-granules", 4)
        do("import", study, volume, "--image", files / "image.tif", "--labels", files / "semantic.tif",
           "--palette", "platelet-em", "--instances", files / "cells.tif", "--voxel-size", 40, 10, 10,
           "--role", role)  # fmt: skip
    name = f"{model}-{volume}"
    if name not in Study.open(study).manifest.predictions:
        do("predict", study, "--model", model, "--volume", volume, "--name", name)
    return name, files


def tuned(study: Path, prediction: str, files: Path) -> dict[str, Any]:
    """What is chosen on an eval volume, by class: settings and score."""
    do("tune-objects", study, "--prediction", prediction)
    do("tune-objects", study, "--prediction", prediction, "--truth", files / "organelles.tif")
    opened = Study.open(study)
    found = tomllib.loads(tuned_file(opened, opened.manifest.predictions[prediction].model_id).read_text())
    return {name: {k: row[k] for k in ("metric", "score", "settings")} for name, row in found.items()}


def made() -> dict[str, Any]:
    """What makes the record."""
    return made_by().model_dump(include={"densem", "commit", "torch", "machine", "date"})


def main() -> None:
    """Everything, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    study = chosen.study
    choices = tuned(study, *predicted(study, chosen.scratch, "eval", chosen.model))
    same = [f"{k}.{key}={v}" for k, row in choices.items() for key, v in row["settings"].items()]
    settings = [word for entry in same for word in ("--set", entry)]
    name, files = predicted(study, chosen.scratch, "test", chosen.model)
    wanted = {
        "predicted": (name, ["--prediction", name, "--untuned"]),
        "predicted, tuned": (f"{name}-tuned", ["--prediction", name]),
        "true classes": ("perfect", ["--labels", "objects-test"]),
        "true classes, same settings": ("perfect-tuned", ["--labels", "objects-test", *settings]),
    }
    results = {"shape": [int(n) for n in SHAPE], "model": chosen.model, "tuned": choices, "made by": made()}
    for what, (objects, words) in wanted.items():
        do("objects", study, *words, "--name", objects, "--overwrite")
        results[what] = scores(study, objects, files)
    print(json.dumps(results, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
