"""A training step: densem's against plain eager float32, and how long it waits for its data.

    python benchmarks/training_step.py [STUDY] [--filters 16 32] [--rounds 5] [--out results.json]

Forward, cross-entropy, backward and Adam on one patch of 6x160x160 of the 2D-3D network with 3x3x3 convolutions and
batch normalisation, 7 classes; plain float32 layers, densem in float32, densem in bf16, one after the other in each
round; ratios of medians. With a study: patches of its training volumes are drawn with the default recipe's augmentation, as
training draws them, while the bf16 step runs, and the time that steps wait for them is taken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from densem import networks
from densem.networks.hardware import keep_memory
from densem.sampling import LabelledVolume, PatchSampler, TrainingSet
from densem.study import Study
from densem.training.prefetch import Prefetch
from densem.training.recipe import Recipe
from plain import channels_first, plain
from prediction_speed import machine

PATCH = (6, 160, 160)
ARCHITECTURE = "hybrid-2d3d-333"


def made(filters: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network and its optimiser, the same each time."""
    torch.manual_seed(0)
    network = networks.build(ARCHITECTURE, {"n_classes": 7, "filters": filters, "normalization": "batch"})
    return network.train(), torch.optim.Adam(network.parameters(), lr=1e-3)


def stepper(way: str, filters: int) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """A function that takes one step and gives its seconds."""
    network, optimizer = made(filters)
    if way == "plain":
        channels_first(network)

    def step(x: torch.Tensor, truth: torch.Tensor) -> float:
        start = time.perf_counter()
        with plain() if way == "plain" else nullcontext():
            with torch.autocast("cpu", torch.bfloat16, enabled=way == "bf16"):
                logits = network(x)["semantic"]
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), truth).backward()
            optimizer.step()
        return time.perf_counter() - start

    return step


def compare(filters: int, rounds: int) -> dict[str, Any]:
    """Medians of the three ways, and what densem's gain."""
    x, truth = torch.randn(1, 1, *PATCH), torch.randint(0, 7, (1, *PATCH))
    steps = {way: stepper(way, filters) for way in ("plain", "fp32", "bf16")}
    times: dict[str, list[float]] = {way: [] for way in steps}
    for _ in range(rounds + 1):
        for way, step in steps.items():
            times[way].append(step(x, truth))
    ratios = {way: [p / t for p, t in zip(times["plain"], times[way], strict=True)][1:] for way in times}
    return {
        "filters": filters,
        "seconds": {way: round(statistics.median(t[1:]), 3) for way, t in times.items()},
        "plain_over": {
            way: [round(f(r), 2) for f in (statistics.median, min, max)] for way, r in ratios.items()
        },
    }


def waiting(study: Study, filters: int, steps: int = 12) -> dict[str, float]:
    """The share of the time of bf16 steps that is spent waiting for the next patch."""
    recipe = Recipe.load("default", ["patches.shapes=[[6, 160, 160]]", "patches.batch=1"])
    volumes = []
    for name in study.names("train"):
        image, labels = study.image(name), study.labels(name)
        assert labels is not None
        volumes.append(LabelledVolume(image, labels, name))
    with tempfile.TemporaryDirectory() as cache:
        data = TrainingSet.prepare(volumes, study.schema, recipe.loss, Path(cache))
    sampler = PatchSampler(recipe.patches, data, 0, recipe.augmentation)
    step = stepper("bf16", filters)
    waited, worked = [], []
    batches = iter(Prefetch(sampler, 0, steps))
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        waited.append(time.perf_counter() - start)
        worked.append(step(batch.image, batch.labels.long().clamp(max=6)))
    total = sum(waited[2:]) + sum(worked[2:])
    return {
        "step_seconds": round(statistics.median(worked[2:]), 3),
        "waiting_share": round(sum(waited[2:]) / total, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--filters", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    keep_memory(times=0, limit=1 << 30)
    result: dict[str, Any] = {"machine": machine(), "rows": []}
    for filters in asked.filters:
        result["rows"].append(compare(filters, asked.rounds))
        print(json.dumps(result["rows"][-1]), flush=True)
    if asked.study:
        result["loader"] = {f: waiting(Study.open(asked.study), f) for f in asked.filters}
    print(json.dumps(result, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
