"""Block task: labels one block tile by tile, writes it and reads it back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from densem.blocks import Box, Progress, Stopped
from densem.blocks.worker import Rest
from densem.inference import fusion
from densem.inference.labeller import Labeller, place
from densem.inference.machine import Memory
from densem.inference.outputs import FILL, Outputs, count_labels
from densem.inference.region import Region
from densem.networks.hardware import keep_memory


class Flag(Protocol):
    """Says whether the run is being stopped."""

    def is_set(self) -> bool:
        """Whether it is."""


@dataclass
class VoxelCounter:
    """Voxels done, told after every tile; notices that the run is being stopped."""

    on_progress: Progress | None
    stop: Flag
    total: int
    done: int = 0
    settled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, voxels: int) -> None:
        """So many voxels more are done.

        Raises:
            Stopped: if the run is being stopped.
        """
        if self.stop.is_set():
            raise Stopped("stopped")
        with self.lock:
            self.done += voxels
            if self.on_progress is not None:
                self.on_progress(min(self.done, self.total), self.total)

    def take_back(self, voxels: int) -> None:
        """The block they were in failed."""
        with self.lock:
            self.done -= voxels


@dataclass(frozen=True)
class BlockTask:
    """Does one block: every tile of it, then writes and verifies."""

    labeller: Labeller
    outputs: Outputs
    counter: VoxelCounter
    region: Region
    workers: int = 1

    def __call__(self, index: int, box: Box) -> Rest:
        """Compute it; the rest is to write it and read it back.

        What the rest returns is the digests of its shards and how many voxels each class has. A block without
        a wanted voxel is not written: what has no file is unlabelled.
        """
        if self.region.misses(box):
            self.counter.add(box.size)
            return partial(self._left_out, box)
        arrays = {n: self._unlabelled(n, box) for n in self.outputs.names}
        wanted = self.region.wanted(box)
        n = len(self.outputs.schema)
        made: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "classes": lambda p: fusion.classes(p[:n], self.outputs.schema.ids),
            "confidence": lambda p: fusion.confidence(p[:n]),
            "entropy": lambda p: fusion.entropy(p[:n]),
            "probabilities": lambda p: p[:n],
            "affinities": lambda p: fusion.in_255ths(p[n:]),
        }
        done = 0
        try:
            for piece, p in self.labeller.pieces(self._cores(box, wanted)):
                self._keep_memory()
                with torch.inference_mode():
                    for name, array in arrays.items():
                        place(array, box, piece, made[name](p).cpu().numpy())
                self.counter.add(piece.size)
                done += piece.size
            self.counter.add(box.size - done)
            done = box.size
        except BaseException:
            self.counter.take_back(done)
            raise
        if not wanted.all():
            for name, array in arrays.items():
                array[..., ~wanted] = FILL.get(name, 0)
        return partial(self._write, box, arrays)

    def _cores(self, box: Box, wanted: np.ndarray) -> list[Box]:
        """The tiles of a block with a voxel that is wanted."""
        cores = self.labeller.tiling.cores(box)
        return [c for c in cores if wanted[c.clip(box).relative_to(box).slices].any()]

    def _write(self, box: Box, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        try:
            digests = self.outputs.write(box, arrays)
        except BaseException:
            self.counter.take_back(box.size)
            raise
        return {"digests": digests, "counts": count_labels([arrays["classes"]])}

    def _left_out(self, box: Box) -> dict[str, Any]:
        return {"digests": self.outputs.leave_out(box), "counts": {str(FILL["classes"]): box.size}}

    def _keep_memory(self) -> None:
        """After the first tile of all: from now on the memory of a tile is kept for the next."""
        if not self.counter.settled and self.labeller.fusion.runtime.device == "cpu":
            self.counter.settled = True
            keep_memory(self.workers, free=Memory.look().free)

    def _unlabelled(self, name: str, box: Box) -> np.ndarray:
        shape = (*self.outputs.lead(name), *box.shape)
        return np.full(shape, FILL.get(name, 0), self.outputs.dtype(name))
