"""Contingency tables: how often each true class met each predicted class, in one blockwise pass.

Rows are the true classes, columns the predicted ones, both in channel order; one more column counts
voxels for which nothing was predicted (255), which are wrong whatever the truth. Voxels whose truth
is unlabelled (255) are left out. Every score of `voxels.py` follows from this table alone.

    1. a block of both volumes becomes one joint histogram of (true id, predicted id), 256 x 256
    2. the histograms are added up: whole numbers, so block size and order cannot matter
    3. ids that are no class are refused with their counts; the rest is sorted into channels
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import numpy as np

from densem.blocks import Box, Grid, Triple
from densem.errors import ConfigError, InputError, SchemaError, ShapeError, VoxelSizeError, nearest
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume

BLOCK: Triple = (32, 512, 512)
"""Voxels read at once, (z, y, x): one shard as densem writes them."""

_RUN = 1 << 20  # voxels counted at once: keeps numpy's 64-bit copy of the codes in the cache


class Protocol(StrEnum):
    """Which voxels are scored.

    `labelled`: all that somebody labelled. `cells`: only inside labelled cells, that is where the truth
    is a class and not background; what is predicted outside them goes unseen, so that only the organelles
    can be judged. It is the protocol for volumes in which a few cells were labelled and the rest left 0.
    """

    LABELLED = "labelled"
    CELLS = "cells"

    @classmethod
    def named(cls, word: str) -> Protocol:
        """The protocol of that name.

        Raises:
            ConfigError: listing the protocols.
        """
        known = [p.value for p in cls]
        if word not in known:
            raise ConfigError(
                f"protocol: expected one of {', '.join(known)}, found {word!r}.{nearest(word, known)}"
            )
        return cls(word)


@dataclass(frozen=True, eq=False)
class ContingencyTable:
    """Counts of voxels by true and predicted class.

    Attributes:
        counts: int64 (C, C + 1); row: true channel, column: predicted channel, the last one: nothing
            predicted.
        schema: the classes.
        protocol: which voxels were counted.
        left_out: voxels not counted: unlabelled, and with `cells` the background.
    """

    counts: np.ndarray
    schema: LabelSchema
    protocol: Protocol = Protocol.LABELLED
    left_out: int = 0

    def __add__(self, other: ContingencyTable) -> ContingencyTable:
        """Both tables as one, as if their volumes had been scored together."""
        if (self.schema, self.protocol) != (other.schema, other.protocol):
            raise SchemaError(
                "tables are added only if schema and protocol agree: "
                f"found {', '.join(self.schema.names)} ({self.protocol}) and "
                f"{', '.join(other.schema.names)} ({other.protocol})"
            )
        left_out = self.left_out + other.left_out
        return ContingencyTable(self.counts + other.counts, self.schema, self.protocol, left_out)

    @property
    def voxels(self) -> int:
        """Number of voxels counted."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class _Joint:
    """How often (true id, predicted id) occurred, int64 (256, 256), and what was no id at all."""

    counts: np.ndarray
    strays: tuple[Counter[int], Counter[int]]

    def __add__(self, other: _Joint) -> _Joint:
        strays = tuple(a + b for a, b in zip(self.strays, other.strays, strict=True))
        return _Joint(self.counts + other.counts, (strays[0], strays[1]))


def contingency(
    truth: Volume,
    prediction: Volume,
    schema: LabelSchema,
    protocol: Protocol = Protocol.LABELLED,
    block: Triple = BLOCK,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> ContingencyTable:
    """Count true against predicted classes over two label volumes, block by block.

    Args:
        truth: class ids, 255 where unlabelled.
        prediction: class ids, 255 where nothing was predicted.
        schema: the classes of both.
        protocol: which voxels count.
        block: voxels read at once, (z, y, x); memory grows with it and with `workers` only.
        workers: threads that read and count.
        progress: told how many blocks are done, and of how many.

    Raises:
        ShapeError, VoxelSizeError: if the two volumes do not lie on one grid.
        SchemaError: for ids that are no class, with their counts, and for a protocol that the schema
            cannot serve.
        InputError: for volumes that are no labels, or hold no voxel to score.
    """
    _check_grids(truth, prediction)
    _check_protocol(schema, protocol)
    grid = Grid(truth.shape, block)
    none: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    joint = _Joint(np.zeros((256, 256), np.int64), none)
    for done, part in enumerate(_parts(truth, prediction, grid, workers), start=1):
        joint += part
        if progress is not None:
            progress(done, len(grid))
    _check_ids(joint, (truth, prediction), schema)
    table = _table(joint.counts, schema, protocol)
    if table.voxels == 0:
        what = "labelled voxel" if protocol is Protocol.LABELLED else "voxel inside a labelled cell"
        raise InputError(f"{truth.name}: there is no {what} to score; give an annotated volume")
    return table


# ---- counting --------------------------------------------------------------------------------


def _parts(truth: Volume, prediction: Volume, grid: Grid, workers: int) -> Iterator[_Joint]:
    def count(box: Box) -> _Joint:
        return _count(truth.read(box), prediction.read(box))

    if workers <= 1:
        yield from map(count, grid)
        return
    boxes = iter(grid)
    with ThreadPoolExecutor(workers) as pool:  # a window: counts of a block are half a megabyte
        waiting = deque(pool.submit(count, box) for box in islice(boxes, 2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(count, box) for box in islice(boxes, 1))


def _count(truth: np.ndarray, prediction: np.ndarray) -> _Joint:
    """The joint histogram of two arrays of ids (Z, Y, X)."""
    true_ids, true_strays = _as_ids(truth)
    predicted_ids, predicted_strays = _as_ids(prediction)
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, true_ids.size, _RUN):
        run = slice(start, start + _RUN)
        codes = true_ids[run].astype(np.uint16) << 8 | predicted_ids[run]
        counts += np.bincount(codes, minlength=1 << 16)
    return _Joint(counts.reshape(256, 256), (true_strays, predicted_strays))


def _as_ids(labels: np.ndarray) -> tuple[np.ndarray, Counter[int]]:
    """Flat uint8 ids, and the counts of values that are none (they become 255, to be refused later)."""
    flat = labels.reshape(-1)
    if flat.dtype == np.uint8:
        return flat, Counter()
    wrong = (flat < 0) | (flat > UNLABELLED)
    values, counts = np.unique(flat[wrong], return_counts=True)
    strays = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return np.where(wrong, UNLABELLED, flat).astype(np.uint8), strays


def _table(joint: np.ndarray, schema: LabelSchema, protocol: Protocol) -> ContingencyTable:
    counts = joint[np.ix_(schema.ids, (*schema.ids, UNLABELLED))].copy()
    if protocol is Protocol.CELLS:
        counts[schema.ids.index(_background(schema))] = 0
    return ContingencyTable(counts, schema, protocol, left_out=int(joint.sum() - counts.sum()))


# ---- checks ----------------------------------------------------------------------------------


def _background(schema: LabelSchema) -> int:
    if schema.background_id is None:
        raise SchemaError(
            "protocol cells: expected a schema with a background class, found none among "
            f"{', '.join(schema.names)}; mark one with background = true or use the protocol labelled"
        )
    return schema.background_id


def _check_protocol(schema: LabelSchema, protocol: Protocol) -> None:
    if protocol is not Protocol.CELLS:
        return
    _background(schema)
    if not schema.organelle_ids:
        raise SchemaError(
            "protocol cells: it scores organelles, but no class of the schema is one (found "
            f"{', '.join(schema.names)}); mark them with organelle = true or use the protocol labelled"
        )


def _check_grids(truth: Volume, prediction: Volume) -> None:
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


def _check_ids(joint: _Joint, volumes: tuple[Volume, Volume], schema: LabelSchema) -> None:
    """Refuse ids that are no class, in either volume, wherever they lie."""
    for axis, what in ((0, "annotation"), (1, "prediction")):
        per_id = joint.counts.sum(axis=1 - axis)
        found = Counter({i: int(per_id[i]) for i in _unknown(schema) if per_id[i]}) + joint.strays[axis]
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
