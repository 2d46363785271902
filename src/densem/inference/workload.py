"""Workload: what there is to do in a prediction, and how long it takes at measured rates.

computing = voxels * overhead * seconds of a window / voxels of a window
reading   = voxels * overhead of the blocks * seconds of a voxel
writing   = voxels * seconds of a voxel, over all outputs
at the end, as if one worker did it: the coarser levels (and labels brought back from the model's voxel size)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from densem.blocks import Grid
from densem.inference.measurement import Measurement
from densem.inference.tiles import Tiling


@dataclass(frozen=True)
class Workload:
    """What there is to do.

    Attributes:
        tiling: what the network is run on.
        blocks: what one task does.
        left: share of the voxels that are not done yet.
        blocks_left: blocks not done yet.
    """

    tiling: Tiling
    blocks: Grid
    left: float = 1.0
    blocks_left: int = 0

    @property
    def voxels(self) -> int:
        """Of the volume."""
        return math.prod(self.blocks.shape)

    @property
    def read_overhead(self) -> float:
        """Voxels read for each voxel of the volume; a block is read with the context around it."""
        tiling = self.tiling
        return Tiling(tiling.shape, self.blocks.cell, tiling.context, tiling.multiple).overhead

    @property
    def windows_of_a_block(self) -> int:
        """Of the largest one."""
        block = self.blocks.box(0).shape
        return math.prod(-(-b // c) for b, c in zip(block, self.tiling.core, strict=True))


@dataclass(frozen=True)
class Times:
    """How long it takes, in seconds; all but `end` and `block` are summed over all workers.

    Attributes:
        computing: running networks.
        reading: the image.
        writing: compressing the outputs, reading them back and comparing.
        end: what is left after the last block, as if one worker did it; levels are shared by all of them.
        block: one block of the largest kind, on one worker.
        blocks: how many there are to do.
    """

    computing: float
    reading: float
    writing: float
    end: float
    block: float
    blocks: int

    @property
    def work(self) -> float:
        """Of all workers together, in blocks."""
        return self.computing + self.reading + self.writing

    def wall(self, workers: int) -> float:
        """From the first block to the end, with so many workers as fast as the measured one."""
        if self.blocks == 0:
            return self.end
        return self.work * math.ceil(self.blocks / workers) / self.blocks + self.end


def times(workload: Workload, measured: Measurement, read_seconds: float, end_more: float = 0.0) -> Times:
    """Scale what was measured.

    Args:
        workload: what there is to do.
        measured: one window.
        read_seconds: of a voxel of the image.
        end_more: seconds of the end beside the pyramids.
    """
    voxels, left = workload.voxels, workload.left
    writing = sum(measured.write_seconds.values())
    size = workload.blocks.box(0).size
    of_a_block = (
        workload.windows_of_a_block * measured.window_seconds
        + size * workload.read_overhead * read_seconds
        + size * writing
    )
    return Times(
        computing=left * voxels * workload.tiling.overhead * measured.window_seconds / measured.window_voxels,
        reading=left * voxels * workload.read_overhead * read_seconds,
        writing=left * voxels * writing,
        end=voxels * sum(measured.pyramid_seconds.values()) + end_more,
        block=of_a_block,
        blocks=workload.blocks_left,
    )
