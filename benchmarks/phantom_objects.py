"""The phantom end to end: a volume that no training has seen, predicted, cut into objects, compared with its truth.

    densem demo STUDY                                            # makes, trains; or any study with a model
    python benchmarks/phantom_objects.py STUDY SCRATCH [--model demo] [--out results.json]

Every step is a command that a user would type. Scores are those of all objects, the border's too, of found classes
against true ones; beside them the objects of the true classes, which is what remains wrong with a perfect network. Once with
the defaults, once with settings for the size of the smallest objects and for cells that touch.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from densem.cli.app import run
from densem.study import Study

SHAPE = ("24", "400", "400")
SEED = 77
VOLUME = "objects-test"
SMALLEST_NM3 = {"cell": 1e8, "mitochondrion": 2e6, "alpha_granule": 2e6, "dense_granule": 1e6}
SETTINGS = [
    w for kind, volume in SMALLEST_NM3.items() for w in ("--set", f"{kind}.min_volume_nm3={volume:.0f}")
] + ["--set", "cell.method=watershed", "--set", "cell.h_nm=100"]
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


def main() -> None:
    """Everything, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    study, files = chosen.study, chosen.scratch / VOLUME
    if VOLUME not in Study.open(study).manifest.volumes:
        shutil.rmtree(files, ignore_errors=True)
        do("phantom", files, "--shape", *SHAPE, "--seed", SEED, "--dense-granules", 4)
        do("import", study, VOLUME, "--image", files / "image.tif", "--labels", files / "semantic.tif",
           "--palette", "platelet-em", "--instances", files / "cells.tif", "--voxel-size", 40, 10, 10,
           "--role", "test")  # fmt: skip
    name = f"{chosen.model}-{VOLUME}"
    if name not in Study.open(study).manifest.predictions:
        do("predict", study, "--model", chosen.model, "--volume", VOLUME, "--name", name)
    do("objects", study, "--prediction", name, "--overwrite")
    do("objects", study, "--prediction", name, "--name", f"{name}-set", "--overwrite", *SETTINGS)
    for more in ([], SETTINGS):
        do(
            "objects",
            study,
            "--labels",
            VOLUME,
            "--name",
            "perfect" + "-set" * bool(more),
            "--overwrite",
            *more,
        )
    results = {
        "shape": [int(n) for n in SHAPE], "model": chosen.model, "settings": SETTINGS,
        "predicted": scores(study, name, files),
        "predicted, with settings": scores(study, f"{name}-set", files),
        "true classes": scores(study, "perfect", files),
        "true classes, with settings": scores(study, "perfect-set", files),
    }  # fmt: skip
    print(json.dumps(results, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
