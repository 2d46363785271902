"""Stitching: from pieces to objects.

What two neighbouring tiles have both seen decides which of their pieces are one: those that share at least
half of what the larger one has there. Half of the smaller one would do for a corner of one piece inside of
another; chains of these join all there is.

    +---------+---------+     core of a tile:   what its pieces are kept of
    |       ::|::       |     ::                seen by both tiles
    +---------+---------+
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from densem.blocks import Box, Triple
from densem.objects.cutting import TILES, Cutter, Method
from densem.objects.pieces import Cut
from densem.objects.scratch import Scratch
from densem.objects.seams import Components, joined


@dataclass(frozen=True)
class StitchTask:
    """Finds which pieces of a tile and of its next neighbours are one. Can be sent to other machines."""

    cutter: Cutter
    method: Method

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the links, int64 (N, 4): tile and piece, twice; pieces counted through within a tile."""
        grid, tiles = self.cutter.tiles(self.method), TILES[self.method]
        _, ny, nx = grid.counts
        place = (index // (ny * nx), index // nx % ny, index % nx)
        links, here = [np.zeros((0, 4), np.int64)], Cut.load(self.cutter.scratch, f"{tiles}/{index}")
        for axis, step in enumerate((ny * nx, nx, 1)):
            if here and place[axis] + 1 < grid.counts[axis]:
                there = Cut.load(self.cutter.scratch, f"{tiles}/{index + step}")
                for one in here:
                    for other in there:
                        if one.component == other.component:
                            pairs = _links(one, other)
                            links.append(np.insert(pairs, [0, 1], [index, index + step], axis=1))
        self.cutter.scratch.save(f"{tiles}-links/{index}", links=np.concatenate(links))
        return {}


def _links(one: Cut, other: Cut) -> np.ndarray:
    """Pairs of pieces that are one, int64 (N, 2), each counted through within its file."""
    shared = one.box.clip(other.box)
    both = shared.clip(one.crop).clip(other.crop)
    if both.size == 0:
        return np.zeros((0, 2), np.int64)
    sizes_a, sizes_b = np.bincount(one.within(shared)), np.bincount(other.within(shared))
    a, b = one.within(both), other.within(both)
    codes, common = np.unique(a * len(sizes_b) + b, return_counts=True)
    left, right = codes // len(sizes_b), codes % len(sizes_b)
    keep = (left > 0) & (right > 0)
    keep &= 2 * common >= np.maximum(sizes_a[left], sizes_b[right])
    return np.stack([left[keep] + one.base, right[keep] + other.base], axis=1)


def number_pieces(cutter: Cutter, names: list[str], links: list[str], top: int) -> dict[str, np.ndarray]:
    """The objects of a level in canonical order; saves what painting them needs.

    Args:
        cutter: of the level.
        names: files of pieces.
        links: files of links between the pieces of tiles.
        top: the last id of the levels before.

    Returns:
        `id`, `kind`, and per object nothing else: the rest is measured in the finished volume.
    """
    scratch, table = cutter.scratch, cutter.scratch.load("components")
    pieces = _all_pieces(cutter, names)
    group = _joined_pieces(pieces, links, scratch)
    count, first = np.zeros(len(group), np.int64), np.full(len(group), np.iinfo(np.int64).max)
    np.add.at(count, group, pieces.count)
    np.minimum.at(first, group, pieces.first)
    whole = np.ones(len(table["kind"]), bool)
    whole[pieces.component - 1] = False
    split = np.flatnonzero(count > 0)
    kind_of_group = np.zeros(len(group), np.uint8)
    kind_of_group[group] = table["kind"][pieces.component - 1]
    kinds = np.concatenate([table["kind"][whole], kind_of_group[split]])
    counts = np.concatenate([table["count"][whole], count[split]])
    firsts = np.concatenate([table["first"][whole], first[split]])
    limits = np.array([0.0, *(r.min_volume_nm3 for r in cutter.level.rules)])
    kept = counts * math.prod(cutter.voxel_size_nm) >= limits[kinds]
    order = np.argsort(np.where(kept, firsts, np.iinfo(np.int64).max), kind="stable")[: int(kept.sum())]
    ids = np.zeros(len(kinds), np.int64)
    ids[order] = np.arange(top + 1, top + 1 + len(order))
    of_component = np.zeros(len(whole) + 1, np.int64)
    of_component[1:][whole] = ids[: int(whole.sum())]
    of_group = np.zeros(len(group), np.int64)
    of_group[split] = ids[int(whole.sum()) :]
    scratch.save_array("id_of_component", of_component)
    scratch.save_array("id_of_piece", np.concatenate([[0], of_group[group]]).astype(np.int64))
    return {"id": ids[order], "kind": kinds[order]}


@dataclass(frozen=True)
class _Counted:
    component: np.ndarray
    count: np.ndarray
    first: np.ndarray
    base_of_file: dict[str, int]


def _all_pieces(cutter: Cutter, names: list[str]) -> _Counted:
    """Size and first voxel of what is kept of every piece; saves where they lie."""
    empty = np.zeros(0, np.int64)
    components, counts, firsts, bases = [empty], [empty], [empty], {}
    places: list[np.ndarray] = [np.zeros((0, 8), np.int64)]
    total = 0
    for number, name in enumerate(names):
        bases[name] = total
        for row, cut in enumerate(Cut.load(cutter.scratch, name)):
            kept = cut.labels[cut.own.relative_to(cut.crop).slices]
            n = int(cut.labels.max(initial=0))
            flat = kept.reshape(-1)
            counts.append(np.bincount(flat, minlength=n + 1)[1:].astype(np.int64))
            components.append(np.full(n, cut.component, np.int64))
            firsts.append(_firsts(kept, n, cut.own.start, cutter.shape))
            places.append(np.array([[number, row, *cut.own.start, *cut.own.stop]], np.int64))
            total += n
    base = np.array([bases[n] for n in names], np.int64)
    cutter.scratch.save("places", places=np.concatenate(places), base=base, names=np.array(names))
    return _Counted(np.concatenate(components), np.concatenate(counts), np.concatenate(firsts), bases)


def _firsts(labels: np.ndarray, count: int, start: Triple, shape: Triple) -> np.ndarray:
    """Flat place in the volume of the first voxel of labels 1 to `count`, int64."""
    if labels.size == 0:  # of a tile that has it in its halo alone
        return np.full(count, np.iinfo(np.int64).max)
    flat = labels.reshape(-1)
    there = np.flatnonzero(flat)[::-1]
    local = np.full(count + 1, -1, np.int64)
    local[flat[there]] = there
    z, y, x = np.unravel_index(np.maximum(local[1:], 0), labels.shape)
    places = ((z + start[0]) * shape[1] + y + start[1]) * shape[2] + x + start[2]
    return np.where(local[1:] < 0, np.iinfo(np.int64).max, places)


def _joined_pieces(pieces: _Counted, links: list[str], scratch: Scratch) -> np.ndarray:
    pairs = [np.zeros((0, 2), np.int64)]
    for name in links:
        found = scratch.load(name)["links"]
        tiles, folder = np.unique(found[:, [0, 2]]), name.partition("-links/")[0]
        bases = np.array([pieces.base_of_file[f"{folder}/{t}"] for t in tiles], np.int64)
        if len(found):
            of = np.searchsorted(tiles, found[:, [0, 2]])
            pairs.append(bases[of] + found[:, [1, 3]] - 1)
    if len(pieces.component) == 0:
        return np.zeros(0, np.int64)
    return joined(np.concatenate(pairs), len(pieces.component))


@dataclass(frozen=True)
class Painter:
    """Gives final ids of any box of a level."""

    components: Components

    def read(self, box: Box) -> np.ndarray:
        """Ids, uint32 (Z, Y, X); 0 where there is no object."""
        scratch = self.components.provisional.scratch
        ids = scratch.array("id_of_component").astype(np.uint32)[self.components.read(box)]
        of_piece = scratch.array("id_of_piece")
        for cut, base in self._cuts(scratch, box):
            part = cut.own.clip(box)
            labels = cut.labels[part.relative_to(cut.crop).slices]
            inside = labels > 0
            view = ids[part.relative_to(box).slices]
            view[inside] = of_piece[labels[inside].astype(np.int64) + cut.base + base]
        return ids

    def _cuts(self, scratch: Scratch, box: Box) -> Iterator[tuple[Cut, int]]:
        """The cuts that meet a box, file by file, and the pieces before each file."""
        index = scratch.load("places")
        places = index["places"]
        meet = ((places[:, 2:5] < box.stop) & (places[:, 5:8] > box.start)).all(axis=1)
        for number in np.unique(places[meet, 0]):
            cuts = Cut.load(scratch, str(index["names"][number]))
            for row in places[meet & (places[:, 0] == number), 1]:
                yield cuts[row], int(index["base"][number])
