"""What runs the network how fast: forward passes over one window, as ratios within one interleaved run.

    python benchmarks/runtimes.py MODEL [MODEL ...] --out results.json [--rounds 5] [--precision bf16|fp32]

MODEL is a model folder of a 2D-3D network; with a form in 8-bit integers (`densem quantize`) that is a row as well. In every
round, one after the other, on 12x160x160 (from 32 filters on) or 16x192x192 voxels, that are a core with no context
around it:

1. slabs: as prediction runs PyTorch, slab by slab; and the same network compiled, for slabs of any length;
2. whole: PyTorch, the window in one call; compiled for its one shape; compiled with the weights frozen into the code;
3. OpenVINO, and its form in 8-bit integers.

`first` is the seconds of the first pass, which compiles. A way that the compiler refuses is reported with its message.
`torch.compile` needs a C++ compiler; `--no-compile` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from densem.inference.int8_form import Int8Form
from densem.inference.runtime import Ready, Runtime
from densem.inference.shown import Shown
from densem.inference.torch_backend import TorchNetwork
from densem.model import Model
from densem.networks.hardware import keep_memory
from densem.networks.streaming import Ends
from prediction_speed import machine

Way = Callable[[], None]


def eager(model: Model, shown: Shown, runtime: Runtime) -> dict[str, Way]:
    """What prediction can use."""
    network = model.network
    torch_network = TorchNetwork.of(network, "cpu", runtime.dtype)
    openvino = Runtime("cpu", runtime.precision, "openvino").prepare(network)
    wide = Shown(shown.image)
    ways: dict[str, Way] = {
        "slabs": lambda: slabs(torch_network, shown),
        "whole": lambda: whole(torch_network, shown),
        "openvino": lambda: slabs(openvino, wide),
    }
    if model.int8 is not None:
        integers = Runtime("cpu", runtime.precision, "openvino-int8").prepare(network, Int8Form.of(model))
        ways["openvino-int8"] = lambda: slabs(integers, wide)
    return ways


def compiled(model: Model, shown: Shown, runtime: Runtime) -> dict[str, Way]:
    """The same networks through `torch.compile`."""
    ready = [TorchNetwork.of(model.network, "cpu", runtime.dtype).network for _ in range(3)]
    any_length = TorchNetwork(torch.compile(ready[0], dynamic=True))
    one_shape = TorchNetwork(torch.compile(ready[1], dynamic=False))
    frozen = TorchNetwork(torch.compile(ready[2], dynamic=False, options={"freezing": True}))
    return {
        "slabs compiled": lambda: slabs(any_length, shown),
        "whole compiled": lambda: whole(one_shape, shown),
        "whole compiled, weights frozen": lambda: whole(frozen, shown),
    }


def slabs(network: Ready, shown: Shown) -> None:
    for logits in network.slabs(shown, Ends()):
        logits.float()


def whole(network: Ready, shown: Shown) -> None:
    network.whole(shown.slices(0, shown.shape[0])).float()


def seconds(way: Way) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        way()
    return time.perf_counter() - start


def started(ways: dict[str, Way]) -> tuple[dict[str, Way], dict[str, Any]]:
    """Two passes of each: those that work, and what there is to say of all."""
    working, found = {}, {}
    for name, way in ways.items():
        try:
            found[name] = {"first": round(seconds(way), 2), "second": round(seconds(way), 3)}
            working[name] = way
        except Exception as error:
            found[name] = {"refused": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(name, found[name], flush=True)
    return working, found


def measure(model: Model, runtime: Runtime, rounds: int, compile_too: bool) -> dict[str, Any]:
    """Rounds over all ways that work."""
    config: Any = model.network.config
    shape = (12, 160, 160) if config.filters >= 32 else (16, 192, 192)
    shown = Shown(np.random.default_rng(0).standard_normal(shape, np.float32), dtype=runtime.dtype)
    ways = eager(model, shown, runtime)
    working, found = started({**ways, **(compiled(model, shown, runtime) if compile_too else {})})
    times: dict[str, list[float]] = {name: [] for name in working}
    for _ in range(rounds):
        for name, way in working.items():
            times[name].append(seconds(way))
    for name, row in times.items():
        found[name]["kvox_per_s"] = round(float(np.prod(shape)) / min(row) / 1e3, 1)
        ratios = [a / b for a, b in zip(times["slabs"], row, strict=True)]
        spread = (statistics.median(ratios), min(ratios), max(ratios))
        found[name]["times_as_fast_as_slabs"] = [round(r, 3) for r in spread]
    return {"model": model.name, "filters": config.filters, "window": shape, "ways": found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--no-compile", action="store_true")
    asked = parser.parse_args()
    runtime = Runtime.choose("cpu", asked.precision)
    keep_memory()
    cases = [measure(Model.load(m), runtime, asked.rounds, not asked.no_compile) for m in asked.models]
    result = {
        "machine": machine(), "precision": runtime.precision,
        "times_as_fast_as_slabs": "median, least, largest of the rounds", "cases": cases,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
