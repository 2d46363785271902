"""Cutting: the watersheds make pieces of the components of a level.

A component whose box is small enough is cut in one piece. Of a larger one, tiles of fixed size, anchored at
the origin, are cut with a halo of real voxels around them; `stitching` makes them one again. The mutex
watershed, which takes more memory, has smaller tiles of its own. Nothing depends on the blocks in which the
work is handed out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.objects.mutex import split_by_affinities
from densem.objects.nesting import Level
from densem.objects.pieces import Pieces, box_of
from densem.objects.scratch import Scratch
from densem.objects.seams import Components
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


@dataclass(frozen=True)
class WholeTask:
    """Cuts the small components whose boxes begin in a block. Can be sent to other machines."""

    cutter: Cutter

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the pieces of those that fall apart."""
        cuts, found = self.cutter.scratch.load("cuts"), Pieces()
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
        cuts, found = self.cutter.scratch.load("cuts"), Pieces()
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
