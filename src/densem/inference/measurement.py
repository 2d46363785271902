"""Measurement: what one window of a prediction costs on this machine, in time and memory.

1. A fresh process is given the models and the voxels of one real window; nothing is written to a disk.
2. It labels the window as a worker does, until it is done or the time for it is over: then, for a network
   that is shown the window slab by slab, the rest is calculated from the slabs that were timed.
3. Of models of one design the first is measured, and counted for each of them and each mirrored input.
4. The labels are compressed, read back and halved as the outputs would be: bytes and seconds per voxel.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import zarr
from zarr.storage import MemoryStore

from densem.blocks import Box, Triple, triple
from densem.errors import ResourceError
from densem.inference import fusion
from densem.inference.labeller import Labeller
from densem.inference.machine import Memory
from densem.inference.options import PredictOptions
from densem.inference.tiles import Tiling
from densem.model import Ensemble, Model
from densem.networks.hardware import keep_memory
from densem.volumes import Intensity, Layout, Volume, ome_zarr, pyramid

SECONDS = 20.0
"""Spent on a window at the least, if it takes so long; a network's first slab is always waited for."""
PIECES = 3
"""Pieces timed after the first one, at the least."""
SAMPLE = 8_000_000
"""Labelled voxels that are compressed, about at the most."""
PASSES = 3
MARK = "densem measured "


@dataclass(frozen=True)
class Crop:
    """An array (Z, Y, X) of which only the voxels of one box are there."""

    shape: Triple
    box: Box
    block: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        """Of the voxels."""
        return self.block.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        """The voxels of three slices inside the box."""
        span = Box(triple(k.start for k in key), triple(k.stop for k in key))
        if not self.box.contains(span):
            raise IndexError(f"of this volume only {self.box} is there")
        return self.block[span.relative_to(self.box).slices]


@dataclass(frozen=True)
class Probe:
    """What is to be measured.

    Attributes:
        ensemble: the models.
        volume: with the voxels of the window at least.
        intensity: grey-value statistics that the voxels are normalised with.
        tiling: of the volume.
        core: of the window.
        options: of the prediction.
        threads: of torch.
        chunk: of the outputs, (z, y, x).
        seconds: time for the windows of all designs together.
        outputs: names of those that are written; none given: those of the options.
    """

    ensemble: Ensemble
    volume: Volume
    intensity: Intensity
    tiling: Tiling
    core: Box
    options: PredictOptions
    threads: int
    chunk: Triple
    seconds: float
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Seconds of a window of one design.

    Attributes:
        slices: of the core that were timed.
        of: slices of the core.
        first: seconds until the first piece was there.
        first_slices: slices of the first piece.
        steady: seconds of a slice after it.
    """

    slices: int
    of: int
    first: float
    first_slices: int
    steady: float

    @property
    def seconds(self) -> float:
        """Of the whole window."""
        return self.first + (self.of - self.first_slices) * self.steady


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        device: kind of processor or card.
        precision: number format.
        threads: of torch.
        passes: of networks and mirrored inputs for a window.
        window_seconds: all passes over one window.
        window_voxels: what a network is run on in one pass.
        timed: one entry for each design of the models.
        process_bytes: memory of a process with the networks, before the window.
        peak_bytes: at most, in the window.
        card_bytes: of a graphics card, at most.
        share_of_processor: of the time that the threads could have had; less where others were at work.
        ratio: bytes on disk per uncompressed byte, by output.
        write_seconds: of a voxel: compressing, reading back, comparing; by output.
        pyramid_seconds: of a voxel of level 0: all coarser levels; by output.
    """

    device: str
    precision: str
    threads: int
    passes: int
    window_seconds: float
    window_voxels: int
    timed: tuple[Timing, ...]
    process_bytes: int
    peak_bytes: int
    card_bytes: int = 0
    share_of_processor: float = 1.0
    ratio: dict[str, float] = field(default_factory=dict)
    write_seconds: dict[str, float] = field(default_factory=dict)
    pyramid_seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Measurement:
        """From plain values."""
        return cls(**{**facts, "timed": tuple(Timing(**t) for t in facts["timed"])})


def measure(probe: Probe) -> Measurement:
    """Measure in a fresh process.

    Raises:
        ResourceError: if that process fails, such as for want of memory.
    """
    buffer = io.BytesIO()
    torch.save(probe, buffer)
    code = "from densem.inference.measurement import serve; serve()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], input=buffer.getvalue(), capture_output=True, env=environment
    )
    answers = [line for line in done.stdout.decode().splitlines() if line.startswith(MARK)]
    if done.returncode or not answers:
        raise ResourceError(_failure(probe, done))
    return Measurement.from_dict(json.loads(answers[-1].removeprefix(MARK)))


def _failure(probe: Probe, done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    why = lines[-1] if lines else "no message"
    if done.returncode < 0:
        why = f"ended by signal {-done.returncode}, which is often a sign of too little memory"
    shape = " x ".join(str(s) for s in probe.tiling.window(probe.core).shape)
    return (
        f"measuring: expected a window of {shape} voxels (z y x) to be labelled on this machine, found: "
        f"{why}; try a smaller --context, --precision bf16 or another --device"
    )


def serve() -> None:
    """In the fresh process: measure what stands on the standard input, answer on the standard output."""
    probe = torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=False)
    found = measure_here(probe)
    sys.stdout.write(f"{MARK}{json.dumps(asdict(found))}\n")


def measure_here(probe: Probe) -> Measurement:
    """Measure in this process, whose peak of memory is then taken for the window's."""
    torch.set_num_threads(probe.threads)
    designs = _designs(probe.ensemble)
    labellers = [_labeller(probe, model) for model, _ in designs]
    passes = len(fusion.subsets(probe.options.flips))
    before, clock = psutil.Process().memory_info().rss, _Clock()
    timed, sample = [], None
    for labeller in labellers:
        timing, sample = _timed(labeller, probe, probe.seconds / len(designs))
        timed.append(timing)
    share, peak = clock.share(probe.threads), peak_bytes()
    runtime = labellers[0].fusion.runtime.describe()
    assert sample is not None
    costs = {n: _cost(n, a, probe) for n, a in _outputs(probe, sample).items()}
    return Measurement(
        device=str(runtime["device"]),
        precision=str(runtime["precision"]),
        threads=probe.threads,
        passes=passes * len(probe.ensemble.members),
        window_seconds=passes * sum(t.seconds * n for t, (_, n) in zip(timed, designs, strict=True)),
        window_voxels=probe.tiling.run_on(probe.core),
        timed=tuple(timed),
        process_bytes=before,
        peak_bytes=peak,
        card_bytes=torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0,
        share_of_processor=share,
        ratio={n: c[0] for n, c in costs.items()},
        write_seconds={n: c[1] for n, c in costs.items()},
        pyramid_seconds={n: c[2] for n, c in costs.items()},
    )


@dataclass
class _Clock:
    """Processor time against time."""

    wall: float = field(default_factory=time.perf_counter)
    own: float = field(default_factory=time.process_time)

    def share(self, threads: int) -> float:
        """Of what the threads could have had."""
        wall = max(1e-9, time.perf_counter() - self.wall)
        return min(1.0, (time.process_time() - self.own) / (wall * threads))


def _designs(ensemble: Ensemble) -> list[tuple[Model, int]]:
    """The first model of each design and how many there are of it."""
    keys = [json.dumps([m.architecture, m.describe()["network"]], sort_keys=True) for m in ensemble.members]
    counts, first = Counter(keys), dict(zip(reversed(keys), reversed(ensemble.members), strict=True))
    return [(first[key], counts[key]) for key in counts]


def _labeller(probe: Probe, model: Model) -> Labeller:
    record = {"intensity": probe.intensity.to_dict(), "id": "window"}
    volume = replace(probe.volume, voxel_size_nm=model.voxel_size_nm, path=None, attributes=record)
    options = probe.options.model_copy(update={"flips": "", "engine": "local"})
    return replace(
        Labeller.of(model, volume, options, affinities="affinities" in probe.outputs),
        tiling=probe.tiling,
    )


def _timed(labeller: Labeller, probe: Probe, seconds: float) -> tuple[Timing, np.ndarray]:
    """Label the window, again where it is soon done: the last time counts, when all is warm.

    Returns:
        The timing, and probabilities float32 (C, Z, Y, X) of the slices that were labelled.
    """
    start = time.perf_counter()
    for _ in range(PASSES):
        timing, found = _pass(labeller, probe, seconds)
        if time.perf_counter() - start > seconds / 2:
            break
    return timing, found


def _pass(labeller: Labeller, probe: Probe, seconds: float) -> tuple[Timing, np.ndarray]:
    """Label the window once, or as much of it as there is time for."""
    core, start = probe.core, time.perf_counter()
    marks: list[tuple[int, float]] = []
    parts: list[np.ndarray] = []
    room = SAMPLE // math.prod(core.shape[1:])
    for box, p in labeller.pieces([core]):
        values = p.cpu()
        marks.append((box.shape[0], time.perf_counter() - start))
        if len(marks) == 1 and labeller.fusion.runtime.device == "cpu":
            # as a worker does after its first tile
            keep_memory(probe.options.workers or 1, free=Memory.look().free)
        if not parts or room > 0:
            parts.append(values[:, : max(1, room)].numpy())
            room -= len(values[0])
        if len(marks) > PIECES and marks[-1][1] > seconds:
            break
    return _timing(marks, core.shape[0]), np.concatenate(parts, axis=1)


def _timing(marks: Sequence[tuple[int, float]], of: int) -> Timing:
    """From the slices of each piece and the seconds after which it was there."""
    (first_slices, first), rest = marks[0], sum(n for n, _ in marks[1:])
    steady = (marks[-1][1] - first) / rest if rest else 0.0
    return Timing(first_slices + rest, of, first, first_slices, steady)


def _outputs(probe: Probe, p: np.ndarray) -> dict[str, np.ndarray]:
    """What would be written of probabilities float32 (C, Z, Y, X)."""
    n = len(probe.ensemble.schema)
    values = torch.from_numpy(p[:n])
    made: dict[str, Callable[[], np.ndarray]] = {
        "classes": lambda: fusion.classes(values, probe.ensemble.schema.ids).numpy(),
        "confidence": lambda: fusion.confidence(values).numpy(),
        "entropy": lambda: fusion.entropy(values).numpy(),
        "probabilities": lambda: p[:1],
        "affinities": lambda: fusion.in_255ths(torch.from_numpy(p[n : n + 1])).numpy(),
    }
    return {name: made[name]() for name in probe.outputs or probe.options.outputs}


def _cost(name: str, values: np.ndarray, probe: Probe) -> tuple[float, float, float]:
    """Compressed share, seconds of a voxel for writing and checking, and for the coarser levels."""
    shape = triple(values.shape[-3:])
    chunk = triple(min(c, s) for c, s in zip(probe.chunk, shape, strict=True))
    store: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(store), mode="w", zarr_format=3)
    start = time.perf_counter()
    array = ome_zarr.create_array(group, "s0", values.shape, values.dtype, Layout(chunk, chunk))
    array[:] = values
    back = np.asarray(array[:])
    assert np.array_equal(back, values)
    head = probe.ensemble.affinities if name == "affinities" else None
    channels = len(head.offsets) if head else len(probe.ensemble.schema) if name == "probabilities" else 1
    written = (time.perf_counter() - start) * channels / math.prod(shape)
    size = sum(len(value) for key, value in store.items() if "/c/" in key)
    if name in ("probabilities", "affinities"):
        return size / values.nbytes, written, 0.0
    return size / values.nbytes, written, _pyramid_seconds(name, values, probe, written)


def _pyramid_seconds(name: str, values: np.ndarray, probe: Probe, written: float) -> float:
    """Of a voxel of level 0, for all coarser levels: each is read, halved and written."""
    by = pyramid.factors(probe.volume.voxel_size_nm, triple(values.shape))
    start = time.perf_counter()
    pyramid.reduce(values, by, "labels" if name == "classes" else "image")
    halved = (time.perf_counter() - start) / values.size
    return (halved + written) * math.prod(by) / max(1, math.prod(by) - 1)


def peak_bytes() -> int:
    """Memory this process held at most.

    The resource usage of a process counts what the one that started it held; Linux knows its own.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (
            1 if sys.platform == "darwin" else 1024
        )
