"""Speed and memory of prediction, as ratios within one interleaved run.

    python benchmarks/prediction_speed.py MODEL VOLUME --out results.json [--rounds 3] [--large]

MODEL is a model folder (a trained 2D-3D network with 32 filters for the figures in README.md), VOLUME an OME-Zarr of
its voxel size; it is mirrored up to the shapes that are measured. In every round, one after the other:

1. ceiling: a bf16 3x3x3 convolution, 64 channels, 6x160x160, channels last;
2. network: one forward pass of a patch, as prediction prepares it, and the share of the ceiling its arithmetic reaches;
3. densem: `predict` of 24x512x512, files and pyramids included, in a process of its own, with PyTorch and with OpenVINO;
   its peak memory;
4. MONAI: `sliding_window_inference`, windows of 6x160x160, overlap 0.5, Gaussian, float32, plain layers;
5. reference: windows of 6x160x160, spacing = window with a flush last one, autograd left on, float64 stitching.

4 and 5 take minutes on the whole: each round measures them on a part that takes 8 windows, and the time of the whole is
that times its number of windows over 8; `--whole` runs both once on the whole as well.
`--large`: densem on 96x1024x1024 once, between two measurements of the network; 16 times as many voxels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import nn

from densem.inference.runtime import Runtime
from densem.inference.torch_backend import TorchNetwork
from densem.model import Model
from densem.networks import mflop_per_voxel
from densem.networks.hardware import keep_memory, processor
from densem.volumes import Volume, ome_zarr, open_volume, pyramid
from plain import channels_first, plain

SMALL, LARGE, PATCH = (24, 512, 512), (96, 1024, 1024), (24, 256, 256)
WINDOW, PART = (6, 160, 160), (9, 240, 240)
"""A part of this shape takes 2 x 2 x 2 windows with half overlap."""

PREDICT = """
import json, sys, time
from pathlib import Path
from densem.inference import PredictOptions, predict
from densem.model import Model
from densem.volumes import open_volume
model, volume, out = sys.argv[1:4]
model, volume = Model.load(model), open_volume(volume)
start = time.perf_counter()
predict(model, volume, Path(out), PredictOptions(**json.loads(sys.argv[4])))
seconds = time.perf_counter() - start
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "mb": int(peak.split()[1]) / 1024}))
"""


def mirrored(volume: Volume, shape: tuple[int, ...], path: Path) -> Path:
    """The volume as large as `shape`, mirrored at its ends, as OME-Zarr."""
    array = volume.read()
    pads = [(0, max(0, n - s)) for n, s in zip(shape, array.shape, strict=True)]
    array = np.pad(array, pads, mode="symmetric")[tuple(slice(n) for n in shape)]
    target = ome_zarr.create(path, shape, array.dtype)
    target[:] = array
    part = ome_zarr.temporary(path)
    facts = {"intensity": volume.attributes["intensity"], "id": f"mirrored-{shape}"}
    ome_zarr.describe(part, pyramid.build(part, volume.voxel_size_nm, "image"), volume.offset_nm, facts)
    ome_zarr.finish(path)
    return path


def ceiling() -> float:
    """GFLOP/s of the convolution, the median of twelve."""
    x = torch.randn(1, 64, 6, 160, 160).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    w = torch.randn(64, 64, 3, 3, 3).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    times = []
    with torch.inference_mode():
        for _ in range(13):
            start = time.perf_counter()
            F.conv3d(x, w, padding=1)
            times.append(time.perf_counter() - start)
    return 2 * 64 * 64 * 27 * 6 * 160 * 160 / statistics.median(times[1:]) / 1e9


def patch_rate(network: nn.Module, runtime: Runtime) -> float:
    """Voxels a second of one pass over a patch."""
    x = torch.randn(1, 1, *PATCH).to(runtime.dtype)
    with torch.inference_mode():
        start = time.perf_counter()
        network(x)["semantic"]
    return float(np.prod(PATCH)) / (time.perf_counter() - start)


def predicted(model: Path, volume: Path, **options: Any) -> dict[str, float]:
    """Seconds and peak MB of a prediction in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PREDICT, str(model), str(volume), f"{folder}/p", json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def starts(length: int, window: int, spacing: int) -> list[int]:
    """Where windows begin; the last one is flush with the end."""
    return sorted({*range(0, max(1, length - window + 1), spacing), length - window})


def count(shape: tuple[int, ...], spacing: tuple[int, ...]) -> int:
    """Windows over a volume."""
    return int(np.prod([len(starts(n, w, s)) for n, w, s in zip(shape, WINDOW, spacing, strict=True)]))


def monai_seconds(network: nn.Module, image: torch.Tensor) -> float:
    """As a user of MONAI would label it."""
    from monai.inferers import sliding_window_inference

    start = time.perf_counter()
    with torch.inference_mode(), plain():
        sliding_window_inference(
            image[None, None], WINDOW, 1, lambda x: network(x)["semantic"], overlap=0.5, mode="gaussian"
        ).argmax(dim=1)
    return time.perf_counter() - start


def reference_seconds(network: nn.Module, image: torch.Tensor, classes: int, whole: tuple[int, ...]) -> float:
    """As the reference does it; the volumes it stitches in have the whole's size."""
    total = np.zeros((classes, *whole))
    start = time.perf_counter()
    grid = [starts(n, w, w // 2) for n, w in zip(image.shape, WINDOW, strict=True)]  # 8 windows of the part
    if tuple(image.shape) == whole:
        grid = [starts(n, w, w) for n, w in zip(image.shape, WINDOW, strict=True)]
    with plain():
        for corner in itertools.product(*grid):
            at = tuple(slice(a, a + w) for a, w in zip(corner, WINDOW, strict=True))
            logits = network(image[at][None, None])["semantic"]
            total[(slice(None), *at)] = logits.softmax(dim=1).detach().numpy()[0]
    total.argmax(axis=0)
    return time.perf_counter() - start


def torch_network(runtime: Runtime, model: Model) -> nn.Module:
    """The network as PyTorch runs it there."""
    return TorchNetwork.of(model.network, runtime.device, runtime.dtype).network


class Subject:
    """What is measured."""

    def __init__(self, model: Path, volume: Path, folder: Path) -> None:
        self.path = model
        self.model = Model.load(model)
        self.small = mirrored(open_volume(volume), SMALL, folder / "small.zarr")
        self.runtime = Runtime.choose("cpu")
        self.ready = torch_network(self.runtime, self.model)
        self.plain = channels_first(torch_network(Runtime("cpu", "fp32"), self.model))
        for parameter in self.plain.parameters():
            parameter.requires_grad_()
        opened = open_volume(self.small)
        values = torch.from_numpy(opened.read().astype(np.float32))
        intensity = opened.intensity
        assert intensity is not None
        self.image = (values - intensity.mean) / intensity.std
        self.part = self.image[tuple(slice(n) for n in PART)].contiguous()

    def round(self) -> dict[str, float]:
        """One value for each row."""
        voxels = float(np.prod(SMALL))
        before, rate = ceiling(), patch_rate(self.ready, self.runtime)
        densem = predicted(self.path, self.small, runtime="torch")
        openvino = predicted(self.path, self.small, runtime="openvino")
        again, limit = patch_rate(self.ready, self.runtime), ceiling()
        monai = monai_seconds(self.plain, self.part) * count(SMALL, (3, 80, 80)) / 8
        classes = len(self.model.schema)
        reference = reference_seconds(self.plain, self.part, classes, SMALL) * count(SMALL, WINDOW) / 8
        return {
            "ceiling_gflops": (before + limit) / 2,
            "patch_kvox": (rate + again) / 2e3,
            "densem_kvox": voxels / densem["seconds"] / 1e3,
            "densem_mb": densem["mb"],
            "openvino_kvox": voxels / openvino["seconds"] / 1e3,
            "openvino_mb": openvino["mb"],
            "monai_kvox": voxels / monai / 1e3,
            "reference_kvox": voxels / reference / 1e3,
        }

    def ratios(self, row: dict[str, float]) -> dict[str, float]:
        """What the goals are stated in."""
        network = row["patch_kvox"] * mflop_per_voxel(self.model.network)  # GFLOP/s
        return {
            "network_over_ceiling": network / row["ceiling_gflops"],
            "densem_over_network": row["densem_kvox"] / row["patch_kvox"],
            "openvino_over_network": row["openvino_kvox"] / row["patch_kvox"],
            "densem_over_monai": row["densem_kvox"] / row["monai_kvox"],
            "densem_over_reference": row["densem_kvox"] / row["reference_kvox"],
        }

    def whole(self) -> dict[str, float]:
        """MONAI and the reference's way on the whole, once."""
        voxels = float(np.prod(SMALL)) / 1e3
        classes = len(self.model.schema)
        return {
            "monai_kvox": voxels / monai_seconds(self.plain, self.image),
            "reference_kvox": voxels / reference_seconds(self.plain, self.image, classes, SMALL),
        }

    def large(self, volume: Path, folder: Path) -> dict[str, float]:
        """The larger volume, between two measurements of the network."""
        path = mirrored(open_volume(volume), LARGE, folder / "large.zarr")
        rates = [patch_rate(self.ready, self.runtime)]
        found = predicted(self.path, path, runtime="torch")
        rates.append(patch_rate(self.ready, self.runtime))
        kvox = float(np.prod(LARGE)) / found["seconds"] / 1e3
        return {
            "densem_kvox": kvox, "densem_mb": found["mb"], "patch_kvox": statistics.mean(rates) / 1e3,
            "densem_over_network": 1e3 * kvox / statistics.mean(rates),
        }  # fmt: skip


def spread(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Median, least and largest of each entry."""
    return {k: [round(f([r[k] for r in rows]), 4) for f in (statistics.median, min, max)] for k in rows[0]}


def machine() -> dict[str, Any]:
    """Where this was measured."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": processor(), "cores": psutil.cpu_count(), "torch": str(torch.__version__),
        "threads": torch.get_num_threads(), "python": platform.python_version(), "commit": commit.stdout.strip(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("volume", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        subject = Subject(asked.model, asked.volume, Path(place))
        keep_memory()
        patch_rate(subject.ready, subject.runtime)
        rows = []
        for _ in range(asked.rounds):
            rows.append(subject.round())
            print(json.dumps({**rows[-1], **subject.ratios(rows[-1])}), flush=True)
        result: dict[str, Any] = {
            "machine": machine(),
            "model": {
                "filters": subject.model.network.config.filters,
                "mflop_per_voxel": mflop_per_voxel(subject.model.network),
            },
            "median_least_largest": {**spread(rows), **spread([subject.ratios(r) for r in rows])},
            "rounds": rows,
        }
        if asked.large:
            result["large"] = subject.large(asked.volume, Path(place))
        if asked.whole:
            result["whole_once"] = subject.whole()
    print(json.dumps(result, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
