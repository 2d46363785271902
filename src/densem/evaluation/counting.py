"""Counting two label volumes in one blockwise pass: how often (true id, predicted id) occurred.

1. a block of both volumes is read once, and cut where the cells of a coarser grid meet in it
2. a piece becomes one joint histogram of (true id, predicted id), 256 x 256, sorted into channels
3. ids that are no class are gathered over the whole volumes and refused at the end, with their counts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from densem.blocks import Box, Grid, Triple
from densem.errors import InputError, SchemaError, ShapeError, VoxelSizeError
from densem.evaluation.passes import BLOCK, Passes, Progress, ThreadPasses
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume
from densem.volumes.shared import Shared

_RUN = 1 << 20  # voxels counted at once: keeps numpy's 64-bit copy of the codes in the cache


@dataclass(frozen=True)
class Counted:
    """What one block holds.

    Attributes:
        pieces: number of a cell and its counts int64 (C, C + 1), for each cell that meets the block.
        joint: the counts of the whole block by id, int64 (256, 256).
        strays: values that are no id at all, of truth and prediction.
    """

    pieces: tuple[tuple[int, np.ndarray], ...]
    joint: np.ndarray
    strays: tuple[Counter[int], Counter[int]]


def counts_of_cells(
    truth: Volume,
    prediction: Volume,
    schema: LabelSchema,
    cells: Grid,
    block: Triple = BLOCK,
    passes: Passes | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Count both volumes, cell by cell.

    Args:
        truth: class ids, 255 where unlabelled.
        prediction: class ids, 255 where nothing was predicted.
        schema: the classes of both.
        cells: a grid over the volumes.
        block: voxels read at once, (z, y, x); memory grows with it and with the workers only.
        passes: who reads and counts; by default this thread.
        progress: told how much is done, and of how much.

    Yields:
        The number of a cell and its counts int64 (C, C + 1) in one block: true channel by predicted
        channel, the last column for nothing predicted; unlabelled truth is left out. A cell comes once
        for each block that meets it.

    Raises:
        ShapeError, VoxelSizeError, InputError: for volumes that cannot be compared.
        SchemaError: at the end, for ids that are no class, with their counts.
    """
    check_grids(truth, prediction)
    grid = Grid(truth.shape, block)
    joint = np.zeros((256, 256), np.int64)
    strays: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    task = CountTask(Shared(truth), Shared(prediction), cells, schema)
    for part in (passes or ThreadPasses()).over(task, grid, progress):
        joint += part.joint
        for known, more in zip(strays, part.strays, strict=True):
            known.update(more)
        yield from part.pieces
    _check_ids(joint, strays, (truth, prediction), schema)


# ---- counting --------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountTask:
    """Counts the pairs of ids of a block, cut by the cells of a grid.

    Attributes:
        truth: a volume of class ids.
        prediction: another on the same grid.
        cells: a grid over both.
        schema: the classes counted in the cells.
    """

    truth: Shared
    prediction: Shared
    cells: Grid
    schema: LabelSchema
    name = "counts"

    def __call__(self, box: Box) -> Counted:
        """Count a box."""
        (true_ids, true_strays), (predicted_ids, predicted_strays) = (
            _as_ids(shared.get().read(box)) for shared in (self.truth, self.prediction)
        )
        joint, pieces = np.zeros((256, 256), np.int64), []
        for cell in self.cells.within(box):
            part = cell.clip(box).relative_to(box).slices
            counts = _count(true_ids[part].reshape(-1), predicted_ids[part].reshape(-1))
            joint += counts
            pieces.append((self._number(cell), counts[np.ix_(*self._channels())]))
        return Counted(tuple(pieces), joint, (true_strays, predicted_strays))

    def plan(self) -> dict[str, Any]:
        """What decides the counts: volumes, cells and channels."""
        return {
            "truth": self.truth.get().id, "prediction": self.prediction.get().id,
            "cell": list(self.cells.cell), "ids": list(self.schema.ids),
        }  # fmt: skip

    def encode(self, result: Counted) -> dict[str, Any]:
        """Counts as (place in C order, number), without zeros."""
        pieces = [[number, _sparse(counts)] for number, counts in result.pieces]
        strays = [list(s.items()) for s in result.strays]
        return {"pieces": pieces, "joint": _sparse(result.joint), "strays": strays}

    def decode(self, record: dict[str, Any]) -> Counted:
        """From what `encode` gave."""
        rows, columns = self._channels()
        shape = len(rows), len(columns)
        pieces = tuple((number, _dense(counts, shape)) for number, counts in record["pieces"])
        true_strays, predicted_strays = (Counter(dict(s)) for s in record["strays"])
        return Counted(pieces, _dense(record["joint"], (256, 256)), (true_strays, predicted_strays))

    def _channels(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of the rows and of the columns."""
        return tuple(self.schema.ids), (*self.schema.ids, UNLABELLED)

    def _number(self, cell: Box) -> int:
        z, y, x = (a // c for a, c in zip(cell.start, self.cells.cell, strict=True))
        _, ny, nx = self.cells.counts
        return (z * ny + y) * nx + x


def _sparse(counts: np.ndarray) -> list[tuple[int, int]]:
    flat = counts.reshape(-1)
    return [(int(i), int(flat[i])) for i in np.flatnonzero(flat)]


def _dense(pairs: list[tuple[int, int]], shape: tuple[int, int]) -> np.ndarray:
    counts = np.zeros(shape, np.int64)
    for place, number in pairs:
        counts.flat[place] = number
    return counts


def _count(true_ids: np.ndarray, predicted_ids: np.ndarray) -> np.ndarray:
    """The joint histogram int64 (256, 256) of two flat uint8 arrays."""
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, true_ids.size, _RUN):
        run = slice(start, start + _RUN)
        codes = true_ids[run].astype(np.uint16) << 8 | predicted_ids[run]
        counts += np.bincount(codes, minlength=1 << 16)
    return counts.reshape(256, 256)


def _as_ids(labels: np.ndarray) -> tuple[np.ndarray, Counter[int]]:
    """As uint8 ids, and the counts of values that are none (they become 255, to be refused later)."""
    if labels.dtype == np.uint8:
        return labels, Counter()
    wrong = (labels < 0) | (labels > UNLABELLED)
    values, counts = np.unique(labels[wrong], return_counts=True)
    strays = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return np.where(wrong, UNLABELLED, labels).astype(np.uint8), strays


# ---- checks ----------------------------------------------------------------------------------


def check_grids(truth: Volume, prediction: Volume) -> None:
    """Refuse two volumes that do not lie on one grid, or hold no class ids.

    Raises:
        ShapeError, VoxelSizeError: naming both.
        InputError: for a volume of fractions.
    """
    names = f"annotation {truth.name}", f"prediction {prediction.name}"
    if truth.shape != prediction.shape:
        raise ShapeError(
            f"{names[0]} has shape {truth.shape} and {names[1]} has {prediction.shape} (z, y, x); "
            "both must lie on one grid: evaluate the prediction of the annotated volume"
        )
    if not np.allclose(truth.voxel_size_nm, prediction.voxel_size_nm, rtol=1e-3, atol=0):
        sizes = [" ".join(f"{v:g}" for v in volume.voxel_size_nm) for volume in (truth, prediction)]
        raise VoxelSizeError(
            f"{names[0]} has voxels of {sizes[0]} nm and {names[1]} of {sizes[1]} nm (z, y, x); "
            "both must lie on one grid: correct the voxel size that is wrong, or predict again"
        )
    for name, volume in zip(names, (truth, prediction), strict=True):
        if volume.dtype.kind not in "ui":
            raise InputError(f"{name}: expected whole numbers (class ids), found {volume.dtype}")


def _check_ids(
    counts: np.ndarray,
    strays: tuple[Counter[int], Counter[int]],
    volumes: tuple[Volume, Volume],
    schema: LabelSchema,
) -> None:
    """Refuse ids that are no class, in either volume, wherever they lie."""
    for axis, what in ((0, "annotation"), (1, "prediction")):
        per_id = counts.sum(axis=1 - axis)
        found = Counter({i: int(per_id[i]) for i in _unknown(schema) if per_id[i]}) + strays[axis]
        if found:
            raise SchemaError(
                f"{what} {volumes[axis].name}: ids outside the schema: {_listed(found)}; "
                f"expected {', '.join(map(str, schema.ids))} or {UNLABELLED} (unlabelled)"
            )


def _unknown(schema: LabelSchema) -> Iterable[int]:
    return (i for i in range(UNLABELLED) if i not in schema.ids)


def _listed(found: Counter[int], most: int = 8) -> str:
    """As `7 (123 voxels), 9 (1 voxel)`, in order of id."""
    rows = [f"{i} ({n} voxel{'s' if n > 1 else ''})" for i, n in sorted(found.items())]
    more = [f"and {len(rows) - most} more"] if len(rows) > most else []
    return ", ".join(rows[:most] + more)
