"""Memory of `densem objects` on volumes that grow, with blocks that do not.

    python benchmarks/object_memory.py SCRATCH [--out results.json]

Each run is a process of its own; its peak is what Linux reports for it (VmHWM). The volume is a lattice of cells of
40 x 160 x 160 voxels, each with four granules of which two touch, written block by block. The last run has few voxels
and many objects, of one voxel each: what a single object costs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Grid
from densem.objects import ObjectsOptions, Rules, find_objects
from densem.schema import LabelSchema
from densem.volumes import Layout, ome_zarr, open_volume

SHAPES = ((40, 320, 320), (80, 640, 640), (160, 640, 640))
CELL = (40, 160, 160)
BLOCK = (32, 256, 256)
SIZE = (40.0, 10.0, 10.0)
GRANULES = ((18, 60, 60), (20, 60, 76), (20, 100, 90), (26, 80, 110))


def lattice_cell() -> np.ndarray:
    """Class ids of one cell, uint8 of shape `CELL`."""
    z, y, x = np.indices(CELL)
    out = np.zeros(CELL, np.uint8)
    out[((z - 20) / 17.0) ** 2 + ((y - 80) / 72.0) ** 2 + ((x - 80) / 72.0) ** 2 <= 1] = 1
    for a, b, c in GRANULES:
        out[(16 * (z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) <= 9**2] = 3
    return out


def make(path: Path, shape: tuple[int, int, int], dots: bool = False) -> None:
    """Write the class ids, one layer of blocks after the other."""
    shutil.rmtree(path, ignore_errors=True)
    array, cell = ome_zarr.create(path, shape, "uint8", Layout.fitting(shape)), lattice_cell()
    for box in Grid(shape, (32, 512, 512)):
        places = np.ix_(*(np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)))
        if dots:
            z, y, x = places
            array[box.slices] = ((z % 2 == 0) & (y % 4 == 1) & (x % 4 == 1)).astype(np.uint8)
        else:
            array[box.slices] = cell[tuple(p % n for p, n in zip(places, CELL, strict=True))]
    ome_zarr.describe(
        ome_zarr.temporary(path), [("s0", SIZE)], (0.0, 0.0, 0.0), {"id": f"lattice {shape} {dots}"}
    )
    ome_zarr.finish(path)


def peak_mb() -> float:
    """Of this process so far."""
    line = next(t for t in Path("/proc/self/status").read_text().splitlines() if t.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def one(path: Path, folder: Path) -> dict[str, Any]:
    """Find the objects here."""
    schema, volume = LabelSchema.resolve("platelet"), open_volume(path)
    shutil.rmtree(folder, ignore_errors=True)
    before = peak_mb()
    found = find_objects(
        volume, schema, Rules.of(schema, volume.voxel_size_nm), folder, ObjectsOptions(BLOCK)
    )
    return {"shape": volume.shape, "voxels": volume.box.size, "objects": found.counts(),
            "before_mb": round(before), "peak_mb": round(peak_mb())}  # fmt: skip


def main() -> None:
    """All of them, each in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    path, folder = chosen.scratch / "classes.zarr", chosen.scratch / "objects"
    if chosen.one:
        print(json.dumps(one(path, folder)))
        return
    chosen.scratch.mkdir(parents=True, exist_ok=True)
    rows = []
    for shape, dots in [*((s, False) for s in SHAPES), (SHAPES[0], True)]:
        make(path, shape, dots)
        command = [sys.executable, __file__, str(chosen.scratch), "--one"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    if chosen.out:
        chosen.out.write_text(json.dumps({"block": BLOCK, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
