"""Contingency tables: how often each true class met each predicted class, in one blockwise pass.

Rows are the true classes, columns the predicted ones, both in channel order; one more column counts
voxels for which nothing was predicted (255), which are wrong whatever the truth. Voxels whose truth
is unlabelled (255) are left out. Every score of `voxels.py` follows from this table alone.

The counts are whole numbers added up (`counting.py`), so that block size and order cannot matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from densem.blocks import Grid, Triple, triple
from densem.errors import ConfigError, InputError, SchemaError, nearest
from densem.evaluation.counting import counts_of_cells
from densem.evaluation.passes import BLOCK, ThreadPasses
from densem.schema import LabelSchema
from densem.volumes import Volume


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
    check_protocol(schema, protocol)
    whole = Grid(truth.shape, triple(max(1, side) for side in truth.shape))
    counts = np.zeros((len(schema), len(schema) + 1), np.int64)
    for _, part in counts_of_cells(truth, prediction, schema, whole, block, ThreadPasses(workers), progress):
        counts += part
    counts = scored_counts(counts, schema, protocol)
    table = ContingencyTable(counts, schema, protocol, left_out=truth.box.size - int(counts.sum()))
    check_scored(table.voxels, truth, protocol)
    return table


def scored_counts(counts: np.ndarray, schema: LabelSchema, protocol: Protocol) -> np.ndarray:
    """The counts (..., C, C + 1) without the rows that a protocol does not score."""
    scored = counts.copy()
    if protocol is Protocol.CELLS:
        scored[..., schema.ids.index(_background(schema)), :] = 0
    return scored


# ---- checks ----------------------------------------------------------------------------------


def check_scored(voxels: int, truth: Volume, protocol: Protocol) -> None:
    """Refuse an annotation of which nothing is scored.

    Raises:
        InputError: naming the annotation.
    """
    if voxels == 0:
        what = "labelled voxel" if protocol is Protocol.LABELLED else "voxel inside a labelled cell"
        raise InputError(f"{truth.name}: there is no {what} to score; give an annotated volume")


def check_protocol(schema: LabelSchema, protocol: Protocol) -> None:
    """Refuse a protocol that a schema cannot serve.

    Raises:
        SchemaError: saying what the schema lacks.
    """
    if protocol is not Protocol.CELLS:
        return
    _background(schema)
    if not schema.organelle_ids:
        raise SchemaError(
            "protocol cells: it scores organelles, but no class of the schema is one (found "
            f"{', '.join(schema.names)}); mark them with organelle = true or use the protocol labelled"
        )


def _background(schema: LabelSchema) -> int:
    if schema.background_id is None:
        raise SchemaError(
            "protocol cells: expected a schema with a background class, found none among "
            f"{', '.join(schema.names)}; mark one with background = true or use the protocol labelled"
        )
    return schema.background_id
