"""Pieces: what the watersheds make of the components of a level.

A component whose box is small enough is cut in one piece. Of a larger one, tiles of fixed size, anchored at
the origin, are cut with a halo of real voxels around them, and what two neighbouring tiles have both seen
decides which of their pieces are one: those that share at least half of what the larger one has there. Half
of the smaller one would do for a corner of one piece inside of another; chains of these join all there is.

    +---------+---------+     core of a tile:   what its pieces are kept of
    |       ::|::       |     ::                seen by both tiles
    +---------+---------+

The mutex watershed, which takes more memory, has smaller tiles of its own. Nothing depends on the blocks in
which the work is handed out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.objects.mutex import split_by_affinities
from densem.objects.nesting import Level
from densem.objects.scratch import Scratch
from densem.objects.seams import Components, joined
from densem.objects.watershed import may_fall_apart, split_body
from densem.volumes.affinities import Affinities
from densem.volumes.volume import Nanometres

Method = Literal["watershed", "mutex"]
METHODS: tuple[Method, ...] = ("watershed", "mutex")
TILES = {"watershed": "tiles", "mutex": "mutex-tiles"}
"""Folder of each method's tiles; beside it, with `-links`, that of what joins them."""


@dataclass(frozen=True)
class Tiling:
    """How components are cut; part of what decides the outcome.

    Attributes:
        largest: voxels of the largest box that is cut in one piece.
        tile: core of a tile, (z, y, x).
        halo: voxels read around it, (z, y, x).
    """

    largest: int = 2**23
    tile: Triple = (64, 256, 256)
    halo: Triple = (16, 64, 64)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"largest": self.largest, "tile": list(self.tile), "halo": list(self.halo)}


MUTEX_TILING = Tiling(2**21, (32, 128, 128), (16, 32, 32))
"""About 400 bytes a voxel are needed for 9 offsets: up to 1 GB."""


def box_of(row: np.ndarray) -> Box:
    """From starts and stops, int (2, 3)."""
    return Box(triple(row[0]), triple(row[1]))


@dataclass(frozen=True)
class Cutter:
    """Cuts the component of a number within a box.

    Attributes:
        components: of the whole volume.
        level: rules of its classes.
        voxel_size_nm: (z, y, x).
        tilings: sizes of each method that cuts.
        affinities: of the volume, for the method `mutex`.
    """

    components: Components
    level: Level
    voxel_size_nm: Nanometres
    tilings: Mapping[Method, Tiling]
    affinities: Affinities | None = None

    @property
    def scratch(self) -> Scratch:
        """Where arrays are handed on."""
        return self.components.provisional.scratch

    @property
    def shape(self) -> Triple:
        """Of the volume."""
        return self.components.provisional.grid.shape

    def tiles(self, method: Method) -> Grid:
        """The tiles of the volume for a method."""
        return Grid(self.shape, self.tilings[method].tile)

    def cut(self, mask: np.ndarray, box: Box, whole: Box, kind: int) -> tuple[np.ndarray, int]:
        """Cut what lies in `box` of a component that fills the box `whole`."""
        rule = self.level.rules[kind - 1]
        if rule.method == "mutex":
            assert self.affinities is not None
            more = [(box.start[a] > whole.start[a], box.stop[a] < whole.stop[a]) for a in range(3)]
            pairs = self.affinities.read(box)
            return split_by_affinities(mask, pairs, self.affinities.offsets, rule.mutex_bias, more)
        closed = self._closed(box, whole)
        return split_body(mask, self.voxel_size_nm, rule.h_nm, rule.connectivity, closed)

    def may_cut(self, whole: Box, kind: int) -> bool:
        """Whether a component that fills a box could fall apart."""
        rule = self.level.rules[kind - 1]
        if rule.method == "mutex":
            return whole.size > 1
        return may_fall_apart(whole.shape, self.voxel_size_nm, rule.h_nm, self._closed(whole, whole))

    def _closed(self, box: Box, whole: Box) -> list[tuple[bool, bool]]:
        """Where the sides of `box` are those of the component, within the volume."""
        return [
            (box.start[a] == whole.start[a] > 0, box.stop[a] == whole.stop[a] < self.shape[a])
            for a in range(3)
        ]


def sort_components(cutter: Cutter) -> tuple[int, dict[Method, int]]:
    """Save which components are cut whole and which in tiles.

    Returns:
        How many are cut whole, and for each method how many are cut in tiles.
    """
    table = cutter.scratch.load("components")
    methods = [r.method for r in cutter.level.rules]
    limits = np.array([0, *(cutter.tilings[m].largest if m != "components" else 0 for m in methods)])
    limit = limits[table["kind"]]
    sizes = np.prod((table["box"][:, 1] - table["box"][:, 0]).astype(np.float64), axis=1)
    small = np.flatnonzero((limit > 0) & (sizes <= limit))
    large = np.flatnonzero((limit > 0) & (sizes > limit))
    grid = cutter.components.provisional.grid
    place = table["box"][small, 0] // np.array(grid.cell)
    cell = (place[:, 0] * grid.counts[1] + place[:, 1]) * grid.counts[2] + place[:, 2]
    order = np.argsort(cell, kind="stable")
    cutter.scratch.save(
        "cuts",
        small=small[order] + 1,
        cell=cell[order],
        small_box=table["box"][small[order]],
        small_kind=table["kind"][small[order]],
        large=large + 1,
        large_box=table["box"][large],
        large_kind=table["kind"][large],
    )
    of = [methods[kind - 1] for kind in table["kind"][large]]
    return len(small), {m: of.count(m) for m in METHODS if m in of}


class _Cuts:
    """Pieces of components within boxes, gathered by a task and written as one file."""

    def __init__(self) -> None:
        self.component: list[int] = []
        self.box: list[tuple[Triple, Triple]] = []
        self.own: list[tuple[Triple, Triple]] = []
        self.crop: list[tuple[Triple, Triple]] = []
        self.pieces: list[int] = []
        self.labels: list[np.ndarray] = [np.zeros(0, np.int32)]

    def add(self, component: int, box: Box, own: Box, labels: np.ndarray, count: int) -> None:
        """Take in a component: labels of `box`, of which those in `own` are kept; stored is what it fills."""
        crop = _filled(labels, box)
        own = own.clip(crop)
        self.component.append(component)
        self.box.append((box.start, box.stop))
        self.own.append((own.start, own.stop))
        self.crop.append((crop.start, crop.stop))
        self.pieces.append(count)
        self.labels.append(labels[crop.relative_to(box).slices].astype(np.int32).reshape(-1))

    def save(self, scratch: Scratch, name: str) -> None:
        """Write all of them."""
        scratch.save(
            name,
            component=np.array(self.component, np.int64),
            box=np.array(self.box, np.int64).reshape(-1, 2, 3),
            own=np.array(self.own, np.int64).reshape(-1, 2, 3),
            crop=np.array(self.crop, np.int64).reshape(-1, 2, 3),
            pieces=np.array(self.pieces, np.int64),
            labels=np.concatenate(self.labels),
        )


def _filled(labels: np.ndarray, box: Box) -> Box:
    """The smallest box around the voxels of a box that have a label."""
    there = [np.flatnonzero(labels.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(there[0]):
        return Box(box.start, box.start)
    return Box(triple(t[0] for t in there), triple(t[-1] + 1 for t in there)).shift(box.start)


@dataclass(frozen=True)
class WholeTask:
    """Cuts the small components whose boxes begin in a block. Can be sent to other machines."""

    cutter: Cutter

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the pieces of those that fall apart."""
        cuts, found = self.cutter.scratch.load("cuts"), _Cuts()
        first, last = np.searchsorted(cuts["cell"], [index, index + 1])
        reader = _Reader(self.cutter.components, box)
        for row in range(first, last):
            whole, component = box_of(cuts["small_box"][row]), int(cuts["small"][row])
            if not self.cutter.may_cut(whole, int(cuts["small_kind"][row])):
                continue
            mask = reader.read(whole) == component
            labels, count = self.cutter.cut(mask, whole, whole, int(cuts["small_kind"][row]))
            if count > 1:
                found.add(component, whole, whole, labels, count)
        found.save(self.cutter.scratch, f"whole/{index}")
        return {}


class _Reader:
    """Reads boxes that begin in a block; the block and half of one beyond it are read once."""

    def __init__(self, components: Components, box: Box) -> None:
        self._components = components
        whole = Box.of_shape(components.provisional.grid.shape)
        stop = triple(b + n // 2 for b, n in zip(box.stop, box.shape, strict=True))
        self._near = Box(box.start, stop).clip(whole)

    @cached_property
    def _block(self) -> np.ndarray:
        return self._components.read(self._near)

    def read(self, box: Box) -> np.ndarray:
        if self._near.contains(box):
            return self._block[box.relative_to(self._near).slices]
        return self._components.read(box)


@dataclass(frozen=True)
class TileTask:
    """Cuts what lies in one tile of the large components of a method. Can be sent to other machines."""

    cutter: Cutter
    method: Method

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the pieces of the tile with its halo."""
        cuts, found = self.cutter.scratch.load("cuts"), _Cuts()
        read = box.grow(self.cutter.tilings[self.method].halo).clip(Box.of_shape(self.cutter.shape))
        labels = None
        for row, component in enumerate(cuts["large"]):
            if self.cutter.level.rules[int(cuts["large_kind"][row]) - 1].method != self.method:
                continue
            whole = box_of(cuts["large_box"][row])
            part = read.clip(whole)
            if part.size == 0:
                continue
            labels = self.cutter.components.read(read) if labels is None else labels
            mask = labels[part.relative_to(read).slices] == component
            if mask.any():
                pieces, count = self.cutter.cut(mask, part, whole, int(cuts["large_kind"][row]))
                found.add(int(component), part, box.clip(part), pieces, count)
        found.save(self.cutter.scratch, f"{TILES[self.method]}/{index}")
        return {}


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


@dataclass(frozen=True, eq=False)
class Cut:
    """The pieces of a component within a box.

    Attributes:
        component: its number.
        box: what was cut.
        own: what is kept of it, within `crop`.
        crop: the part of `box` that the component fills.
        base: pieces of the same file before these.
        labels: int32 (Z, Y, X) of `crop`, pieces from 1.
    """

    component: int
    box: Box
    own: Box
    crop: Box
    base: int
    labels: np.ndarray

    @classmethod
    def load(cls, scratch: Scratch, name: str) -> list[Cut]:
        """All of a file."""
        file = scratch.load(name)
        bases = np.concatenate([[0], np.cumsum(file["pieces"])])
        crops = file.get("crop", file["box"])  # none in a run that an earlier version began
        found, place = [], 0
        for row in range(len(file["component"])):
            box, own, crop = (box_of(boxes[row]) for boxes in (file["box"], file["own"], crops))
            labels = file["labels"][place : place + crop.size].reshape(crop.shape)
            found.append(cls(int(file["component"][row]), box, own, crop, int(bases[row]), labels))
            place += crop.size
        return found

    def within(self, box: Box) -> np.ndarray:
        """Labels of the part of a box that the component fills, int64 (N,)."""
        return self.labels[box.clip(self.crop).relative_to(self.crop).slices].reshape(-1).astype(np.int64)


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


# ---- from pieces to objects ------------------------------------------------------------------


@dataclass(frozen=True)
class PieceFile:
    """A file of pieces in the order in which all pieces of a level are counted through."""

    name: str
    base: int


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
class _Pieces:
    component: np.ndarray
    count: np.ndarray
    first: np.ndarray
    base_of_file: dict[str, int]


def _all_pieces(cutter: Cutter, names: list[str]) -> _Pieces:
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
    return _Pieces(np.concatenate(components), np.concatenate(counts), np.concatenate(firsts), bases)


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


def _joined_pieces(pieces: _Pieces, links: list[str], scratch: Scratch) -> np.ndarray:
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
