"""Boundary distances in nm: how far the predicted surface of a class lies from the true one.

    1. the surfaces of every class in truth and prediction are gathered in one blockwise pass (`surfaces.py`)
    2. every point of one surface is looked up in a k-d tree of the other: exact Euclidean distances in nm,
       whatever the voxel size, and not limited by any halo
    3. mean, 95th percentile and the share within a tolerance, weighted by area

Memory grows with the surfaces, not with the volume; more than twenty million points of one class are refused.
Surfaces of one class are counted, not of objects: where two mitochondria touch there is no boundary. What
lies at the edge of the volume is no boundary either, nor what touches a voxel that is not scored.

Sources: Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck anatomy
for radiotherapy, 2018 (surface Dice at a tolerance); Heimann et al., Comparison and evaluation of methods for
liver segmentation, 2009 (average symmetric surface distance); Huttenlocher et al., Comparing images using the
Hausdorff distance, 1993 (a percentile instead of the maximum).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from densem.blocks import Box, Triple
from densem.errors import ConfigError, FormatError, ResourceError
from densem.evaluation.contingency import Protocol, check_protocol
from densem.evaluation.counting import check_grids
from densem.evaluation.passes import BLOCK, Passes, Progress, ThreadPasses
from densem.evaluation.surfaces import (
    Surface,
    joined,
    lattice_grid,
    packed,
    patch_areas,
    positions,
    surfaces_of_box,
    unpacked,
)
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume
from densem.volumes.shared import Shared
from densem.volumes.volume import Nanometres

MOST_POINTS = 20_000_000
"""Points of one surface that are still looked up, in a few gigabytes of memory."""

PERCENTILE = 0.95


@dataclass(frozen=True)
class ClassBoundary:
    """Boundary distances of one class; None where truth or prediction holds no boundary of it.

    Attributes:
        name: of the class.
        mean_nm: average symmetric surface distance: over all area of both surfaces, the mean distance to
            the other surface.
        hausdorff95_nm: distance within which 95 % of the area of a surface lie from the other one; the
            larger of both directions.
        surface_dice: share of the area of both surfaces that lies within the tolerance of the other one.
        truth_um2: area of the true boundary in µm².
        predicted_um2: of the predicted one.
    """

    name: str
    mean_nm: float | None
    hausdorff95_nm: float | None
    surface_dice: float | None
    truth_um2: float
    predicted_um2: float


@dataclass(frozen=True)
class Boundaries:
    """Boundary distances of all classes.

    Attributes:
        tolerance_nm: of the surface Dice.
        classes: in channel order.
    """

    tolerance_nm: float
    classes: tuple[ClassBoundary, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        classes = {c.name: {k: v for k, v in vars(c).items() if k != "name"} for c in self.classes}
        return {"tolerance_nm": self.tolerance_nm, "classes": classes}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "scores") -> Boundaries:
        """From what `to_dict` gave.

        Raises:
            FormatError: naming `where` and what is missing or wrong.
        """
        try:
            rows = tuple(ClassBoundary(name, **row) for name, row in data["classes"].items())
            return cls(float(data["tolerance_nm"]), rows)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"{where}: expected the boundary distances that densem evaluate writes, but entry {error} is "
                "missing or wrong; evaluate again"
            ) from None


def boundaries(
    truth: Volume,
    prediction: Volume,
    schema: LabelSchema,
    protocol: Protocol = Protocol.LABELLED,
    tolerance_nm: float | None = None,
    *,
    block: Triple = BLOCK,
    workers: int = 1,
    passes: Passes | None = None,
    progress: Progress | None = None,
) -> Boundaries:
    """Distances between the boundaries of every class in truth and prediction.

    A boundary that touches a voxel that is not scored (unlabelled, or background with the protocol `cells`)
    does not count, in either volume: nobody knows where it lies.

    Args:
        truth: class ids, 255 where unlabelled.
        prediction: class ids, 255 where nothing was predicted, which is of no class.
        schema: the classes of both.
        protocol: which voxels are scored.
        tolerance_nm: of the surface Dice; by default the longest side of a voxel, below which an annotation
            cannot say where a boundary lies.
        block: corners looked at at once, (z, y, x).
        workers: threads.
        passes: who looks at the blocks instead of threads; distances are measured by threads always.
        progress: told how much of the volume is looked at, and of how much.

    Raises:
        ShapeError, VoxelSizeError, InputError: for volumes that cannot be compared.
        SchemaError: for a protocol that the schema cannot serve.
        ConfigError: for a tolerance below zero.
        ResourceError: for surfaces of too many points.
    """
    check_grids(truth, prediction)
    check_protocol(schema, protocol)
    tolerance = max(truth.voxel_size_nm) if tolerance_nm is None else tolerance_nm
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(f"tolerance of the surface Dice: expected nm from 0 up, found {tolerance:g}")
    background = schema.background_id if protocol is Protocol.CELLS else None
    task = SurfaceTask(Shared(truth), Shared(prediction), tuple(schema.ids), background)
    grid = lattice_grid(truth.shape, block)
    found = (passes or ThreadPasses(workers)).over(task, grid, progress)
    gathered = _gather(found, schema, truth)
    areas = patch_areas(truth.voxel_size_nm)
    ruler = _Ruler(truth.shape, truth.voxel_size_nm, areas, tolerance, workers)
    return Boundaries(
        tolerance,
        tuple(ruler.measure(name, *pair) for name, pair in zip(schema.names, gathered, strict=True)),
    )


# ---- gathering -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SurfaceTask:
    """Finds the surfaces of every class within a box of the lattice of inner corners, true and predicted.

    Attributes:
        truth: a volume of class ids.
        prediction: another on the same grid.
        ids: the classes.
        background: a true class that is not scored.
    """

    truth: Shared
    prediction: Shared
    ids: tuple[int, ...]
    background: int | None
    name = "boundaries"

    def __call__(self, box: Box) -> list[list[Surface]]:
        """Of truth and prediction a surface per class."""
        return surfaces_of_box(self._read, self.truth.get().shape, box, self.ids)

    def plan(self) -> dict[str, Any]:
        """What decides the surfaces: volumes, classes, and what is not scored."""
        return {
            "truth": self.truth.get().id, "prediction": self.prediction.get().id,
            "ids": list(self.ids), "background": self.background,
        }  # fmt: skip

    def encode(self, result: list[list[Surface]]) -> dict[str, Any]:
        """All points of all surfaces, compressed."""
        return packed(result)

    def decode(self, record: dict[str, Any]) -> list[list[Surface]]:
        """From what `encode` gave."""
        return unpacked(record)

    def _read(self, box: Box) -> tuple[np.ndarray, ...]:
        true_ids = self.truth.get().read(box)
        unscored = true_ids == UNLABELLED
        if self.background is not None:
            unscored |= true_ids == self.background
        return true_ids, self.prediction.get().read(box), unscored


def _gather(
    found: Iterable[list[list[Surface]]], schema: LabelSchema, truth: Volume
) -> list[tuple[Surface, Surface]]:
    """True and predicted surface of every class."""
    parts: list[tuple[list[Surface], list[Surface]]] = [([], []) for _ in schema.ids]
    sizes = np.zeros((len(schema), 2), np.int64)
    for sides in found:
        for side, surfaces in enumerate(sides):
            for channel, surface in enumerate(surfaces):
                if len(surface):
                    parts[channel][side].append(surface)
                    sizes[channel, side] += len(surface)
        _check_size(sizes, schema, truth)
    return [(joined(first), joined(second)) for first, second in parts]


def _check_size(sizes: np.ndarray, schema: LabelSchema, truth: Volume) -> None:
    if sizes.max() > MOST_POINTS:
        name = schema.names[int(sizes.max(axis=1).argmax())]
        raise ResourceError(
            f"{truth.name}: the boundary of class {name} has more than {MOST_POINTS:,} points, too many for "
            "memory; measure boundary distances on a part of the volume, or leave them out"
        )


# ---- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Ruler:
    """What distances are measured with."""

    shape: Triple
    voxel_size_nm: Nanometres
    areas: np.ndarray
    tolerance_nm: float
    workers: int

    def measure(self, name: str, truth: Surface, prediction: Surface) -> ClassBoundary:
        weights = self.areas[truth.codes], self.areas[prediction.codes]
        total = float(weights[0].sum()), float(weights[1].sum())
        sizes = total[0] / 1e6, total[1] / 1e6
        if min(total) == 0:
            return ClassBoundary(name, None, None, None, *sizes)
        distances = self._distances(truth, prediction), self._distances(prediction, truth)
        pairs = list(zip(distances, weights, strict=True))
        reach = self.tolerance_nm * (1 + 1e-9)  # 3 voxels of 4.6 nm are not 13.8 nm to the last bit
        return ClassBoundary(
            name=name,
            mean_nm=sum(float((d * w).sum()) for d, w in pairs) / sum(total),
            hausdorff95_nm=max(weighted_percentile(d, w, PERCENTILE) for d, w in pairs),
            surface_dice=sum(float(w[d <= reach].sum()) for d, w in pairs) / sum(total),
            truth_um2=sizes[0],
            predicted_um2=sizes[1],
        )

    def _distances(self, start: Surface, end: Surface) -> np.ndarray:
        """From every point of a surface to the nearest one of another, in nm, float64 (N,)."""
        found = np.zeros(len(start))
        apart = ~np.isin(start.places, end.places, assume_unique=True)  # most points lie on both
        if apart.any():
            tree = KDTree(self._positions(end), balanced_tree=False, compact_nodes=False)
            found[apart], _ = tree.query(self._positions(start, apart), workers=self.workers)
        return found

    def _positions(self, surface: Surface, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        return positions(surface.places[chosen], self.shape, self.voxel_size_nm)


def weighted_percentile(values: np.ndarray, weights: Sequence[float] | np.ndarray, share: float) -> float:
    """The smallest value up to which at least `share` of the weight lies; nothing is interpolated."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(np.asarray(weights, np.float64)[order])
    place = int(np.searchsorted(below, share * below[-1] * (1 - 1e-12)))
    return float(values[order[min(place, len(order) - 1)]])
