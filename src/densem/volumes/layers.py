"""Layers: level 0 of a volume, written layer by layer, each a task that may be done by any process.

A layer is as deep as a shard and whole in y and x: no two layers meet in a file, every slice of the source is
read for one layer alone, and the hash of a slice, of which the volume's id is made, is known where it ends.
Within a layer voxels pass by in slabs, so that memory does not grow with the volume.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from densem.blocks import Box, Grid, Stopped, Triple, triple
from densem.errors import IntegrityError
from densem.volumes import shards
from densem.volumes.ome_zarr import Layout

SLAB_BYTES = 128 * 2**20

Read = Callable[[Box], tuple[np.ndarray, Any]]
"""Gives the voxels of a box, (Z, Y, X) in the type that is stored, and plain values to be noted of them."""


def slab_grid(shape: Triple, dtype: np.dtype, layout: Layout) -> Grid:
    """Boxes of whole shards over a volume, full in x, in y as long as they stay small."""
    deep, tall, _ = layout.shard
    row = deep * tall * shape[2] * dtype.itemsize
    height = tall * max(1, SLAB_BYTES // row)
    return Grid(shape, (deep, min(height, -(-shape[1] // tall) * tall), max(1, shape[2])))


def slabs(shape: Triple, dtype: np.dtype, layout: Layout) -> Iterator[Box]:
    """The slabs of a volume in C order."""
    yield from slab_grid(shape, dtype, layout)


def layer_grid(shape: Triple, layout: Layout) -> Grid:
    """The layers of a volume."""
    return Grid(shape, (layout.shard[0], max(1, shape[1]), max(1, shape[2])))


class SliceHashes:
    """SHA-256 of every slice of a layer while its slabs pass by, in C order, full in x."""

    def __init__(self, depth: int) -> None:
        self._open = [hashlib.sha256() for _ in range(depth)]

    def add(self, block: np.ndarray) -> None:
        """Take in the voxels of a slab, (Z, Y, X)."""
        for digest, plane in zip(self._open, block, strict=True):
            digest.update(np.ascontiguousarray(plane).data)

    def digests(self) -> list[bytes]:
        """Of all slices, once the last slab is taken in."""
        return [digest.digest() for digest in self._open]


@dataclass(frozen=True)
class LayerTask:
    """Writes one layer of level 0, slab by slab. Can be sent to other machines if its `read` can.

    Attributes:
        folder: of the volume, absolute; a task that finds it gone has been given up.
        read: gives the voxels of a slab.
        layout: chunks and shards.
        stop: in the process that gives the tasks out, set when no more is wanted.
    """

    folder: Path
    read: Read
    layout: Layout
    stop: threading.Event | None = None

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write a layer and read it back; gives the hashes of its slices and what was noted of its slabs.

        On return it is on disk.

        Raises:
            IntegrityError: if the disk gives back something else.
            Stopped: if the volume was given up.
        """
        self._check_wanted()
        array = zarr.open_group(self.folder, mode="r+")["s0"]
        assert isinstance(array, zarr.Array)
        hashes, notes = SliceHashes(box.shape[0]), []
        for slab in slab_grid(triple(array.shape), array.dtype, self.layout).within(box):
            block, note = self.read(slab)
            self._check_wanted()
            array[slab.slices] = block
            if not self._holds(array, slab, block):
                raise IntegrityError(
                    f"{self.folder}: the slab {slab} read back differs from what was written; check the disk"
                )
            shards.sync(array, slab)
            hashes.add(block)
            notes.append(note)
        return {"slices": [digest.hex() for digest in hashes.digests()], "notes": notes}

    def _check_wanted(self) -> None:
        if (self.stop and self.stop.is_set()) or not (self.folder / "zarr.json").is_file():
            raise Stopped(f"{self.folder}: given up")

    def _holds(self, array: zarr.Array, slab: Box, block: np.ndarray) -> bool:
        """Whether the disk gives back what was written, shard by shard."""
        return all(
            np.array_equal(np.asarray(array[shard.slices]), block[shard.relative_to(slab).slices])
            for shard in Grid(triple(array.shape), self.layout.shard).within(slab)
        )
