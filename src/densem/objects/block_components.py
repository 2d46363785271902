"""Block components: connected voxels of one class within a block, numbered from 1, and facts of them.

Beside the things of a level two more kinds are labelled where holes are filled: FREE voxels, which belong to
nothing on this level, and CLOSED ones, which are unlabelled and so never become part of an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import zarr

from densem.blocks import Box, Grid, Triple, triple
from densem.objects.nesting import Level
from densem.objects.scratch import Scratch
from densem.schema import UNLABELLED
from densem.volumes import shards
from densem.volumes.shared import Shared

FREE, CLOSED = 254, 255


def kinds(classes: np.ndarray, level: Level) -> np.ndarray:
    """What each voxel is on a level: uint8 (Z, Y, X), 1 + position of its thing class, FREE, CLOSED or 0."""
    table = level.thing_of_id.copy()
    if level.fills:
        table[table == 0] = FREE
        table[UNLABELLED] = CLOSED
    return table[classes]


def connectivity_of(kind: int, level: Level) -> int:
    """6 or 26; holes and unlabelled voxels are joined by faces."""
    return 6 if kind >= FREE else level.rules[kind - 1].connectivity


def connected(kind: np.ndarray, level: Level) -> tuple[np.ndarray, int]:
    """Label connected voxels of equal kind.

    Args:
        kind: uint8 (Z, Y, X), 0 where nothing is labelled.
        level: says how the voxels of a class are joined.

    Returns:
        uint32 (Z, Y, X) from 1, and how many there are.
    """
    labels, total = np.zeros(kind.shape, np.uint32), 0
    present = [int(k) for k in np.flatnonzero(np.bincount(kind.reshape(-1), minlength=256)) if k]
    for way in (6, 26):
        chosen = np.zeros(256, np.uint8)
        wanted = [k for k in present if connectivity_of(k, level) == way]
        if not wanted:
            continue
        chosen[wanted] = wanted
        found, count = cc3d.connected_components(
            chosen[kind], connectivity=way, return_N=True, out_dtype=np.uint32
        )
        found = np.ascontiguousarray(found)
        np.add(found, np.uint32(total), out=labels, where=found > 0)
        total += int(count)
    return labels, total


def first_places(labels: np.ndarray, count: int) -> np.ndarray:
    """Of labels 0 to `count`, the flat place of the first voxel in C order, int64; of label 0 it is -1."""
    flat = labels.reshape(-1)
    places = np.flatnonzero(flat)[::-1]
    first = np.full(count + 1, -1, np.int64)
    first[flat[places]] = places  # of several the last one given stays: the first in C order
    return first


def extents(labels: np.ndarray, count: int) -> np.ndarray:
    """Boxes of labels 1 to `count`, int64 (count, 2, 3): start and stop; labels may not be missing."""
    found = cc3d.statistics(labels, no_slice_conversion=True)["bounding_boxes"][1 : count + 1]
    boxes = found.astype(np.int64).reshape(-1, 3, 2).transpose(0, 2, 1)
    boxes[:, 1] += 1
    return boxes


@dataclass(frozen=True)
class LabelTask:
    """Labels one block and notes its components. Can be sent to other machines."""

    scratch: Scratch
    classes: Shared
    level: Level

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the block; gives how many voxels each class id has, and the digest of what was written."""
        volume = self.classes.get()
        block = volume.read(box)
        kind = kinds(block, self.level)
        labels, count = connected(kind, self.level)
        first = first_places(labels, count)[1:]
        place = np.stack(np.unravel_index(first, box.shape), axis=1) + np.array(box.start)
        self.scratch.save(
            f"components/{index}",
            kind=kind.reshape(-1)[first],
            count=np.bincount(labels.reshape(-1), minlength=count + 1)[1:].astype(np.int64),
            first=np.ravel_multi_index(tuple(place.T), volume.shape).astype(np.int64),
            box=extents(labels, count) + np.array(box.start),
            touching=touching(labels, kind),
        )
        array = zarr.open_group(self.scratch.labels, mode="r+")["s0"]
        assert isinstance(array, zarr.Array)
        digest = shards.write_verified(array, box, labels)
        seen = np.bincount(block.reshape(-1), minlength=256)
        return {"digest": digest, "classes": {str(i): int(seen[i]) for i in np.flatnonzero(seen)}}

    def holds(self, grid: Grid, record: dict[str, Any]) -> bool:
        """Whether the disk holds what a record says."""
        if not self.scratch.path(f"components/{record['block']}").is_file():
            return False
        array = zarr.open_group(self.scratch.labels, mode="r")["s0"]
        assert isinstance(array, zarr.Array)
        return shards.digest(array, grid.box(record["block"])) == record["digest"]


def touching(labels: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Pairs of labels that meet at a face, one of which is FREE: int64 (N, 2), the free one first."""
    found = [np.zeros((0, 2), np.int64)]
    if not (kind == FREE).any():
        return found[0]
    for axis in range(3):
        near = [slice(None)] * 3
        far = [slice(None)] * 3
        near[axis], far[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(near), tuple(far)
        found.append(free_pairs(labels[a], labels[b], kind[a], kind[b]))
    return np.unique(np.concatenate(found), axis=0)


def free_pairs(a: np.ndarray, b: np.ndarray, kind_a: np.ndarray, kind_b: np.ndarray) -> np.ndarray:
    """Where a FREE voxel faces one of another kind: unique pairs of labels, the free one first."""
    ahead, behind = (kind_a == FREE) & (kind_b != FREE), (kind_b == FREE) & (kind_a != FREE)
    pairs = [np.stack([a[ahead], b[ahead]], axis=1), np.stack([b[behind], a[behind]], axis=1)]
    return np.unique(np.concatenate(pairs).astype(np.int64), axis=0)


def scratch_layout(block: Triple) -> tuple[Triple, Triple]:
    """Chunk and shard of the block components: a shard is a block, a chunk an even part of it."""
    return triple(_part(s, most) for s, most in zip(block, (16, 128, 128), strict=True)), block


def _part(side: int, most: int) -> int:
    """The largest even part of a side that is at most `most`; the whole side where all such are tiny."""
    found = next(side // k for k in range(1, side + 1) if side % k == 0 and side // k <= most)
    return found if 4 * found >= min(side, most) else side
