"""Shards: the files on disk that hold a box of an array.

Zarr writes a shard under another name and renames it; when its bytes reach the disk it leaves to the system.
A machine that goes down soon after loses them, and a shard that is gone reads as the fill value.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Set
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import LocalStore

from densem.blocks import Box, Grid
from densem.errors import IntegrityError


def files(array: zarr.Array, box: Box) -> list[Path]:
    """Where the shards of a box (z, y, x) lie, of all channels; one of fill values alone has no file."""
    sides = (array.shards or array.chunks)[-3:]
    spans = (range(a // s, -(-b // s)) for a, b, s in zip(box.start, box.stop, sides, strict=True))
    lead = map(range, array.shape[:-3])  # shards and chunks are one channel deep
    keys = (array.metadata.encode_chunk_key(at) for at in itertools.product(*lead, *spans))
    return [_folder(array) / key for key in keys]


def read(array: zarr.Array, box: Box) -> np.ndarray | None:
    """The voxels of a box, of all channels; None where a shard is damaged.

    Raises:
        OSError: if the disk cannot be read.
    """
    try:
        return np.asarray(array[(..., *box.slices)])
    except (OSError, MemoryError):
        raise
    except Exception:  # a checksum, an index or a codec, each with errors of its own
        return None


def write(array: zarr.Array, box: Box, block: np.ndarray) -> None:
    """Write a box of whole shards. What was there and is something else goes first: zarr would read it."""
    if any(path.exists() for path in files(array, box)):
        found = read(array, box)
        if found is None or not np.array_equal(found, block):
            remove(array, box)
    array[(..., *box.slices)] = block


def write_verified(array: zarr.Array, box: Box, block: np.ndarray) -> str:
    """Write a box of whole shards and read it back; on return it is on disk. Gives its digest.

    Raises:
        IntegrityError: if the disk gives back something else.
    """
    write(array, box, block)
    written = digest_of(block)
    if digest(array, box) != written:
        raise IntegrityError(
            f"{_folder(array)}: the block {box} read back differs from what was written; check the disk"
        )
    sync(array, box)
    return written


def digest(array: zarr.Array, box: Box) -> str | None:
    """Of the voxels of a box, of all channels; None where a shard is damaged."""
    block = read(array, box)
    return None if block is None else digest_of(block)


def digest_of(block: np.ndarray) -> str:
    """16 hex digits of the voxels of a block."""
    return hashlib.blake2b(np.ascontiguousarray(block).data, digest_size=8).hexdigest()


def sweep(array: zarr.Array, blocks: Grid, done: Set[int]) -> None:
    """Remove the half-written files that killed writers left of the blocks that are not done.

    Args:
        array: of (..., z, y, x).
        blocks: of whole shards, over the array.
        done: numbers of the finished ones, whose files are left alone.
    """
    sides = (array.shards or array.chunks)[-3:]
    _, ny, nx = blocks.counts
    for path in _folder(array).rglob("*.partial"):
        try:
            shard = [int(part.partition(".")[0]) for part in path.parts[-3:]]
        except ValueError:  # of the metadata
            continue
        z, y, x = (n * s // c for n, s, c in zip(shard, sides, blocks.cell, strict=True))
        if (z * ny + y) * nx + x not in done:
            path.unlink(missing_ok=True)


def sync(array: zarr.Array, box: Box) -> None:
    """Return when the shards of a box are on disk, with their names."""
    there = [path for path in files(array, box) if path.exists()]
    for path in there:
        with path.open("r+b") as handle:
            os.fsync(handle.fileno())
    top = _folder(array)
    for folder in {f for path in there for f in path.parents if f == top or top in f.parents}:
        _sync_folder(folder)


def remove(array: zarr.Array, box: Box) -> None:
    """Remove the shards of a box, which then holds fill values."""
    for path in files(array, box):
        path.unlink(missing_ok=True)


def _folder(array: zarr.Array) -> Path:
    store = array.store
    assert isinstance(store, LocalStore)
    return Path(store.root) / array.path


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems sync no folders
            raise
    finally:
        os.close(handle)
