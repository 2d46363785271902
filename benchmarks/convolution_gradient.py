"""Training a 3x3x3 convolution in float32: `conv3d` alone, and with weight gradients from 2D convolutions.

    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/convolution_gradient.py [--out results.json]

Forward and backward of the demo network's 3x3x3 convolutions, the two ways alternating; ratios of medians. oneDNN's
variable, which must be set outside, holds it to an instruction set: AVX2, AVX512_CORE.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from densem.networks.layers import _SlicedGradient, channels_last

SIZES = (
    ((2, 23, 3, 112, 112), 16),
    ((2, 16, 3, 112, 112), 16),
    ((2, 64, 3, 56, 56), 16),
    ((2, 16, 3, 56, 56), 16),
    ((2, 128, 3, 28, 28), 32),
    ((2, 32, 3, 28, 28), 32),
)
"""Input (N, C, Z, Y, X) and channels out."""


def plain(x: Tensor, weight: Tensor) -> Tensor:
    """As torch does it."""
    return channels_last(F.conv3d(x, weight, None, padding=1))


def sliced(x: Tensor, weight: Tensor) -> Tensor:
    """As densem does it where that is faster or safer."""
    out: Tensor = _SlicedGradient.apply(x, weight, None)  # type: ignore[no-untyped-call]
    return out


def milliseconds(way: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, grad: Tensor) -> float:
    """One forward and backward pass."""
    started = time.perf_counter()
    way(x, weight).backward(grad)  # type: ignore[no-untyped-call]
    return 1e3 * (time.perf_counter() - started)


def compare(shape: tuple[int, ...], filters: int, repeats: int) -> dict[str, object]:
    """Medians of both ways, and their ratio."""
    x = channels_last(torch.randn(shape)).requires_grad_()
    weight = channels_last(torch.randn(filters, shape[1], 3, 3, 3)).requires_grad_()
    grad = channels_last(torch.randn(shape[0], filters, *shape[2:]))
    ways = {"conv3d": plain, "sliced": sliced}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            times[name].append(milliseconds(way, x, weight, grad))
    medians = {name: round(statistics.median(t[1:]), 1) for name, t in times.items()}
    ratio = round(medians["sliced"] / medians["conv3d"], 2)
    return {"input": shape, "filters": filters, "ms": medians, "sliced_over_conv3d": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = [compare(shape, filters, asked.repeats) for shape, filters in SIZES]
    for row in rows:
        print(row)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    result = {
        "what": "training a 3x3x3 convolution in float32, weight gradient by conv3d or by 2D convolutions",
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}",
        "torch": torch.__version__,
        "onednn_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", "all"),
        "rows": rows,
    }
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
