"""A volume of gigavoxels through `--engine slurm` while workers, jobs and the client are killed: the same bytes?

    python benchmarks/slurm_kills.py SCRATCH [--shape 512 2048 2048] [--kills 12] [--client-kills 2] [--out results.json]

1. A uint8 volume of smooth noise, no two shards alike, and a very small network of the hybrid family.
2. It is predicted on this machine (the oracle), then through Slurm. Meanwhile, at moments drawn with a seed:
   SIGKILL to a worker's process, `scancel` of a job, `scontrol requeue` of a job; SIGKILL to the client itself
   once so many blocks are done, after which the same command is typed again.
3. Every chunk file of all volumes, pyramids too, is compared by hash.

A Slurm must answer here, with nodes that see SCRATCH and, to be sent SIGKILL, run on this machine.
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
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from densem import __version__, networks
from densem.blocks import Grid, Triple, triple
from densem.blocks.slurm import JOBS
from densem.inference.prediction import is_finished
from densem.model import Model, TilePlan
from densem.schema import LabelSchema
from densem.volumes import Intensity, ome_zarr

VOXEL_SIZE = (40.0, 10.0, 10.0)
SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 0, "color": "#000000"},
        "cell": {"id": 3, "color": "#0101e0"},
        "membrane": {"id": 7, "color": "#ff0000"},
        "granule": {"id": 21, "color": "#00ff00"},
    },
    "benchmark",
)
KINDS = ("worker process", "scancel", "requeue")


# ---- what is predicted -----------------------------------------------------------------------


def make_volume(path: Path, shape: Triple, seed: int = 0) -> None:
    """Smooth noise, shifted anew in every shard, so that a shard in the wrong place would be seen."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=ome_zarr.SHARD)
    for axis in (1, 2, 1, 2):
        noise = noise + np.roll(noise, 1, axis)
    tile = np.clip(120 + 12 * noise, 0, 255).astype(np.uint8)
    array = ome_zarr.create(path, shape, tile.dtype, overwrite=True)
    for box in Grid(shape, ome_zarr.SHARD):
        moved = np.roll(tile, tuple(int(rng.integers(n)) for n in tile.shape), (0, 1, 2))
        array[box.slices] = moved[tuple(slice(n) for n in box.shape)]
    intensity = Intensity(float(tile.mean()), float(tile.std()), 0, 255, 1, 254, 1.0)
    record = {"intensity": intensity.to_dict(), "id": f"noise-{seed}-{'x'.join(map(str, shape))}"}
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", VOXEL_SIZE)], (0.0, 0.0, 0.0), record)
    ome_zarr.finish(path, overwrite=True)


def make_model(path: Path) -> Model:
    """Random weights, logits spread so that every class has its share."""
    torch.manual_seed(0)
    entries = {"n_classes": len(SCHEMA), "filters": 2, "depth": 1, "convs_per_block": 1}
    network: Any = networks.build("hybrid-2d", entries)
    x = torch.randn(1, 1, 4, 64, 64)
    with torch.no_grad():
        logits = network.eval()(x)["semantic"]
        mean, gain = logits.mean(dim=(0, 2, 3, 4)), 2 / logits.std(dim=(0, 2, 3, 4))
        head = network.head_2d
        head.weight.mul_(gain.view(-1, *[1] * (head.weight.dim() - 1)))
        head.bias.copy_((head.bias - mean) * gain)
    tile = TilePlan(core=(32, 256, 256), exact=network.geometry.context)
    model = Model(network.eval(), "hybrid-2d", SCHEMA, VOXEL_SIZE, tile, name="cheap")
    model.save(path, overwrite=True)
    return model


# ---- running it ------------------------------------------------------------------------------


@dataclass
class Place:
    """Folders of this benchmark, and how its commands are started."""

    scratch: Path
    block: Triple | None
    config: Path = field(init=False)

    def __post_init__(self) -> None:
        self.config = self.scratch / "config"

    def settle(self, jobs: int, memory: str, prologue: list[str], interface: str) -> None:
        """Write the slurm.toml."""
        (self.config / "densem").mkdir(parents=True, exist_ok=True)
        lines = {"memory": memory, "cores": 1, "time": "2:00:00", "jobs": jobs, "interface": interface}
        text = "".join(f"{k} = {json.dumps(v)}\n" for k, v in {**lines, "prologue": prologue}.items())
        (self.config / "densem/slurm.toml").write_text(text)

    def start(self, name: str, *options: str) -> subprocess.Popen:
        """`densem predict` into the folder of that name."""
        block = ["--block", *map(str, self.block)] if self.block else []
        command = [
            str(Path(sys.executable).with_name("densem")), "predict", "--input", str(self.scratch / "volume.zarr"),
            "--model", str(self.scratch / "model"), "--output", str(self.scratch / name), *block, *options,
        ]  # fmt: skip
        with (self.scratch / f"{name}.log").open("ab") as log:
            environment = {**os.environ, "XDG_CONFIG_HOME": str(self.config)}
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def blocks_done(folder: Path) -> int:
    """Lines in the journals of a prediction."""
    return sum(p.read_bytes().count(b"}\n") for p in folder.glob("journal/*.jsonl"))


def chunk_hashes(folder: Path) -> dict[str, str]:
    """Hash of every chunk file of the volumes of a prediction; metadata is left out."""
    files = sorted(p for p in folder.glob("*.zarr/**/*") if p.is_file() and p.name != "zarr.json")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# ---- killing ---------------------------------------------------------------------------------


@dataclass
class Killer:
    """Kills workers and jobs of one prediction; notes what it did."""

    folder: Path
    rng: random.Random
    done: list[dict[str, Any]] = field(default_factory=list)

    def strike(self, kind: str) -> bool:
        """Kill one of that kind; whether there was one."""
        processes = self.workers()
        if not processes:
            return False
        job = self.rng.choice(sorted(processes))
        if kind == "worker process":
            os.kill(processes[job], signal.SIGKILL)
        elif kind == "scancel":
            subprocess.run(["scancel", job], check=True)
        else:  # jobs are submitted so that Slurm does not requeue them by itself; an operator can
            subprocess.run(["scontrol", "update", f"JobId={job}", "Requeue=1"], check=True)
            if subprocess.run(["scontrol", "requeue", job], capture_output=True).returncode:
                return False
        self.done.append({"kind": kind, "job": job, "blocks_done": blocks_done(self.folder)})
        print("killed:", self.done[-1], flush=True)
        return True

    def workers(self) -> dict[str, int]:
        """Process ids of this prediction's workers by job; only jobs that it noted itself."""
        noted = self.folder / "journal" / JOBS
        jobs = set(noted.read_text().split()) if noted.is_file() else set()
        found = {}
        for process in psutil.process_iter():
            try:
                job = process.environ().get("SLURM_JOB_ID")
                if job in jobs and "dask" in " ".join(process.cmdline()):
                    found[job] = process.pid
            except (psutil.Error, OSError):
                continue
        return found


def under_fire(place: Place, blocks: int, kills: int, client_kills: int, seed: int) -> dict[str, Any]:
    """Predict through Slurm while it is shot at; what was done, and how long it took."""
    folder = place.scratch / "slurm"
    shutil.rmtree(folder, ignore_errors=True)
    rng = random.Random(seed)
    killer = Killer(folder, rng)
    at = sorted(rng.uniform(0.03, 0.9) * blocks for _ in range(kills))
    kinds = [KINDS[i % len(KINDS)] for i in range(kills)]
    rng.shuffle(kinds)
    client_at = sorted(rng.uniform(0.2, 0.8) * blocks for _ in range(client_kills))
    client_killed: list[int] = []
    codes: list[int] = []
    started = time.monotonic()
    while not is_finished(folder):
        client = place.start("slurm", "--engine", "slurm", "--threads", "1")
        while client.poll() is None:
            time.sleep(rng.uniform(0.2, 0.6))
            done = blocks_done(folder)
            if at and done >= at[0] and killer.strike(kinds[0]):
                at.pop(0), kinds.pop(0)
            if client_at and done >= client_at[0]:
                client_at.pop(0)
                client.kill()
                client_killed.append(done)
                print("client killed at", done, "blocks", flush=True)
        codes.append(client.wait())
        if len(codes) > client_kills + 5:
            raise SystemExit(
                f"the prediction does not end: exit codes {codes}; see {place.scratch / 'slurm.log'}"
            )
    return {
        "seconds": round(time.monotonic() - started, 1),
        "kills": dict(Counter(k["kind"] for k in killer.done)),
        "kills_at_blocks": [(k["kind"], k["blocks_done"]) for k in killer.done],
        "client_kills_at_blocks": client_killed,
        "exit_codes": codes,
        "kills_not_reached": len(at) + len(client_at),
        "records": blocks_done(folder),
        "workers": len(list(folder.glob("journal/*.jsonl"))),
    }


def in_peace(place: Place) -> dict[str, Any]:
    """Predict on this machine."""
    shutil.rmtree(place.scratch / "local", ignore_errors=True)
    started = time.monotonic()
    if place.start("local", "--workers", "2", "--threads", "1").wait() != 0:
        raise SystemExit(f"the local prediction failed; see {place.scratch / 'local.log'}")
    return {"seconds": round(time.monotonic() - started, 1), "blocks": blocks_done(place.scratch / "local")}


# ---- what is reported ------------------------------------------------------------------------


def facts() -> dict[str, Any]:
    """Version, commit and machine."""
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True)
    machine = f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    return {"densem": __version__, "commit": commit.stdout.strip(), "machine": machine}


def slurm_here() -> str:
    """Version and nodes of the Slurm that answers."""
    version, nodes = (
        subprocess.run(["sinfo", *words], capture_output=True, text=True, check=True).stdout.strip()
        for words in (["--version"], ["-h", "-o", "%D"])
    )
    return f"{version}, {nodes} nodes"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 2048, 2048))
    parser.add_argument("--block", type=int, nargs=3, help="voxels of a block; one shard without it")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--client-kills", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--memory", default="3GB")
    parser.add_argument("--interface", default="lo")
    parser.add_argument("--prologue", action="append", default=[], help="shell line of a job; repeated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    result: dict[str, Any] = {
        "what": "Slurm kills",
        **facts(),
        "slurm_version": slurm_here(),
        "seed": asked.seed,
    }
    place = Place(asked.scratch.resolve(), triple(asked.block) if asked.block else None)
    place.settle(asked.jobs, asked.memory, asked.prologue, asked.interface)
    shape = triple(asked.shape)
    make_volume(place.scratch / "volume.zarr", shape)
    model = make_model(place.scratch / "model")
    result |= {"volume": shape, "gigavoxels": round(shape[0] * shape[1] * shape[2] / 1e9, 3),
               "model": f"{model.architecture} {model.id}", "jobs": asked.jobs}  # fmt: skip
    result["local"] = in_peace(place)
    print("local", result["local"], flush=True)
    expected = chunk_hashes(place.scratch / "local")
    result["slurm"] = under_fire(
        place, result["local"]["blocks"], asked.kills, asked.client_kills, asked.seed
    )
    found = chunk_hashes(place.scratch / "slurm")
    different = sorted(n for n in {*expected, *found} if expected.get(n) != found.get(n))
    result |= {"files": len(expected), "different": different[:20], "identical": not different}
    result["jobs_left_in_queue"] = len(
        subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout.split()
    )
    print(json.dumps(result, indent=1), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
