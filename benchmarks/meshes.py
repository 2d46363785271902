"""A volume of 512^3 voxels with 500 objects: how long `densem objects` and `densem mesh` take, and how much memory.

    python benchmarks/meshes.py SCRATCH [--side 512] [--objects 500] [--workers 2] [--out results.json]

Objects are ellipsoids with a wavy surface, 40 x 10 x 10 nm. Each command runs in a process of its own; memory is
the largest resident set of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from densem import __version__
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import VolumeEntry, locked
from densem.volumes import ome_zarr

SIZE = (40.0, 10.0, 10.0)
MEASURED = (
    "import resource, sys; from densem.cli.app import run; code = run(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024); sys.exit(code)"
)


def volume(side: int, count: int) -> np.ndarray:
    """Class 1 in wavy ellipsoids that do not touch: uint8 (side, side, side)."""
    rng = np.random.default_rng(0)
    cells = int(np.ceil(count ** (1 / 3)))
    pitch = side / cells
    made = np.zeros((side, side, side), np.uint8)
    places = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for place in places[rng.permutation(len(places))[:count]]:
        middle = (place + 0.5) * pitch
        low, high = np.maximum(middle - pitch / 2 + 1, 0).astype(int), (middle + pitch / 2 - 1).astype(int)
        grid = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
        radii = rng.uniform(0.3, 0.47, 3) * pitch
        away = sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, radii, strict=True))
        waves = sum(np.sin(g * rng.uniform(0.1, 0.3) + rng.uniform(0, 6)) for g in grid)
        made[low[0] : high[0], low[1] : high[1], low[2] : high[2]] |= (away < 1 - 0.05 * (waves + 3)).astype(
            np.uint8
        )
    return made


def make_study(folder: Path, side: int, count: int) -> None:
    schema = LabelSchema.from_table(
        {"outside": {"id": 0, "color": "#000000", "background": True},
         "granule": {"id": 1, "color": "#e6194b", "thing": True}}, "benchmark"
    )  # fmt: skip
    study = Study.create(folder, schema)
    path = study.folder / "annotations/v/semantic.zarr"
    labels = volume(side, count)
    part = ome_zarr.create(path, labels.shape, labels.dtype)
    part[:] = labels
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], (0.0, 0.0, 0.0), {})
    ome_zarr.finish(path)
    with locked(study.path) as manifest:
        relative = str(path.relative_to(study.folder))
        manifest.volumes["v"] = VolumeEntry(role="eval", image=relative, semantic=relative)


def timed(*words: str) -> dict[str, Any]:
    """Clock and CPU seconds, and memory in MB, of a command."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURED, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    seconds = {"clock_s": round(time.perf_counter() - start, 1), "cpu_s": round(cpu, 1)}
    *said, memory = done.stdout.strip().splitlines()
    said = [line for line in said if not line.startswith(("Objects: ", "Meshes: "))]  # where they lie
    return {"command": " ".join(words), **seconds, "memory_mb": int(memory), "said": said}


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    out = options.out and options.out.resolve()
    os.chdir(options.scratch)
    make_study(Path("st"), options.side, options.objects)
    workers = ("--workers", str(options.workers))
    rows = [
        timed("objects", "st", "--labels", "v", "--name", "o", *workers),
        timed("mesh", "st", "--objects", "o", *workers),
        timed("mesh", "st", "--objects", "o", "--format", "precomputed", "--overwrite", *workers),
    ]
    for row in rows:
        print(row)
    if out:
        facts = {
            "what": "objects and meshes", "densem": __version__, "commit": commit(), "side": options.side, "objects": options.objects,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", "rows": rows,
        }  # fmt: skip
        out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
