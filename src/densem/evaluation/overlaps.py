"""Overlaps of two volumes of objects: how many voxels each true object shares with each predicted one.

    1. a block of both volumes is read once and cut into runs: voxels along x of the same ids and classes
    2. runs of the same ids and classes are added up, so that a block becomes a short table
    3. the tables of all blocks are added up; sorted, the sum is the same for any block and number of workers

Every score of objects follows from this one table (`panoptic.py`, `partitions.py`). It grows with the number
of pairs of objects that touch the same voxels, never with the volume. 0 is no object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.errors import ConfigError, InputError, SchemaError
from densem.evaluation.counting import check_grids
from densem.evaluation.passes import BLOCK, over_blocks
from densem.schema import UNLABELLED
from densem.volumes import Volume

_FEW = 1 << 18  # rows that wait at least before they are added up


@dataclass(frozen=True)
class ObjectVolumes:
    """True and predicted objects of one grid, and what is known of their classes.

    Attributes:
        truth: object ids of any integer type, 0 for no object.
        prediction: the same.
        true_classes: class ids of the annotation; voxels that are 255 there are ignored.
        predicted_classes: class ids of the prediction, 255 where nothing was predicted.
        ignored_id: a true object id that means that nobody has labelled the voxel.
    """

    truth: Volume
    prediction: Volume
    true_classes: Volume | None = None
    predicted_classes: Volume | None = None
    ignored_id: int | None = None

    def check(self) -> None:
        """Refuse volumes that cannot be compared.

        Raises:
            ShapeError, VoxelSizeError: if they do not lie on one grid.
            InputError: for a volume that holds no whole numbers.
            ConfigError: for an ignored id that is no object's.
        """
        for what, volume in (("true objects", self.truth), ("predicted objects", self.prediction)):
            if volume.dtype.kind not in "ui":
                raise InputError(
                    f"{what} {volume.name}: expected whole numbers (object ids), found {volume.dtype}"
                )
        check_grids(self.truth, self.prediction)
        for other in (self.true_classes, self.predicted_classes):
            if other is not None:
                check_grids(other, self.truth)
        if self.ignored_id is not None and not 0 < self.ignored_id < 2**64:
            raise ConfigError(
                f"ignored id: expected an object id from 1 to 2^64 - 1, found {self.ignored_id}; "
                "0 is no object and always counts"
            )


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Voxels by true object, predicted object and their classes; sorted, each combination once.

    Attributes:
        classes: uint16 (N,), true class * 256 + predicted class. The true class is 255 for voxels that are
            ignored. Where no classes are known they are 0.
        true_ids: uint64 (N,); 0 for no object, and for ignored voxels.
        predicted_ids: uint64 (N,); 0 for no object.
        voxels: int64 (N,).
        true_touching, predicted_touching: uint64, ascending: objects that touch the border of the volume or
            an ignored voxel (by a face); None if nobody looked.
        classed: whether true and predicted classes are known.
    """

    classes: np.ndarray
    true_ids: np.ndarray
    predicted_ids: np.ndarray
    voxels: np.ndarray
    true_touching: np.ndarray | None = None
    predicted_touching: np.ndarray | None = None
    classed: tuple[bool, bool] = (False, False)

    @property
    def true_classes(self) -> np.ndarray:
        """uint16 (N,), 255 for ignored voxels."""
        return self.classes >> 8

    @property
    def predicted_classes(self) -> np.ndarray:
        """uint16 (N,), 255 where no class was predicted."""
        return self.classes & 0xFF

    @property
    def ignored(self) -> np.ndarray:
        """Bool (N,), rows of voxels that are ignored."""
        return self.true_classes == UNLABELLED

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True id, predicted id and voxels of every pair; ascending, without ignored voxels."""
        kept = ~self.ignored
        none = np.zeros(int(kept.sum()), np.uint16)
        _, *pairs = added_up((none, self.true_ids[kept], self.predicted_ids[kept], self.voxels[kept]))
        return pairs[0], pairs[1], pairs[2]


def overlaps(
    volumes: ObjectVolumes,
    touching: bool = False,
    block: Triple = BLOCK,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Overlaps:
    """Count the voxels that true and predicted objects share, block by block.

    Args:
        volumes: what is compared.
        touching: whether to find the objects that touch the border of the volume or an ignored voxel. An
            axis of a single voxel has no border.
        block: voxels read at once, (z, y, x); memory grows with it, with `workers` and with the number of
            pairs.
        workers: threads that read and count.
        progress: told how many blocks are done, and of how many.

    Raises:
        ShapeError, VoxelSizeError, InputError, ConfigError: as `ObjectVolumes.check`, and for ids below 0.
        SchemaError: for class ids below 0 or above 255.
    """
    volumes.check()
    grid = Grid(volumes.truth.shape, block)
    counter = _Counter(volumes, touching)
    total, found = _Total(), [np.zeros(0, np.uint64)] * 2
    for done, part in enumerate(over_blocks(counter.count, grid, workers), start=1):
        total.add(part.rows)
        found = [np.union1d(known, more) for known, more in zip(found, part.touching, strict=True)]
        if progress is not None:
            progress(done, len(grid))
    classed = volumes.true_classes is not None, volumes.predicted_classes is not None
    marks = found if touching else (None, None)
    return Overlaps(*total.rows(), marks[0], marks[1], classed)


def totals(ids: np.ndarray, voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids that occur, ascending, and the sum of the voxels of each, int64."""
    known, place = np.unique(ids, return_inverse=True)
    sums = np.zeros(known.size, np.int64)
    np.add.at(sums, place, voxels)
    return known, sums


# ---- counting --------------------------------------------------------------------------------

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Classes, true ids, predicted ids and voxels, (N,) each."""


@dataclass(frozen=True)
class _Part:
    """The rows of one block, and the objects of truth and prediction that touch something."""

    rows: Rows
    touching: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Counter:
    """Counts one block after another."""

    volumes: ObjectVolumes
    touching: bool

    def count(self, box: Box) -> _Part:
        """The rows of a box; with `touching`, one more layer is read at its far sides."""
        read = _wider(box, self.volumes.truth.shape) if self.touching else box
        inner = box.relative_to(read).slices
        truth, prediction = (_ids(v, read) for v in (self.volumes.truth, self.volumes.prediction))
        classes = self._classes(read)
        ignored_id = self.volumes.ignored_id
        rows = _runs(classes[inner], truth[inner], prediction[inner], ignored_id)
        if not self.touching:
            return _Part(rows, (np.zeros(0, np.uint64), np.zeros(0, np.uint64)))
        ignored = classes >> 8 == UNLABELLED
        if ignored_id is not None:
            ignored |= _equal(truth, ignored_id)
        whole = Box.of_shape(self.volumes.truth.shape)
        near = _near(ignored) | _at_border(read, whole)
        near &= ~ignored
        return _Part(rows, (_object_ids(truth[near]), _object_ids(prediction[near])))

    def _classes(self, box: Box) -> np.ndarray:
        """True class * 256 + predicted class, uint16 (Z, Y, X)."""
        out = np.zeros(box.shape, np.uint16)
        if self.volumes.true_classes is not None:
            out |= _class_ids(self.volumes.true_classes, box) << 8
        if self.volumes.predicted_classes is not None:
            out |= _class_ids(self.volumes.predicted_classes, box)
        return out


class _Total:
    """Adds tables up; what waits is never more than what is known already, or little."""

    def __init__(self) -> None:
        self._waiting: list[Rows] = []
        self._known = self._rows = 0

    def add(self, rows: Rows) -> None:
        """Take in the rows of a block."""
        self._waiting.append(rows)
        self._rows += rows[0].size
        if self._rows > 2 * self._known + _FEW:
            self.rows()

    def rows(self) -> Rows:
        """All rows so far, sorted, each combination once."""
        merged = added_up(_joined(self._waiting))
        self._waiting, self._known, self._rows = [merged], merged[0].size, merged[0].size
        return merged


def _joined(parts: Sequence[Rows]) -> Rows:
    classes, truth, predicted, voxels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return classes, truth, predicted, voxels


def added_up(rows: Rows) -> Rows:
    """Rows in ascending order of true id, predicted id and classes, those of one combination as one."""
    classes, truth, predicted, voxels = rows
    if not voxels.size:
        return rows
    order = np.lexsort((classes, predicted, truth))
    classes, truth, predicted = classes[order], truth[order], predicted[order]
    starts = np.flatnonzero(_changes(classes, truth, predicted))
    sums = np.add.reduceat(voxels[order], starts)
    return classes[starts], truth[starts], predicted[starts], sums


def _runs(classes: np.ndarray, truth: np.ndarray, prediction: np.ndarray, ignored_id: int | None) -> Rows:
    """The rows of a block, (Z, Y, X) each."""
    flat = classes.reshape(-1), truth.reshape(-1), prediction.reshape(-1)
    starts = np.flatnonzero(_changes(*flat))
    voxels = np.diff(starts, append=flat[0].size)
    kinds, true_ids, predicted_ids = (a[starts] for a in flat)
    if ignored_id is not None:
        kinds[_equal(true_ids, ignored_id)] |= UNLABELLED << 8
    true_ids = np.where(kinds >> 8 == UNLABELLED, 0, true_ids.astype(np.uint64))
    return added_up((kinds, true_ids, predicted_ids.astype(np.uint64), voxels.astype(np.int64)))


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Bool (N,), where an entry differs from the one before it in any column; the first one does."""
    changed = np.ones(columns[0].size, bool)
    changed[1:] = False
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed


def _ids(volume: Volume, box: Box) -> np.ndarray:
    """Object ids of a box, as they are stored."""
    ids = volume.read(box)
    if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
        raise InputError(
            f"{volume.name}: expected object ids from 0 up, found {ids.min()} in box {box}; 0 is no object"
        )
    return ids


def _class_ids(volume: Volume, box: Box) -> np.ndarray:
    ids = volume.read(box)
    if ids.dtype != np.uint8 and ids.size and not 0 <= ids.min() <= ids.max() <= UNLABELLED:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise SchemaError(
            f"{volume.name}: expected class ids from 0 to {UNLABELLED}, found {wrong} in box {box}"
        )
    return ids.astype(np.uint16)


def _equal(ids: np.ndarray, value: int) -> np.ndarray:
    """Where an id is a value that may be too large for its type."""
    if value > np.iinfo(ids.dtype).max:
        return np.zeros(ids.shape, bool)
    return ids == ids.dtype.type(value)


# ---- what touches ----------------------------------------------------------------------------


def _wider(box: Box, shape: Triple) -> Box:
    """A box with one more layer at its far sides, where there is one."""
    return Box(box.start, triple(b + 1 for b in box.stop)).clip(Box.of_shape(shape))


def _near(ignored: np.ndarray) -> np.ndarray:
    """Bool (Z, Y, X), voxels that share a face with an ignored one."""
    near = np.zeros(ignored.shape, bool)
    if not ignored.any():
        return near
    for axis in range(3):
        ahead = np.moveaxis(near, axis, 0)
        there = np.moveaxis(ignored, axis, 0)
        ahead[:-1] |= there[1:]
        ahead[1:] |= there[:-1]
    return near


def _at_border(box: Box, whole: Box) -> np.ndarray:
    """Bool (Z, Y, X), voxels of a box in the outermost layers of a volume."""
    border = np.zeros(box.shape, bool)
    for axis in range(3):
        layers = np.moveaxis(border, axis, 0)
        if whole.stop[axis] == 1:
            continue
        if box.start[axis] == 0:
            layers[0] = True
        if box.stop[axis] == whole.stop[axis]:
            layers[-1] = True
    return border


def _object_ids(ids: np.ndarray) -> np.ndarray:
    found = np.unique(ids).astype(np.uint64)
    return found[found > 0]
