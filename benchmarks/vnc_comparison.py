"""Two recipes, alternating, several seeds, on an ssTEM volume; scores on slices that nothing was chosen by.

    DENSEM_TEST_DATA=... python benchmarks/vnc_comparison.py STUDY --max-time 5m --seeds 1 2 3 [--out results.json]

Trains on slices 0-10, validates on 11-12, scores on 13-15 of `vnc/` through the command line, as a user would.
Interrupted, it goes on: models and predictions that are there are not made again. "CPU minutes" are those of all
threads together: five minutes of `--max-time` on two cores are at most ten.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from densem import __version__
from densem.study import Study

SCHEMA = """[classes]
intracellular = { id = 0, color = "#d9d9d9" }
membrane      = { id = 1, color = "#1f1f1f" }
glia          = { id = 2, color = "#2ca02c" }
mitochondrion = { id = 3, color = "#1f77b4", thing = true, organelle = true }
synapse       = { id = 4, color = "#d62728", organelle = true }
"""
PARTS = {"train": "0:11", "eval": "11:13", "test": "13:16"}


def densem(*words: str) -> str:
    """Run a command; its output."""
    program = Path(sys.executable).with_name("densem")
    return subprocess.run([str(program), *words], check=True, capture_output=True, text=True).stdout


def cpu_minutes() -> float:
    """Of all commands that ended so far, all threads together."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / 60


def prepare(folder: Path, data: Path) -> None:
    """The study with its three parts."""
    if (folder / "study.toml").exists():
        return
    schema = folder.with_name("vnc-schema.toml")
    schema.parent.mkdir(parents=True, exist_ok=True)
    schema.write_text(SCHEMA)
    densem("new", str(folder), "--schema", str(schema))
    for role, slices in PARTS.items():
        files = ["--image", str(data / "train-images.tif"), "--labels", str(data / "train-semantic.tif")]
        where = ["--voxel-size", "50", "4.6", "4.6", "--slices", slices, "--role", role]
        densem("import", str(folder), role, *files, *where)


def one(folder: Path, recipe: str, seed: int, max_time: str) -> dict[str, Any]:
    """Train, predict and score one run."""
    name = f"{recipe}-s{seed}"
    study = Study.open(folder)
    before = cpu_minutes()
    if name not in study.manifest.models:
        densem(
            "train",
            str(folder),
            "--recipe",
            recipe,
            "--name",
            name,
            "--seed",
            str(seed),
            "--max-time",
            max_time,
        )
    spent = cpu_minutes() - before
    if f"{name}-test" not in study.manifest.predictions:
        densem("predict", str(folder), "--model", name, "--volume", "test")
    scores = json.loads(densem("evaluate", str(folder), "--prediction", f"{name}-test", "--json"))
    facts = json.loads(densem("info", str(study.model_folder(name)), "--json"))
    row = {
        "recipe": recipe,
        "seed": seed,
        "miou": scores["miou"],
        "iou": {k: v["iou"] for k, v in scores["classes"].items()},
        "parameters": facts["parameters"],
        "steps": facts.get("training steps"),
        "seconds": facts.get("training seconds"),
        "best_step": facts.get("training best_step"),
        "cpu_minutes_of_training_command": round(spent, 2),
    }
    print(json.dumps(row), flush=True)
    return row


def summary(rows: list[dict[str, Any]], recipe: str) -> dict[str, Any]:
    """Mean and standard deviation over seeds."""
    mine = [r for r in rows if r["recipe"] == recipe]
    scores = [r["miou"] for r in mine]
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    per_class = {c: statistics.mean(r["iou"][c] for r in mine) for c in mine[0]["iou"]}
    return {"miou_mean": statistics.mean(scores), "miou_sd": spread, "iou_mean": per_class}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--max-time", default="5m")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--recipes", nargs="+", default=["unet-anisotropic", "default"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    prepare(asked.study, Path(os.environ["DENSEM_TEST_DATA"]) / "vnc")
    rows = [one(asked.study, r, s, asked.max_time) for s in asked.seeds for r in asked.recipes]
    result = {
        "what": "recipes on vnc, trained on slices 0-10, validated on 11-12, scored on 13-15",
        "max_time": asked.max_time,
        "densem": __version__,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores, no GPU, Python {platform.python_version()}",
        "summary": {r: summary(rows, r) for r in asked.recipes},
        "runs": rows,
    }
    print(json.dumps(result["summary"], indent=1))
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
