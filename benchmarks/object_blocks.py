"""The same objects for any blocks, workers and engine, on real labels.

    python benchmarks/object_blocks.py DATA SCRATCH [--out results.json] [--dask]

`lucchi`: mitochondria. `fib25`: the insides of neuron bodies, which touch in many places, with small tiles, so that most
of them are cut in tiles and stitched. Ids and tables of every run must be the same to the last byte; the first run has the
whole volume as one block. Both are cropped to 256 in y and x.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from densem.blocks import EngineChoice
from densem.objects import Objects, ObjectsOptions, Rules, find_objects
from densem.objects.cutting import Tiling
from densem.schema import LabelSchema
from densem.volumes import Layout, Volume, ome_zarr

RUNS = (
    ((10_000, 10_000, 10_000), 1),
    ((32, 512, 512), 1),
    ((64, 128, 64), 2),
    ((17, 131, 190), 1),
)
SIZES = {"lucchi": (5.0, 5.0, 5.0), "fib25": (10.0, 10.0, 10.0)}
FILES = {"lucchi": "lucchi/train-mito.tif", "fib25": "fib25/train-instances.tif"}
TILINGS = {"lucchi": Tiling(), "fib25": Tiling(2**18, (64, 96, 96), (16, 32, 32))}
CROP = (slice(None), slice(256), slice(256))


def labels(name: str, data: Path) -> np.ndarray:
    """1 in the thing, 0 elsewhere, uint8 (Z, Y, X)."""
    ids = tifffile.imread(data / FILES[name])[CROP]
    inside = ids > 0
    if name == "fib25":
        for axis in range(3):
            same = np.diff(ids.astype(np.int64), axis=axis) == 0
            inside &= np.insert(same, 0, True, axis=axis)
    return inside.astype(np.uint8)


def schema_of(name: str) -> LabelSchema:
    """Background, and one thing."""
    table = {"outside": {"id": 0, "color": "#000000", "background": True},
             name: {"id": 1, "color": "#01abfe", "thing": True}}  # fmt: skip
    return LabelSchema.from_table(table, "sweep")


def digests(found: Objects) -> dict[str, str]:
    """Of ids, table and table of cells."""
    ids = hashlib.sha256(np.ascontiguousarray(found.volumes[0].read()).data).hexdigest()
    tables = {
        n: hashlib.sha256((found.folder / n).read_bytes()).hexdigest() for n in ("objects.csv", "cells.csv")
    }
    return {"ids": ids, **tables}


def on_disk(array: np.ndarray, name: str, scratch: Path) -> Volume:
    """A volume that other processes can open."""
    path = scratch / f"{name}.zarr"
    shutil.rmtree(path, ignore_errors=True)
    ome_zarr.create(path, array.shape, "uint8", Layout.fitting(array.shape))[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZES[name])], (0.0, 0.0, 0.0), {"id": name})
    return ome_zarr.finish(path)


def sweep(name: str, data: Path, scratch: Path, scheduler: str | None) -> dict[str, Any]:
    """All runs of one set of labels."""
    array = labels(name, data)
    volume, schema = on_disk(array, name, scratch), schema_of(name)
    rows: list[dict[str, Any]] = []
    engines = [EngineChoice(workers=n) for _, n in RUNS]
    blocks = [block for block, _ in RUNS]
    if scheduler is not None:
        engines.append(EngineChoice("dask", scheduler=scheduler))
        blocks.append(RUNS[1][0])
    for block, engine in zip(blocks, engines, strict=True):
        folder = scratch / f"objects-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        options = ObjectsOptions(block, engine, TILINGS[name])
        found = find_objects(volume, schema, Rules.of(schema, volume.voxel_size_nm), folder, options)
        here = [min(b, s) for b, s in zip(block, volume.shape, strict=True)]
        rows.append({"block": here, "engine": engine.engine, "workers": engine.workers,
                     "objects": len(found.table["id"]), **digests(found)})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
        kept = ("ids", "objects.csv", "cells.csv")
        if any(rows[-1][k] != rows[0][k] for k in kept):
            raise SystemExit(f"{name}: objects with blocks of {here} differ from those of one block")
    return {"shape": volume.shape, "voxels of the thing": int(array.sum()), "runs": rows}


def main() -> None:
    """Both, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=list(FILES))
    parser.add_argument("--dask", action="store_true", help="once more with two worker processes")
    chosen = parser.parse_args()
    chosen.scratch.mkdir(parents=True, exist_ok=True)
    names = [chosen.only] if chosen.only else list(FILES)
    if not chosen.dask:
        results = {name: sweep(name, chosen.data, chosen.scratch, None) for name in names}
    else:
        from distributed import LocalCluster

        with LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            memory_limit=0, local_directory=str(chosen.scratch),
        ) as cluster:  # fmt: skip
            address = cluster.scheduler_address
            results = {name: sweep(name, chosen.data, chosen.scratch, address) for name in names}
    if chosen.out:
        chosen.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
