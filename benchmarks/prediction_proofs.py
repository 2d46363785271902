"""Proofs about prediction on a trained model and a real volume: seams, identical bytes, kills, memory.

    python benchmarks/prediction_proofs.py MODEL VOLUME.zarr SCRATCH [--box Z Y X] [--out results.json]

1. Exact context: probabilities with tiles of 64, 96, 160 and in one piece; largest difference (fp32).
2. One tile, three block sizes and two workers: the chunk files are compared by hash.
3. Predictions killed with SIGKILL at random moments and run again; chunk files against an uninterrupted one.
4. Peak memory of predictions of a volume and of one 16 times larger, three runs each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from densem import __version__
from densem.blocks import Box, triple
from densem.inference import PredictOptions, predict, predict_box
from densem.inference.prediction import is_finished
from densem.model import Model
from densem.volumes import Volume, ome_zarr, open_volume


def chunk_hashes(folder: Path) -> dict[str, str]:
    """Hash of every chunk file of the volumes of a prediction; metadata is left out."""
    files = sorted(p for p in folder.glob("*.zarr/**/*") if p.is_file() and p.name != "zarr.json")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def write(path: Path, data: np.ndarray, like: Volume) -> Path:
    """A volume with the voxel size and grey-value statistics of another."""
    target = ome_zarr.create(path, triple(data.shape), data.dtype, overwrite=True)
    target[:] = data
    record = {
        "intensity": like.attributes.get("intensity"),
        "id": hashlib.sha256(data.tobytes()).hexdigest()[:16],
    }
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", like.voxel_size_nm)], (0.0, 0.0, 0.0), record)
    ome_zarr.finish(path, overwrite=True)
    return path


def seams(model: Model, volume: Volume) -> dict[str, float]:
    """Largest difference in probability of tiled predictions from one in one piece."""
    depth = volume.shape[0]
    whole = predict_box(
        model, volume, options=PredictOptions(context="exact", precision="fp32", core=volume.shape)
    )
    found = {}
    for side in (64, 96, 160):
        options = PredictOptions(context="exact", precision="fp32", core=(max(1, depth // 2), side, side))
        tiled = predict_box(model, volume, options=options)
        found[str(side)] = float(np.abs(tiled - whole).max())
        print("seams", side, found[str(side)], flush=True)
    return found


def blocks(model: Model, volume: Volume, scratch: Path) -> dict[str, object]:
    """Whether block size and workers change a byte."""
    core = (8, 64, 64)
    found = {}
    for name, block, workers in (
        ("one shard", None, 1),
        ("2x", 2, 1),
        ("4x", 4, 1),
        ("two workers", None, 2),
    ):
        folder = scratch / f"blocks-{name.replace(' ', '-')}"
        shutil.rmtree(folder, ignore_errors=True)
        options = PredictOptions(core=core, workers=workers)
        if block is not None:
            shard = shard_of(scratch / "blocks-one-shard")
            options = options.model_copy(
                update={"block": (shard[0], shard[1] * block // 2, shard[2] * block)}
            )
        predict(model, volume, folder, options)
        found[name] = chunk_hashes(folder)
    first = found["one shard"]
    return {"files": len(first), **{n: h == first for n, h in found.items()}}


def shard_of(folder: Path) -> tuple[int, int, int]:
    """Shard shape of the classes of a prediction."""
    import zarr

    return triple(zarr.open_group(folder / "classes.zarr", mode="r")["s0"].shards)


def command(model: Path, volume: Path, folder: Path) -> list[str]:
    densem = Path(sys.executable).with_name("densem")
    return [str(densem), "predict", "--input", str(volume), "--model", str(model), "--output", str(folder)]


def blocks_done(folder: Path) -> int:
    """Lines in the journals of a prediction that is not finished."""
    return sum(p.read_bytes().count(b"\n") for p in folder.rglob("journal*/*.jsonl"))


def kills(model: Path, volume: Path, scratch: Path, count: int, seed: int) -> dict[str, object]:
    """SIGKILL at random moments after the first block is written, then the same command again."""
    data = np.tile(open_volume(volume).read(), (1, 3, 3))  # enough blocks to be killed among
    volume = write(scratch / "volume-to-kill.zarr", data, open_volume(volume))
    whole, folder = scratch / "uninterrupted", scratch / "killed"
    shutil.rmtree(whole, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    child = subprocess.Popen(command(model, volume, whole), stdout=subprocess.DEVNULL)
    while child.poll() is None and not blocks_done(whole):
        time.sleep(0.02)
    first = time.monotonic() - started
    if child.wait() != 0:
        raise SystemExit("the uninterrupted prediction failed")
    length = time.monotonic() - started
    expected, rng = chunk_hashes(whole), random.Random(seed)
    done: list[int] = []
    moments: list[float] = []
    equal: list[bool] = []
    while len(moments) < count:
        child = subprocess.Popen(
            command(model, volume, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        moment = rng.uniform(0.9 * first, first + (length - first) / 4)
        try:
            child.wait(moment)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            moments.append(round(moment, 2))
            done.append(blocks_done(folder))
            print("killed at", moments[-1], "s, blocks done:", done[-1], flush=True)
            continue
        equal.append(chunk_hashes(folder) == expected)
        shutil.rmtree(folder)
    if not is_finished(folder):
        subprocess.run(command(model, volume, folder), check=True, capture_output=True)
    equal.append(chunk_hashes(folder) == expected)
    return {
        "kills": len(moments),
        "moments_s": moments,
        "blocks_done_at_kill": done,
        "blocks": blocks_done(whole),
        "first_block_s": round(first, 1),
        "uninterrupted_s": round(length, 1),
        "identical": equal,
    }


def peak(arguments: list[str]) -> float:
    """Largest resident memory of a command in MB."""
    child = psutil.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    top = 0
    while child.poll() is None:
        try:
            top = max(top, sum(p.memory_info().rss for p in [child, *child.children(recursive=True)]))
        except psutil.Error:
            break
        time.sleep(0.05)
    if child.wait() != 0:
        raise SystemExit(f"{arguments} failed")
    return top / 1e6


def memory(model: Path, volume: Volume, scratch: Path, runs: int) -> dict[str, object]:
    """Peak memory for a volume and for one 16 times larger, alternating: it differs from run to run."""
    data = volume.read()
    found: dict[str, dict[str, object]] = {}
    paths = {}
    for name, repeats in (("volume", (1, 2, 2)), ("16 times", (1, 8, 8))):
        paths[name] = write(scratch / f"{name.replace(' ', '-')}.zarr", np.tile(data, repeats), volume)
        found[name] = {"shape": [n * r for n, r in zip(volume.shape, repeats, strict=True)]}
    peaks: dict[str, list[int]] = {name: [] for name in paths}
    for _ in range(runs):
        for name, path in paths.items():
            folder = scratch / f"memory-{path.stem}"
            shutil.rmtree(folder, ignore_errors=True)
            peaks[name].append(round(peak(command(model, path, folder))))
            found[name]["blocks"] = blocks_done(folder)
            print("memory", name, peaks[name], flush=True)
    for name, values in peaks.items():
        found[name].update(peaks_mb=values, median_mb=statistics.median(values))
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("volume", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--box", type=int, nargs=3, default=(16, 512, 480))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--memory-runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["seams", "blocks", "kills", "memory"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    asked.scratch.mkdir(parents=True, exist_ok=True)
    model, volume = Model.load(asked.model), open_volume(asked.volume)
    volume = volume.part(Box.of_shape(asked.box).clip(volume.box))
    path = write(asked.scratch / "volume.zarr", volume.read(), volume)
    result: dict[str, object] = {
        "what": "prediction proofs",
        "densem": __version__,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}",
        "model": {
            "architecture": model.architecture,
            "id": model.id,
            "exact": model.tile.exact,
            "practical": model.tile.practical,
        },
        "volume": volume.shape,
    }
    steps = {
        "seams": lambda: seams(model, open_volume(path)),
        "blocks": lambda: blocks(model, open_volume(path), asked.scratch),
        "kills": lambda: kills(asked.model, path, asked.scratch, asked.kills, seed=1),
        "memory": lambda: memory(asked.model, open_volume(path), asked.scratch, asked.memory_runs),
    }
    for name in asked.only:
        result[name] = steps[name]()
        print(name, json.dumps(result[name]), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
