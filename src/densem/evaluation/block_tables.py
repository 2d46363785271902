"""Contingency tables of the blocks of a volume: what a bootstrap resamples, since voxels are no sample.

Neighbouring voxels are right or wrong together, so that a volume holds far fewer independent facts than
voxels. Blocks a few organelles wide are nearly independent of each other; they are anchored at the origin,
of one shape, and their tables sum to the table of the whole volume exactly.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Grid, Triple, triple
from densem.errors import ConfigError, FormatError, NotFoundError, SchemaError
from densem.evaluation.contingency import (
    ContingencyTable,
    Protocol,
    check_protocol,
    check_scored,
    scored_counts,
)
from densem.evaluation.counting import counts_of_cells
from densem.evaluation.passes import BLOCK, Passes, Progress, ThreadPasses
from densem.schema import LabelSchema
from densem.volumes import Volume
from densem.volumes.volume import Nanometres

SIDE_NM = 2000.0
"""Side of an evaluation block where the volume is large enough: several organelles wide."""

FEWEST, MOST = 12, 1000
"""Numbers of blocks between which the default side is adapted to the volume."""

_STEP = 0.8  # by which the side is adapted
_THINNEST = 8  # voxels; a block with shorter sides would not be larger than what is correlated


@dataclass(frozen=True, eq=False)
class BlockTables:
    """Counts of voxels by block, true class and predicted class.

    Attributes:
        counts: int64 (B, C, C + 1); blocks in C order of their grid; row: true channel, column: predicted
            channel, the last one: nothing predicted. Blocks without a scored voxel are there, all zero.
        schema: the classes.
        protocol: which voxels were counted.
        shape: of the volume, (z, y, x), in voxels.
        block: of a block, (z, y, x), in voxels; the last ones of an axis are clipped.
        voxel_size_nm: (z, y, x).
        truth_id: identity of the annotation, empty if unknown.
    """

    counts: np.ndarray
    schema: LabelSchema
    protocol: Protocol
    shape: Triple
    block: Triple
    voxel_size_nm: Nanometres
    truth_id: str = ""

    def __len__(self) -> int:
        """Number of blocks, empty ones included."""
        return len(self.counts)

    @property
    def scored(self) -> int:
        """Number of blocks that hold scored voxels."""
        return int((self.counts.sum(axis=(1, 2)) > 0).sum())

    def whole(self) -> ContingencyTable:
        """The table of the whole volume."""
        counts = self.counts.sum(axis=0)
        size = self.shape[0] * self.shape[1] * self.shape[2]
        return ContingencyTable(counts, self.schema, self.protocol, left_out=size - int(counts.sum()))

    # ---- in and out --------------------------------------------------------------------------

    def save(self, path: Path) -> Path:
        """Write as an .npz file, whole or not at all."""
        record = {
            "classes": self.schema.to_table(), "protocol": self.protocol.value, "shape": self.shape,
            "block": self.block, "voxel_size_nm": self.voxel_size_nm, "truth_id": self.truth_id,
        }  # fmt: skip
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as file:
            np.savez_compressed(file, counts=self.counts, record=np.array(json.dumps(record)))
        part.replace(path)
        return path

    @classmethod
    def load(cls, path: Path) -> BlockTables:
        """From what `save` wrote; nothing in the file is executed.

        Raises:
            NotFoundError: if it is not there.
            FormatError: if it is anything else, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                counts, record = data["counts"], json.loads(str(data["record"]))
            return cls._parse(counts, record, path)
        except FileNotFoundError:
            raise NotFoundError(f"{path}: no block tables there; evaluate again") from None
        except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                f"{path}: expected the block tables of an evaluation (.npz), but it cannot be read "
                f"({error}); evaluate again"
            ) from None

    @classmethod
    def _parse(cls, counts: np.ndarray, record: dict[str, Any], path: Path) -> BlockTables:
        schema = LabelSchema.from_table(record["classes"], str(path))
        shape, block = triple(record["shape"]), triple(record["block"])
        expected = (len(Grid(shape, block)), len(schema), len(schema) + 1)
        if counts.shape != expected or counts.dtype != np.int64 or counts.min(initial=0) < 0:
            raise FormatError(
                f"{path}: expected counts int64 {expected} of zero or more, found {counts.dtype} "
                f"{counts.shape}; evaluate again"
            )
        z, y, x = (float(v) for v in record["voxel_size_nm"])
        protocol = Protocol(record["protocol"])
        return cls(counts, schema, protocol, shape, block, (z, y, x), str(record["truth_id"]))


def block_tables(
    truth: Volume,
    prediction: Volume,
    schema: LabelSchema,
    protocol: Protocol = Protocol.LABELLED,
    side_nm: float | None = None,
    *,
    read: Triple = BLOCK,
    workers: int = 1,
    passes: Passes | None = None,
    progress: Progress | None = None,
) -> BlockTables:
    """Count true against predicted classes for every evaluation block, in one blockwise pass.

    Args:
        truth: class ids, 255 where unlabelled.
        prediction: class ids, 255 where nothing was predicted.
        schema: the classes of both.
        protocol: which voxels count.
        side_nm: side of a block; by default as `block_shape` finds it.
        read: voxels read at once, (z, y, x); memory grows with it and with `workers` only.
        workers: threads that read and count.
        passes: who does it instead of threads.
        progress: told how much is done, and of how much.

    Raises:
        ShapeError, VoxelSizeError: if the two volumes do not lie on one grid.
        SchemaError: for ids that are no class, with their counts, and for a protocol that the schema
            cannot serve.
        InputError: for volumes that are no labels, or hold no voxel to score.
        ConfigError: for a side that is not above zero.
    """
    check_protocol(schema, protocol)
    block = block_shape(truth.shape, truth.voxel_size_nm, side_nm)
    cells = Grid(truth.shape, block)
    counts = np.zeros((len(cells), len(schema), len(schema) + 1), np.int64)
    who = passes or ThreadPasses(workers)
    for number, part in counts_of_cells(truth, prediction, schema, cells, read, who, progress):
        counts[number] += part
    scored = scored_counts(counts, schema, protocol)
    check_scored(int(scored.sum()), truth, protocol)
    return BlockTables(scored, schema, protocol, truth.shape, block, truth.voxel_size_nm, truth.id)


def block_shape(shape: Triple, voxel_size_nm: Nanometres, side_nm: float | None = None) -> Triple:
    """The shape of the evaluation blocks of a volume, in voxels (z, y, x).

    Each axis is cut into as many equal parts as come nearest to the side. Without a side, 2 µm is taken:
    several organelles wide, and about the size of a small cell, beyond which errors have little in common.
    In a volume too small for that the side shrinks until there are at least 12 blocks, the fewest from
    which a spread can be estimated with some confidence (blocks are never thinner than 8 voxels on their
    own account, so that a very small volume has fewer); in a very large one it grows until there are at
    most 1000, which is as good as more.

    Args:
        shape: of the volume, (z, y, x), in voxels.
        voxel_size_nm: (z, y, x).
        side_nm: a side to be used as it is.

    Raises:
        ConfigError: for a side that is not above zero.
    """
    if side_nm is not None:
        if not (np.isfinite(side_nm) and side_nm > 0):
            raise ConfigError(f"side of an evaluation block: expected nm above zero, found {side_nm:g}")
        return _cut(shape, voxel_size_nm, side_nm)
    side = SIDE_NM
    while _blocks(shape, voxel_size_nm, side) > MOST:
        side /= _STEP
    while _blocks(shape, voxel_size_nm, side) < FEWEST and side * _STEP >= _THINNEST * min(voxel_size_nm):
        side *= _STEP
    return _cut(shape, voxel_size_nm, side)


def check_comparable(tables: BlockTables, others: BlockTables) -> None:
    """Refuse two tables that are not of one annotation, in the same blocks.

    Raises:
        SchemaError: if schema or protocol differ.
        FormatError: if blocks or annotations do.
    """
    if (tables.schema, tables.protocol) != (others.schema, others.protocol):
        raise SchemaError(
            "evaluations are compared only if schema and protocol agree: "
            f"found {', '.join(tables.schema.names)} ({tables.protocol}) and "
            f"{', '.join(others.schema.names)} ({others.protocol})"
        )
    if (tables.shape, tables.block) != (others.shape, others.block):
        raise FormatError(
            "evaluations are compared only on one volume in the same blocks: "
            f"found blocks of {tables.block} in {tables.shape} and of {others.block} in {others.shape} "
            "voxels (z, y, x); evaluate again with the same side"
        )
    if not np.array_equal(tables.counts.sum(axis=2), others.counts.sum(axis=2)):
        raise FormatError(
            "evaluations are compared only against the same annotation, but the true voxels of the blocks "
            "differ; evaluate again"
        )


def _cut(shape: Triple, voxel_size_nm: Nanometres, side: float) -> Triple:
    parts = (max(1, min(s, round(s * v / side))) for s, v in zip(shape, voxel_size_nm, strict=True))
    return triple(max(1, -(-s // n)) for s, n in zip(shape, parts, strict=True))


def _blocks(shape: Triple, voxel_size_nm: Nanometres, side: float) -> int:
    return len(Grid(shape, _cut(shape, voxel_size_nm, side)))
