"""Contest: which of the runtimes that this machine has is the fastest for a prediction; measured once.

1. Those that compete have one number format; which one it is, is not the contest's affair.
2. In turn, each runs networks of the models' configs on a few slices of a window as wide as the
   prediction's; its best time counts, for as many slices as it would have to run for a whole window.
3. What it needs before that is counted as well: once, and for each shape that it is run on.

       seconds = once + shapes * seconds of a shape + windows * seconds of a window

4. These three are remembered in the user's cache folder under all they depend on, which the size of the
   volume is no part of. A file that cannot be read or written costs a measurement, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from densem import networks
from densem.blocks import Box, Triple, triple
from densem.inference import openvino_backend
from densem.inference.runtime import Backend, Precision, Ready, Runtime
from densem.inference.shown import Shown
from densem.inference.tiles import Tiling, Window
from densem.model import Ensemble
from densem.networks.streaming import Ends

WORTH = 30_000_000
"""Voxels of a prediction below which measuring would take longer than it saves."""
PROBE = 600_000
"""Voxels of the window that is measured."""
SECONDS = 8.0
"""After so long no further turn is begun."""
TURNS = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a contest.

    Attributes:
        taken: the fastest.
        seconds: of each, for all that is to be labelled; empty where nothing was measured.
    """

    taken: Backend
    seconds: dict[str, float]

    def line(self) -> str:
        """What to tell a person; empty where there was no choice."""
        if len(self.seconds) < 2:
            return ""
        best = self.seconds[self.taken]
        others = ", ".join(
            f"{s / best:.2f} times as fast as {name}"
            for name, s in self.seconds.items()
            if name != self.taken
        )
        return f"Runtime: {self.taken}, measured here {others}, start-up included (--runtime overrides)"


@dataclass(frozen=True)
class Work:
    """What there is to label; decides nothing of what is measured.

    Attributes:
        windows: windows like the measured one that it would fill.
        shapes: of windows, or parts of them, that OpenVINO would be run on.
    """

    windows: float
    shapes: int

    @classmethod
    def of(cls, ensemble: Ensemble, tiling: Tiling, window: Window, share: float) -> Work:
        """Of a prediction.

        Args:
            ensemble: its models.
            tiling: its tiles.
            window: the measured one.
            share: of the volume that is to be labelled.
        """
        z, y, x = (_along(tiling, axis) for axis in range(3))
        planes = len({(w.shape[1], w.margins[:2]) for w in y}) * len({(w.shape[2], w.margins[2:]) for w in x})
        side = window.shape[1] * window.shape[2]
        network = ensemble.members[0].network
        lengths = {n for w in z for n in openvino_backend.lengths(network, w.shape[0], side, w.at_end)}
        voxels = share * math.prod(tiling.shape) * tiling.overhead
        return cls(voxels / math.prod(window.shape), planes * len(lengths))


@dataclass(frozen=True)
class Pace:
    """How fast a runtime is.

    Attributes:
        window: seconds for one.
        once: seconds before the first one.
        shape: seconds for each shape that it is run on.
    """

    window: float
    once: float = 0.0
    shape: float = 0.0

    def seconds(self, work: Work) -> float:
        """For so much work."""
        return self.once + work.shapes * self.shape + work.windows * self.window


@dataclass(frozen=True)
class Contest:
    """What runtimes compete in, as plain values that can be sent to another machine.

    Attributes:
        members: architecture and config of every network, as JSON.
        window: shape (z, y, x) of a window in the middle of the volume.
        margins: its context before and behind the core in y, and in x.
        zeros: whether its (upper, lower) end in z is an end of the volume.
        device: as the options name it.
        precision: the same.
        threads: of a block.
        work: what there is to label.
    """

    members: tuple[str, ...]
    window: Triple
    margins: tuple[int, int, int, int]
    zeros: tuple[bool, bool]
    device: str
    precision: Precision
    threads: int
    work: Work

    @classmethod
    def of(
        cls,
        ensemble: Ensemble,
        tiling: Tiling,
        runtime: tuple[str, Precision],
        threads: int,
        share: float = 1.0,
    ) -> Contest:
        """The contest of a prediction.

        Args:
            ensemble: its models.
            tiling: its tiles; the one in the middle of the volume is taken.
            runtime: device and precision, as the options name them.
            threads: of a block.
            share: of the volume that is to be labelled.
        """
        inner = triple(n // 2 // c * c for n, c in zip(tiling.shape, tiling.core, strict=True))
        core = next(tiling.cores(Box(inner, triple(a + 1 for a in inner))))
        window = tiling.window(core)
        models = (m.describe() for m in ensemble.members)
        members = tuple(json.dumps([m["architecture"], m["network"]], sort_keys=True) for m in models)
        work = Work.of(ensemble, tiling, window, share)
        return cls(members, window.shape, window.margins, window.at_end, *runtime, threads, work)

    def decide(self) -> Verdict:
        """The fastest runtime here: remembered, or measured now."""
        runtimes = candidates(self.device, self.precision)
        if len(runtimes) == 1:
            return Verdict(runtimes[0].backend, {})
        key, path = self._key(runtimes), cache()
        known = _remembered(path).get(key)
        if known is None or set(known) != {r.backend for r in runtimes}:
            _log.info("Measuring which runtime is the fastest here; remembered in %s", path)
            known = self.measure(runtimes)
            _remember(path, key, known)
        seconds = {str(r.backend): known[r.backend].seconds(self.work) for r in runtimes}
        return Verdict(min(runtimes, key=lambda r: seconds[r.backend]).backend, seconds)

    def measure(self, runtimes: tuple[Runtime, ...]) -> dict[str, Pace]:
        """How fast each runtime is: the best of some turns, the first of which does not count."""
        ready = {r: self._ready(r) for r in runtimes}
        best = {str(r.backend): float("inf") for r in runtimes}
        start = time.monotonic()
        for turn in range(TURNS):
            if turn > 1 and time.monotonic() - start > SECONDS:
                break
            for runtime, made in ready.items():
                seconds = sum(self._time(runtime, network) for network in made)
                if turn:
                    best[runtime.backend] = min(best[runtime.backend], seconds)
        return {str(r.backend): _pace(best[r.backend], made) for r, made in ready.items()}

    def _ready(self, runtime: Runtime) -> list[Ready]:
        made = (networks.build(*json.loads(member)) for member in self.members)
        return [runtime.prepare(network) for network in made]

    def _time(self, runtime: Runtime, network: Ready) -> float:
        """Seconds for a window, from those for a few slices that have neighbours of zeros."""
        depth, y, x = self.window
        side = y * x
        shown = max(1, min(depth, PROBE // side))
        noise = np.random.default_rng(0).standard_normal((shown, y, x), np.float32)
        window = Shown(noise, device=runtime.device, dtype=runtime.dtype)
        start = time.monotonic()
        with torch.inference_mode():
            _run(network, window, self.margins)
        seconds = time.monotonic() - start
        return seconds * network.run_on(depth, side, self.zeros) / shown

    def _key(self, runtimes: tuple[Runtime, ...]) -> str:
        facts = {k: v for k, v in asdict(self).items() if k != "work"}
        facts["runtimes"] = [r.describe() for r in runtimes]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def candidates(device: str, precision: Precision) -> tuple[Runtime, ...]:
    """The runtimes that this machine has, of one number format."""
    first = Runtime.choose(device, precision)
    if first.device != "cpu" or not openvino_backend.installed():
        return (first,)
    return first, Runtime.choose("cpu", first.precision, "openvino")


def cache() -> Path:
    """Where verdicts are remembered."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "densem" / "runtimes.json"


def _run(network: Ready, shown: Shown, margins: tuple[int, int, int, int]) -> None:
    """Once over a window, to the last value."""
    if not network.streams:
        network.whole(shown.slices(0, shown.shape[0])).float().cpu()
        return
    for logits in network.slabs(shown, Ends((True, True), margins)):
        logits.float().cpu()


def _along(tiling: Tiling, axis: int) -> list[Window]:
    """The windows of the first row of tiles along an axis."""
    stop = [1, 1, 1]
    stop[axis] = tiling.shape[axis]
    return [tiling.window(core) for core in tiling.cores(Box((0, 0, 0), triple(stop)))]


def _pace(window: float, made: Sequence[Ready]) -> Pace:
    """With the start-up that was measured on the way."""
    once, shape = (sum(n.start_up[i] for n in made) for i in range(2))
    return Pace(window, once, shape)


def _remembered(path: Path) -> dict[str, dict[str, Pace]]:
    """How fast, by runtime, by key; what is not that is left away."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {k: {b: Pace(**p) for b, p in v.items()} for k, v in entries if _are_paces(v)}


def _are_paces(entry: Any) -> bool:
    names = set(get_args(Backend))
    return isinstance(entry, dict) and set(entry) <= names and all(map(_is_pace, entry.values()))


def _is_pace(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"window", "once", "shape"}
        and all(isinstance(s, float) and s >= 0 for s in entry.values())
        and entry["window"] > 0
    )


def _remember(path: Path, key: str, paces: dict[str, Pace]) -> None:
    """Write it beside what is there; the file appears whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    entries = {**_remembered(path), key: paces}
    plain = {k: {b: asdict(p) for b, p in entry.items()} for k, entry in entries.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(plain, indent=1))
        os.replace(part, path)
    except OSError as error:
        _log.info("which runtime is the fastest cannot be remembered: %s", error)
