"""Footprint: what the volumes of a prediction take on disk, counted before one of them is written.

1. A level of a pyramid is a zarr array: one file for each shard, and its metadata.
2. A shard holds its chunks that meet the volume, whole; each costs at most its voxels and a few bytes.
3. A folder lies over every row of shards (`s0/c/z/y/x`), one over all levels, one over an output.

Shards that hold nothing but zeros are never written, so numbers of files are upper bounds too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from densem.blocks import Grid, Triple
from densem.volumes import Layout
from densem.volumes.pyramid import coarser_levels
from densem.volumes.volume import Nanometres

CHUNK_EXTRA = 32
"""Bytes of a chunk beside its voxels at the most: the header of its compression, its place in the index."""
SHARD_EXTRA = 4
METADATA = 64_000
"""Bytes allowed for the metadata of an output."""


@dataclass(frozen=True)
class Level:
    """One array of a volume.

    Attributes:
        shape: in voxels, (z, y, x).
        layout: its chunks and shards.
        voxel_bytes: of one voxel of one channel.
        channels: more than 0 where the array has a first axis of channels.
    """

    shape: Triple
    layout: Layout
    voxel_bytes: int = 1
    channels: int = 0

    @property
    def shards(self) -> int:
        """Files with voxels."""
        return len(Grid(self.shape, self.layout.shard)) * max(1, self.channels)

    @property
    def folders(self) -> int:
        """The array's own, `c`, and one for every beginning of a shard's place."""
        counts = Grid(self.shape, self.layout.shard).counts
        leading = ([self.channels] if self.channels else []) + list(counts[:2])
        return 2 + sum(itertools.accumulate(leading, lambda a, b: a * b))

    @property
    def largest(self) -> int:
        """Bytes on disk at the most."""
        chunks = len(Grid(self.shape, self.layout.chunk)) * max(1, self.channels)
        in_shard = math.prod(s // c for s, c in zip(self.layout.shard, self.layout.chunk, strict=True))
        index = self.shards * (in_shard * CHUNK_EXTRA + SHARD_EXTRA)
        return chunks * math.prod(self.layout.chunk) * self.voxel_bytes + index

    @property
    def raw(self) -> int:
        """Bytes of the voxels alone."""
        return math.prod(self.shape) * max(1, self.channels) * self.voxel_bytes


@dataclass(frozen=True)
class Footprint:
    """What one or several outputs take.

    Attributes:
        largest: bytes at the most.
        raw: bytes of all voxels of all levels, not compressed.
        files: at the most.
        folders: at the most.
    """

    largest: int = 0
    raw: int = 0
    files: int = 0
    folders: int = 0

    @classmethod
    def of(cls, levels: Sequence[Level]) -> Footprint:
        """Of an output with these levels."""
        return cls(
            sum(level.largest for level in levels) + METADATA,
            sum(level.raw for level in levels),
            sum(level.shards + 1 for level in levels) + 1,
            sum(level.folders for level in levels) + 1,
        )

    @classmethod
    def total(cls, parts: Iterable[Footprint]) -> Footprint:
        """Of several together."""
        rows = [(p.largest, p.raw, p.files, p.folders) for p in parts]
        return cls(*(sum(column) for column in zip(*rows, strict=True))) if rows else cls()

    @property
    def inodes(self) -> int:
        """Files and folders."""
        return self.files + self.folders


def levels_of(
    name: str, shape: Triple, layout: Layout, voxel_size_nm: Nanometres, channels: int
) -> list[Level]:
    """The levels of an output, finest first.

    Args:
        name: `classes`, `confidence`, `entropy`; `probabilities` or `affinities`, without coarser levels.
        shape: of the volume, in voxels.
        layout: of level 0.
        voxel_size_nm: of level 0.
        channels: of those without coarser levels.
    """
    if name in ("probabilities", "affinities"):
        return [Level(shape, layout, 4 if name == "probabilities" else 1, channels)]
    coarser = (Level(c.shape, Layout.fitting(c.shape)) for c in coarser_levels(shape, voxel_size_nm))
    return [Level(shape, layout), *coarser]
