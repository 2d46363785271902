"""What a gigavoxel costs outside the network, and how much faster two workers are than one.

    python benchmarks/scale_costs.py SCRATCH [--slurm] [--out results.json]

1. CPU seconds of this process, all its threads, for each gigavoxel: reading the input with its context, preparing
   windows, writing blocks and reading them back, looking at them again on resuming, pyramids of classes and
   confidence. The labels are those of the cheap network of `slurm_kills.py`, the image is smooth noise: neither
   compresses well. CPU seconds depend little on what else the machine does; times by the clock do.
2. The whole command, by the clock and in CPU seconds with its children: one worker with as many threads as there are
   cores, then that many workers with one thread; alternating. With `--slurm` also one and two jobs of one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from densem import networks
from densem.blocks import Grid, LocalCrew, triple
from densem.inference import PredictOptions, predict
from densem.inference.labeller import Labeller, tiling_for
from densem.inference.outputs import Outputs
from densem.model import Ensemble, Model, TilePlan
from densem.volumes import ome_zarr, open_volume, pyramid
from slurm_kills import VOXEL_SIZE, Place, facts, make_model, make_volume

REPEATS = 2


def cpu_seconds(step: Callable[[], object], voxels: int) -> dict[str, Any]:
    """CPU and clock seconds for each gigavoxel, the smaller of two runs."""
    cpu, clock = [], []
    for _ in range(REPEATS):
        before, started = time.process_time(), time.perf_counter()
        step()
        cpu.append((time.process_time() - before) / voxels * 1e9)
        clock.append((time.perf_counter() - started) / voxels * 1e9)
    return {"cpu_s": round(min(cpu), 2), "clock_s": round(min(clock), 2)}


def reference(shape: tuple[int, int, int]) -> dict[str, Any]:
    """What the reference network reads and computes for each voxel of a volume of this shape."""
    network: Any = networks.build("hybrid-2d3d-333", {"n_classes": 7})
    model = Model(
        network, "hybrid-2d3d-333", make_schema(), VOXEL_SIZE,
        TilePlan.default(network.geometry, VOXEL_SIZE),
    )  # fmt: skip
    tiling = tiling_for(Ensemble([model]), shape, PredictOptions(context="exact"))
    z, y, x = (n // 2 for n in tiling.grid.counts)
    inside = tiling.grid.box((z * tiling.grid.counts[1] + y) * tiling.grid.counts[2] + x)
    return {
        "shape": shape, "core": tiling.core, "context": tiling.context, "tiles": len(tiling.grid),
        "read_for_each_voxel": round(tiling.window(inside).read.size / inside.size, 3),
        "computed_for_each_voxel": round(tiling.overhead, 3),
    }  # fmt: skip


def make_schema() -> Any:
    """Seven classes."""
    from densem.schema import LabelSchema

    return LabelSchema.from_table({f"c{i}": {"id": i, "color": f"#0000{i:02x}"} for i in range(7)}, "costs")


def costs(scratch: Path) -> dict[str, Any]:
    """CPU seconds for each gigavoxel of everything but the network."""
    volume, model = open_volume(scratch / "volume.zarr"), Model.load(scratch / "model")
    options = PredictOptions(threads=1)
    shutil.rmtree(scratch / "costs", ignore_errors=True)
    predict(model, volume, scratch / "costs", options)
    labeller = Labeller.of(model, volume, options)
    done = Outputs(scratch / "costs", options.outputs, volume.shape, shard_layout(scratch), model.schema)
    again = Outputs(scratch / "again", options.outputs, volume.shape, done.layout, model.schema)
    again.create()
    grid = Grid(volume.shape, done.layout.shard)
    arrays = [{n: np.asarray(done.array(n)[box.slices]) for n in done.names} for box in grid]
    digests = [again.write(box, block) for box, block in zip(grid, arrays, strict=True)]
    windows = [labeller.tiling.window(core) for core in labeller.tiling.grid]
    levels = {"classes": "labels", "confidence": "image"}

    def raw() -> None:
        for window in windows:
            volume.read(window.read)

    def prepared() -> None:
        for window in windows:
            labeller.normalize(window.take(np.zeros(window.read.shape, np.uint8), window.read))

    def written() -> None:
        for box, block in zip(grid, arrays, strict=True):
            again.write(box, block)

    def held() -> None:
        assert all(again.holds(box, d) for box, d in zip(grid, digests, strict=True))

    def levelled(name: str) -> None:
        part = ome_zarr.temporary(again.path(name))
        pyramid.forget(part)
        pyramid.build(part, VOXEL_SIZE, levels[name], LocalCrew())  # type: ignore[arg-type]

    read = sum(w.read.size for w in windows)
    sizes = {n: stored(ome_zarr.temporary(again.path(n)) / "s0") / volume.box.size for n in done.names}
    return {
        "volume": volume.shape,
        "reading a gigavoxel of input": cpu_seconds(raw, read),
        "preparing a gigavoxel of windows": cpu_seconds(prepared, read),
        "writing classes and confidence, read back": cpu_seconds(written, volume.box.size),
        "looking at both again": cpu_seconds(held, volume.box.size),
        "pyramid of classes": cpu_seconds(lambda: levelled("classes"), volume.box.size),
        "pyramid of confidence": cpu_seconds(lambda: levelled("confidence"), volume.box.size),
        "bytes_stored_for_each_voxel": {
            "input": round(stored(scratch / "volume.zarr/s0") / volume.box.size, 3),
            **{n: round(s, 3) for n, s in sizes.items()},
        },
    }


def shard_layout(scratch: Path) -> Any:
    """Of the classes that were written."""
    import zarr

    array: Any = zarr.open_group(scratch / "costs/classes.zarr", mode="r")["s0"]
    return ome_zarr.Layout(triple(array.chunks), triple(array.shards))


def stored(folder: Path) -> int:
    """Bytes of all files."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def scaling(place: Place, slurm: bool, rounds: int, voxels: int) -> dict[str, Any]:
    """Whole commands, alternating."""
    cores = psutil.cpu_count(logical=False) or 1
    ways: dict[str, tuple[str, ...]] = {
        f"1 worker, {cores} threads": ("--workers", "1", "--threads", str(cores)),
        "1 worker, 1 thread": ("--workers", "1", "--threads", "1"),
        f"{cores} workers, 1 thread": ("--workers", str(cores), "--threads", "1"),
    }
    if slurm:
        ways |= {f"Slurm, {n} jobs": ("--engine", "slurm", "--threads", "1") for n in (1, 2)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, options in ways.items():
            found[name].append(once(place, name, options, voxels))
            print(name, found[name][-1], flush=True)
    return {name: {"runs": runs, "median_mvox_s": statistics.median(r["mvox_s"] for r in runs)}
            for name, runs in found.items()}  # fmt: skip


def once(place: Place, name: str, options: tuple[str, ...], voxels: int) -> dict[str, float]:
    """One command; with Slurm the jobs' CPU seconds are not among those that are seen."""
    folder = name.replace(" ", "-").replace(",", "")
    shutil.rmtree(place.scratch / folder, ignore_errors=True)
    if name.startswith("Slurm"):
        settings = place.config / "densem/slurm.toml"
        lines = [r for r in settings.read_text().splitlines() if not r.startswith("jobs")]
        settings.write_text("\n".join([*lines, f"jobs = {name.split()[1]}\n"]))
    before, started = cpu_of_children(), time.perf_counter()
    if place.start(folder, *options).wait() != 0:
        raise SystemExit(f"{name}: failed; see {place.scratch / folder}.log")
    clock = time.perf_counter() - started
    shutil.rmtree(place.scratch / folder)
    return {"clock_s": round(clock, 1), "cpu_s": round(cpu_of_children() - before, 1), "mvox_s": round(voxels / clock / 1e6, 2)}  # fmt: skip


def cpu_of_children() -> float:
    """CPU seconds of all commands that ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 1024, 2048))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slurm", action="store_true")
    parser.add_argument("--memory", default="3GB")
    parser.add_argument("--interface", default="lo")
    parser.add_argument("--prologue", action="append", default=[])
    parser.add_argument("--only", nargs="*", default=["reference", "costs", "scaling"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    place, shape = Place(asked.scratch.resolve(), None), triple(asked.shape)
    place.scratch.mkdir(parents=True, exist_ok=True)
    place.settle(1, asked.memory, asked.prologue, asked.interface)
    make_volume(place.scratch / "volume.zarr", shape)
    make_model(place.scratch / "model")
    result: dict[str, Any] = {"what": "costs at scale", **facts()}
    steps: dict[str, Callable[[], Any]] = {
        "reference": lambda: reference((10_000, 10_000, 10_000)),
        "costs": lambda: costs(place.scratch),
        "scaling": lambda: scaling(place, asked.slurm, asked.rounds, math.prod(shape)),
    }
    for name in asked.only:
        result[name] = steps[name]()
        print(name, json.dumps(result[name]), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
