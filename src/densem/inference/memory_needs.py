"""Memory needs: what one worker of a prediction holds at most, part by part.

    worker = process with the networks + one window + the arrays of one block

The first two are measured; threads of one process share the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from densem.blocks import Grid, Triple, triple
from densem.inference.measurement import Measurement
from densem.inference.prepared import Prepared

RULE = 8
"""Bytes of a block's voxel (and as many for each class of probabilities) that `predict` reckons with."""
SHARE = 0.8
"""Of the free memory, that `predict` lets a block take."""


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes of one worker.

    Attributes:
        process_bytes: a process with the networks.
        window_bytes: what is added while a window is labelled.
        block_bytes: the image of a block with its context, its outputs, and the copies made in writing.
        card_bytes: on a graphics card.
    """

    process_bytes: int
    window_bytes: int
    block_bytes: int
    card_bytes: int = 0

    @classmethod
    def of(cls, prepared: Prepared, measured: Measurement) -> MemoryNeeds:
        """From what was measured and the size of a block."""
        others = len(prepared.ensemble.members) - len(measured.timed)
        networks = others * 4 * sum(p.numel() for p in prepared.ensemble.members[0].network.parameters())
        fused = _fused(prepared) if measured.passes > 1 else 0
        window = max(0, measured.peak_bytes - measured.process_bytes)
        blocks = Blocks.of(prepared)
        return cls(
            measured.process_bytes + networks,
            window + fused,
            blocks.size(prepared.blocks.box(0).shape),
            measured.card_bytes,
        )

    @property
    def worker(self) -> int:
        """Of one worker in a process of its own."""
        return self.together(1)

    def together(self, workers: int) -> int:
        """Of several workers in one process."""
        return self.process_bytes + workers * (self.window_bytes + self.block_bytes)


@dataclass(frozen=True)
class Blocks:
    """How much memory blocks of any shape take.

    Attributes:
        shape: of the volume.
        shard: blocks are whole shards.
        context: read around a block.
        voxel_bytes: of the image.
        outputs: bytes a voxel of all outputs but the probabilities.
        channels: classes of which probabilities are written; 0 where they are not.
        pairs: offsets of which affinities are written; 0 where they are not.
    """

    shape: Triple
    shard: Triple
    context: Triple
    voxel_bytes: int
    outputs: int
    channels: int
    pairs: int = 0

    @classmethod
    def of(cls, prepared: Prepared) -> Blocks:
        """Of a prediction."""
        names, volume = prepared.outputs.names, prepared.labeller.volume
        channels = prepared.outputs.channels("probabilities")
        pairs = prepared.outputs.channels("affinities")
        return cls(
            volume.shape,
            prepared.outputs.layout.shard,
            prepared.labeller.tiling.context,
            volume.dtype.itemsize,
            len(names) - bool(channels) - bool(pairs) + pairs,
            channels,
            pairs,
        )

    def size(self, block: Triple) -> int:
        """Bytes for a block of this shape, no less than what `predict` reckons with."""
        reach = math.prod(min(b + 2 * c, n) for b, c, n in zip(block, self.context, self.shape, strict=True))
        largest = max(4 * self.channels, self.pairs, 1)
        counted = reach * self.voxel_bytes + math.prod(block) * (
            self.outputs + 4 * self.channels + 2 * largest
        )
        return max(counted, math.prod(block) * (RULE * (1 + self.channels) + 2 * self.pairs))

    def largest_within(self, block: Triple, room: float) -> Triple | None:
        """The block of most voxels, on no side longer than this one, that takes at most `room` bytes."""
        return largest_block(Grid(self.shape, self.shard), block, lambda b: self.size(b) <= room)


def largest_block(shards: Grid, most: Triple, fits: Callable[[Triple], bool]) -> Triple | None:
    """The block of whole shards with most voxels that fits; None where not even one shard does.

    Args:
        shards: of the volume.
        most: longest sides.
        fits: whether a block of a shape fits; if one does, so do smaller ones.
    """
    counts = Grid(triple(min(b, n) for b, n in zip(most, shards.shape, strict=True)), shards.cell).counts
    best: tuple[int, int, Triple] | None = None
    for z in range(1, counts[0] + 1):
        for y in range(1, counts[1] + 1):
            x = _longest(shards, (z, y), counts[2], fits)
            if x:
                sides = _sides(shards, (z, y, x))
                found = triple(n * s for n, s in zip((z, y, x), shards.cell, strict=True))
                best = max(best or (0, 0, found), (math.prod(sides), -max(sides), found))
    return None if best is None else best[2]


def _longest(shards: Grid, start: tuple[int, int], most: int, fits: Callable[[Triple], bool]) -> int:
    """How many shards along x fit, by bisection."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(_sides(shards, (*start, middle))) else (low, middle - 1)
    return low


def _sides(shards: Grid, counts: Triple) -> Triple:
    """Shape of a block of so many shards, within the volume."""
    return triple(min(c * s, n) for c, s, n in zip(counts, shards.cell, shards.shape, strict=True))


def _fused(prepared: Prepared) -> int:
    """Probabilities of a core while several passes are added up."""
    channels = len(prepared.outputs.schema) + len(prepared.labeller.fusion.offsets)
    return 2 * 4 * channels * math.prod(prepared.labeller.tiling.core)
