"""Seams: which components of neighbouring blocks are one, and the components of the whole volume.

1. on both sides of every face between blocks, voxels of equal kind that are neighbours make a pair
2. pairs of all blocks are joined (union-find): the components of one pass over the whole volume
3. components are numbered by their first voxel in C order, whatever the blocks were
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from densem.blocks import Box, Grid, Triple, triple
from densem.objects.block_components import FREE, connectivity_of, free_pairs
from densem.objects.nesting import Level
from densem.objects.scratch import Scratch

NEIGHBOURS = tuple(triple(d) for d in itertools.product((-1, 0, 1), repeat=3) if d > (0, 0, 0))
"""One of each pair of opposite neighbours, 13 of 26."""


@dataclass(frozen=True)
class Provisional:
    """The components of all blocks, numbered through: those of block b follow `offsets[b]`.

    Attributes:
        scratch: where the blocks lie.
        grid: the blocks.
    """

    scratch: Scratch
    grid: Grid

    def read(self, box: Box) -> np.ndarray:
        """Numbers of a box, int64 (Z, Y, X); 0 where there is no component."""
        out = np.empty(box.shape, np.int64)
        for piece, numbers in self.pieces(box):
            out[piece.relative_to(box).slices] = numbers
        return out

    def pieces(self, box: Box) -> Iterator[tuple[Box, np.ndarray]]:
        """The same block by block, so that what takes eight bytes a voxel is never larger than a block."""
        array = zarr.open_group(self.scratch.labels, mode="r")["s0"]
        assert isinstance(array, zarr.Array)
        offsets, (_, ny, nx) = self.scratch.array("offsets"), self.grid.counts
        for block in self.grid.within(box):
            z, y, x = (start // c for start, c in zip(block.start, self.grid.cell, strict=True))
            piece = block.clip(box)
            labels = np.asarray(array[piece.slices]).astype(np.int64)
            yield piece, np.where(labels > 0, labels + offsets[(z * ny + y) * nx + x], 0)


@dataclass(frozen=True)
class SeamTask:
    """Pairs across the low faces of one block. Can be sent to other machines."""

    provisional: Provisional
    level: Level

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the pairs of one block."""
        kind_of = self.provisional.scratch.array("kinds")
        same, free = [np.zeros((0, 2), np.int64)], [np.zeros((0, 2), np.int64)]
        for axis in range(3):
            if box.start[axis] == 0:
                continue
            thick = [1, 1, 1]
            thick[axis] = 0
            start, stop = list(box.start), list(box.stop)
            stop[axis] = start[axis] + 1
            start[axis] -= 1
            whole = Box.of_shape(self.provisional.grid.shape)
            slab = Box(triple(start), triple(stop)).grow(thick).clip(whole)
            numbers = self.provisional.read(slab)
            kinds = np.asarray(kind_of)[numbers]
            same.extend(self._same(numbers, kinds, axis))
            low, high = np.take(numbers, 0, axis), np.take(numbers, 1, axis)
            free.append(free_pairs(low, high, np.take(kinds, 0, axis), np.take(kinds, 1, axis)))
        self.provisional.scratch.save(
            f"seams/{index}",
            same=np.unique(np.concatenate(same), axis=0),
            free=np.unique(np.concatenate(free), axis=0),
        )
        return {}

    def _same(self, numbers: np.ndarray, kinds: np.ndarray, axis: int) -> Iterator[np.ndarray]:
        """Pairs of neighbours of equal kind across the middle of a slab two voxels thick."""
        joined = np.array([(k > 0 and k <= len(self.level.rules)) or k >= FREE for k in range(256)])
        corners = np.array([j and connectivity_of(k, self.level) == 26 for k, j in enumerate(joined)])
        for step in NEIGHBOURS:
            if step[axis] == 0:
                continue
            a, b = shifted(triple(numbers.shape), step)
            wanted = joined if sum(map(abs, step)) == 1 else corners
            near, far = kinds[a], kinds[b]
            meet = (near == far) & wanted[near]
            yield np.unique(np.stack([numbers[a][meet], numbers[b][meet]], axis=1), axis=0)


def shifted(shape: Triple, step: Triple) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where voxels p and p + step both lie inside an array: the slices of p, and of p + step."""
    low = tuple(slice(max(0, -d), max(0, min(n, n - d))) for d, n in zip(step, shape, strict=True))
    high = tuple(slice(max(0, d), max(0, min(n, n + d))) for d, n in zip(step, shape, strict=True))
    return low, high


@dataclass(frozen=True)
class Components:
    """The components of the whole volume, numbered from 1 by their first voxel in C order.

    Attributes:
        provisional: those of the blocks.
    """

    provisional: Provisional

    def read(self, box: Box) -> np.ndarray:
        """Numbers of a box, uint32 (Z, Y, X); 0 where there is no object."""
        out, component_of = np.empty(box.shape, np.uint32), self.provisional.scratch.array("component_of")
        for piece, numbers in self.provisional.pieces(box):
            out[piece.relative_to(box).slices] = component_of[numbers]
        return out


def number_blocks(provisional: Provisional) -> None:
    """Number the components of all blocks through: save `offsets` and `kinds`."""
    scratch, blocks = provisional.scratch, range(len(provisional.grid))
    kinds = [scratch.load(f"components/{b}")["kind"] for b in blocks]
    counts = np.array([len(k) for k in kinds], np.int64)
    scratch.save_array("offsets", np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64))
    scratch.save_array("kinds", np.concatenate([np.zeros(1, np.uint8), *kinds]).astype(np.uint8))


def join_blocks(provisional: Provisional, level: Level, voxel_nm3: float) -> int:
    """Join the components of the blocks, fill holes, and save `component_of` and `components`.

    Returns:
        How many components there are.
    """
    scratch, blocks = provisional.scratch, range(len(provisional.grid))
    parts = [scratch.load(f"components/{b}") for b in blocks]
    seams = [scratch.load(f"seams/{b}") for b in blocks]
    offsets = scratch.array("offsets")
    kind = np.array(scratch.array("kinds"))
    root = joined(np.concatenate([s["same"] for s in seams]), len(kind))
    table = _merged(root, kind, parts)
    if level.fills:
        touch = [p["touching"] + o for p, o in zip(parts, offsets, strict=True)]
        pairs = np.concatenate([*touch, *(s["free"] for s in seams)])
        table.fill(root[pairs], level, voxel_nm3, provisional.grid.shape)
    number = table.numbered(scratch)
    scratch.save_array("component_of", number[root].astype(np.uint32))
    return int(number.max(initial=0))


def joined(pairs: np.ndarray, count: int) -> np.ndarray:
    """Which of 0 to `count` - 1 hang together, directly or not: int64 (count,), a number for each group."""
    ones = np.ones(len(pairs), np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _merged(root: np.ndarray, kind: np.ndarray, parts: list[dict[str, np.ndarray]]) -> _Table:
    groups = int(root.max()) + 1
    of = root[1:]
    found = {key: np.concatenate([p[key] for p in parts]) for key in ("count", "first", "box")}
    count = np.zeros(groups, np.int64)
    np.add.at(count, of, found["count"])
    first = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(first, of, found["first"])
    box = np.zeros((groups, 2, 3), np.int64)
    box[:, 0] = np.iinfo(np.int64).max
    np.minimum.at(box[:, 0], of, found["box"][:, 0])
    np.maximum.at(box[:, 1], of, found["box"][:, 1])
    merged_kind = np.zeros(groups, np.uint8)
    merged_kind[root] = kind
    return _Table(merged_kind, count, first, box, np.arange(groups))


@dataclass
class _Table:
    """What is known of groups of block components; group `becomes[g]` is what a filled hole g is part of."""

    kind: np.ndarray
    count: np.ndarray
    first: np.ndarray
    box: np.ndarray
    becomes: np.ndarray

    def fill(self, pairs: np.ndarray, level: Level, voxel_nm3: float, shape: Triple) -> None:
        """Add to an object the free groups that touch nothing else, no border, and are small enough."""
        none, many = np.iinfo(np.int64).max, -1
        low, high = np.full(len(self.kind), none), np.full(len(self.kind), many)
        np.minimum.at(low, pairs[:, 0], pairs[:, 1])
        np.maximum.at(high, pairs[:, 0], pairs[:, 1])
        inside = (self.box[:, 0] > 0).all(axis=1) & (self.box[:, 1] < np.array(shape)).all(axis=1)
        holes = np.flatnonzero((self.kind == FREE) & inside & (low == high))
        holes = holes[self.kind[low[holes]] < FREE]
        limits = np.array([rule.fill_holes_nm3 for rule in level.rules])
        small = self.count[holes] * voxel_nm3 <= limits[self.kind[low[holes]] - 1]
        holes = holes[small]
        self.becomes[holes] = low[holes]
        np.add.at(self.count, low[holes], self.count[holes])

    def numbered(self, scratch: Scratch) -> np.ndarray:
        """Save the objects' components in order of their first voxels; gives the number of each group."""
        things = np.flatnonzero((self.kind > 0) & (self.kind < FREE))
        things = things[np.argsort(self.first[things])]
        number = np.zeros(len(self.kind), np.int64)
        number[things] = np.arange(1, len(things) + 1)
        number = number[self.becomes]
        scratch.save(
            "components",
            kind=self.kind[things],
            count=self.count[things],
            first=self.first[things],
            box=self.box[things],
        )
        return number
