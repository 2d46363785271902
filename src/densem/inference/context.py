"""Practical context: the smallest that changes almost no label, measured on a volume.

1. A seeded choice of tiles, of the size used for prediction and with neighbours on all sides, is
   labelled with the exact context: the truth here.
2. With the exact context in z, the smallest context in y and x (together, multiples of 8) that changes
   fewer than `LIMIT` labels is found by bisection; then, with the exact one in y and x, that in z.
3. Both together are checked; while they change too many labels, they grow by one step.

A model that is run on fixed windows has no practical context: its plan stays as it is.

An axis on which the tiles have no neighbours cannot be measured and keeps the exact context, and so does z
for a network that is shown windows slab by slab: there the exact one costs no more than another.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.inference import fusion
from densem.inference.labeller import Labeller, place
from densem.inference.options import PredictOptions
from densem.inference.tiles import Tiling, round_up
from densem.model import Ensemble, Model, TilePlan
from densem.volumes import Volume

LIMIT = 5e-5
"""Largest share of labels that may change."""
STEP = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContextOptions:
    """How much is spent on measuring.

    Attributes:
        voxels: about so many labels are compared; 5 in 100,000 of a million are 50.
        seed: which tiles are drawn.
        predict: precision and device.
    """

    voxels: int = 1_000_000
    seed: int = 0
    predict: PredictOptions = field(default_factory=PredictOptions)


@dataclass(frozen=True)
class ContextReport:
    """What was measured.

    Attributes:
        plan: the tile plan with its practical context.
        compared: labels compared.
        changed: share of them that the practical context changes.
        tried: every context tried with its share; a share of a run cut short is a lower bound.
    """

    plan: TilePlan
    compared: int
    changed: float
    tried: tuple[tuple[Triple, float], ...]


def measure_context(
    model: Model | Ensemble, volume: Volume, options: ContextOptions | None = None
) -> TilePlan:
    """The model's tile plan with the practical context measured on a volume."""
    return report_context(model, volume, options).plan


def report_context(
    model: Model | Ensemble, volume: Volume, options: ContextOptions | None = None
) -> ContextReport:
    """Measure the practical context and say what was found."""
    options = options or ContextOptions()
    if model.tile.window is not None:
        return ContextReport(model.tile, 0, 0.0, ())
    probe = _Probe.of(model, volume, options)
    exact = probe.exact
    plane = max(exact[1:])
    in_y_and_x = exact[1:]
    if probe.has_neighbours[1] or probe.has_neighbours[2]:
        side = _smallest(0, plane, probe.step, lambda c: probe.holds(probe.context(exact[0], c)))
        in_y_and_x = probe.context(exact[0], side)[1:]
    depth = exact[0]
    if probe.has_neighbours[0]:
        depth = _smallest(0, exact[0], probe.multiple[0], lambda c: probe.holds((c, *exact[1:])))
    found = (depth, *in_y_and_x)
    while not probe.holds(found) and found != exact:
        found = triple(
            min(c + s, e)
            for c, s, e in zip(found, (probe.multiple[0], probe.step, probe.step), exact, strict=True)
        )
    tried = tuple(sorted(probe.shares.items()))
    plan = model.tile.model_copy(update={"practical": found})
    changed = probe.shares.get(found, 0.0)
    _log.info(
        "practical context %s of exact %s: %.1e of %d labels change", found, exact, changed, probe.compared
    )
    return ContextReport(plan, probe.compared, changed, tried)


@dataclass
class _Probe:
    """Tiles labelled with the exact context, against which others are compared."""

    labeller: Labeller
    cores: list[Box]
    truth: list[np.ndarray]
    shares: dict[Triple, float]

    @classmethod
    def of(cls, model: Model | Ensemble, volume: Volume, options: ContextOptions) -> _Probe:
        labeller = Labeller.of(model, volume, options.predict.model_copy(update={"context": "exact"}))
        multiple = labeller.tiling.multiple
        whole = round_up(volume.shape, multiple)
        core = triple(min(c, w) for c, w in zip(round_up(model.tile.core, multiple), whole, strict=True))
        exact = round_up(model.tile.exact or (0, 0, 0), multiple)
        labeller = replace(labeller, tiling=Tiling(volume.shape, core, exact, multiple))
        cores = choose(labeller.tiling, options.voxels, options.seed)
        probe = cls(labeller, cores, [], {})
        probe.truth = [probe.label(core, exact) for core in cores]
        return probe

    @property
    def exact(self) -> Triple:
        return self.labeller.tiling.context

    @property
    def multiple(self) -> Triple:
        return self.labeller.tiling.multiple

    @property
    def step(self) -> int:
        return math.lcm(STEP, *self.multiple[1:])

    @property
    def compared(self) -> int:
        return sum(c.size for c in self.cores)

    @property
    def has_neighbours(self) -> tuple[bool, ...]:
        """Per axis, whether the volume is longer than a tile and a smaller context of use."""
        tiling = self.labeller.tiling
        z, y, x = (n > c for n, c in zip(tiling.shape, tiling.core, strict=True))
        return z and not self.labeller.fusion.streams, y, x

    def context(self, z: int, side: int) -> Triple:
        """`side` in y and x, but no more than the exact context, and that where there are no neighbours."""
        y, x = (
            min(side, e) if has else e for e, has in zip(self.exact[1:], self.has_neighbours[1:], strict=True)
        )
        return z, y, x

    def label(self, core: Box, context: Triple) -> np.ndarray:
        """Channels of a core, predicted with a context."""
        tiling = replace(self.labeller.tiling, context=context)
        found = np.zeros(core.shape, np.uint8)
        for piece, p in replace(self.labeller, tiling=tiling).pieces([core]):
            place(found, core, piece, fusion.classes(p, range(len(p))).cpu().numpy())
        return found

    def holds(self, context: Triple) -> bool:
        """Whether a context changes no more than the allowed share; stops as soon as it does."""
        if context == self.exact:
            return True
        if context not in self.shares:
            self.shares[context] = self._share(context)
        return self.shares[context] < LIMIT

    def _share(self, context: Triple) -> float:
        changed = 0
        for core, truth in zip(self.cores, self.truth, strict=True):
            changed += int((self.label(core, context) != truth).sum())
            if changed >= LIMIT * self.compared:
                break
        return changed / self.compared


def choose(tiling: Tiling, voxels: int, seed: int) -> list[Box]:
    """A seeded choice of cores with about so many voxels, those with most neighbours first."""
    grid = Grid(tiling.shape, tiling.core)
    order = np.random.default_rng(seed).permutation(min(len(grid), 1_000_000))[:10_000]
    cores = sorted(
        (grid.box(int(i)) for i in order), key=lambda c: -_inner_faces(c, tiling.shape, tiling.core)
    )
    chosen: list[Box] = []
    for core in cores:
        if sum(c.size for c in chosen) >= voxels:
            break
        chosen.append(core)
    return chosen


def _inner_faces(core: Box, shape: Triple, full: Triple) -> int:
    """Faces of a core that lie inside the volume; a clipped core counts for less."""
    inner = sum((a > 0) + (b < n) for a, b, n in zip(core.start, core.stop, shape, strict=True))
    return 2 * inner - (core.shape != full)


def _smallest(low: int, high: int, step: int, holds: Callable[[int], bool]) -> int:
    """The smallest multiple of `step` from low to high that holds, by bisection; high is known to hold."""
    steps = [*range(low, high, step), high]
    first, last = 0, len(steps) - 1
    while first < last:
        middle = (first + last) // 2
        if holds(steps[middle]):
            last = middle
        else:
            first = middle + 1
    return steps[last]
