"""Label index: where the classes of an annotation are, gathered in one pass over its blocks.

Holds the number of labelled voxels per class and, per class, a seeded sample of voxel positions
small enough to keep: patches are centred near them so that rare classes are met often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densem.blocks import Box, Grid, Triple
from densem.errors import SchemaError
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume

BLOCK: Triple = (16, 512, 512)
POSITIONS = 20_000


@dataclass(frozen=True)
class LabelIndex:
    """Counts and positions of the classes of one annotation.

    Attributes:
        counts: int64 (C,), labelled voxels per class channel.
        positions: per class channel int32 (n, 3), (z, y, x), n <= `POSITIONS`, drawn without bias.
    """

    counts: np.ndarray
    positions: tuple[np.ndarray, ...]

    @property
    def labelled(self) -> int:
        """Number of labelled voxels."""
        return int(self.counts.sum())

    @classmethod
    def scan(cls, labels: Volume, schema: LabelSchema, seed: int) -> LabelIndex:
        """Read the annotation once, block by block.

        Raises:
            SchemaError: if it holds ids that are no class of the schema.
        """
        counts = np.zeros(256, np.int64)
        kept = [_Reservoir() for _ in schema.ids]
        for number, box in enumerate(Grid(labels.shape, BLOCK)):
            ids = labels.read(box).astype(np.uint8, copy=False)
            here = np.bincount(ids.ravel(), minlength=256)
            counts += here
            rng = np.random.default_rng([seed, number])
            for channel, label in enumerate(schema.ids):
                if here[label]:
                    kept[channel].add(ids == label, box, rng)
        _refuse_unknown(counts, schema, labels.name)
        return cls(counts[list(schema.ids)], tuple(r.positions for r in kept))


class _Reservoir:
    """The `POSITIONS` positions with the smallest random keys seen so far: an unbiased sample."""

    def __init__(self) -> None:
        self.positions = np.zeros((0, 3), np.int32)
        self._keys = np.zeros(0, np.float32)

    def add(self, mask: np.ndarray, box: Box, rng: np.random.Generator) -> None:
        flat = np.flatnonzero(mask)
        keys = rng.random(len(flat), dtype=np.float32)
        if len(flat) > POSITIONS:
            nearest = np.argpartition(keys, POSITIONS)[:POSITIONS]
            flat, keys = flat[nearest], keys[nearest]
        places = np.stack(np.unravel_index(flat, mask.shape), axis=1) + np.array(box.start)
        self._keys = np.concatenate([self._keys, keys])
        self.positions = np.concatenate([self.positions, places.astype(np.int32)])
        order = np.argsort(self._keys, kind="stable")[:POSITIONS]
        self._keys, self.positions = self._keys[order], self.positions[order]


def _refuse_unknown(counts: np.ndarray, schema: LabelSchema, name: str) -> None:
    known = {*schema.ids, UNLABELLED}
    unknown = [f"{i} ({counts[i]:,} voxels)" for i in np.flatnonzero(counts) if i not in known]
    if unknown:
        raise SchemaError(
            f"labels {name}: expected ids {', '.join(map(str, schema.ids))} or {UNLABELLED} (unlabelled), "
            f"found {', '.join(unknown)}; correct the labels or the schema"
        )
