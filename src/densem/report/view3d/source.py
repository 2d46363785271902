"""Source: the objects of a study as they lie on disk, and the surfaces that can be made of them.

A surface is made of the level of the pyramid at which the object's box has at most `VOXELS` voxels. Stuff,
such as vessels, does not come in objects: what of it lies in an outermost object is one surface, made from
the class ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box, triple
from densem.errors import NotFoundError
from densem.meshes.mesh import Mesh
from densem.meshes.surface import surface
from densem.report.view3d.scene import SceneObject
from densem.schema import LabelSchema
from densem.volumes import Volume, open_volume

Columns = Mapping[str, Sequence[Any]]
BoxNm = tuple[tuple[float, ...], tuple[float, ...]]
VOXELS = 2**20


@dataclass(frozen=True, eq=False)
class Source:
    """Objects as they lie on disk.

    Attributes:
        table: a row for each object.
        cells: a row for each outermost one.
        levels: the volumes of their ids, outermost first.
        classes: the class ids they were made from; None to show no stuff.
        schema: the classes.
    """

    table: Columns
    cells: Columns
    levels: tuple[Path, ...]
    classes: Path | None
    schema: LabelSchema

    @property
    def volume(self) -> Volume:
        """The outermost ids at full resolution."""
        return self.opened(self.levels[0], 0)

    @cached_property
    def limits_nm(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of the volume, x, y, z."""
        low = np.array(self.volume.offset_nm[::-1])
        return low, low + np.array(self.volume.shape[::-1]) * np.array(self.volume.voxel_size_nm[::-1])

    def opened(self, path: Path, number: int) -> Volume:
        """A level of a pyramid; its corner lies where that of full resolution does."""
        known = self._opened.get((path, number))
        if known is None:
            known = open_volume(path, number)
            if number:
                known = replace(known, offset_nm=self.opened(path, 0).offset_nm)
            self._opened[path, number] = known
        return known

    def has(self, path: Path, number: int) -> bool:
        """Whether a pyramid has a level of that number."""
        try:
            self.opened(path, number)
        except NotFoundError:
            return False
        return True

    def boxed(self, path: Path, number: int, box_nm: BoxNm) -> tuple[Volume, Box]:
        """A level, and the voxels of a box in it with one more on each side, where there is one."""
        volume = self.opened(path, number)
        size, offset = np.array(volume.voxel_size_nm), np.array(volume.offset_nm)
        low = np.floor((np.array(box_nm[0]) - offset) / size + 1e-6).astype(int) - 1
        high = np.ceil((np.array(box_nm[1]) - offset) / size - 1e-6).astype(int) + 1
        return volume, Box(triple(low.tolist()), triple(high.tolist())).clip(volume.box)

    @cached_property
    def _opened(self) -> dict[tuple[Path, int], Volume]:
        return {}

    @cached_property
    def outermost(self) -> dict[int, int]:
        """Id of the outermost object that each one lies in; 0 where it lies in none."""
        parent = dict(zip(self.table["id"], self.table["parent"], strict=True))
        level = dict(zip(self.table["id"], self.table["level"], strict=True))
        found: dict[int, int] = {0: 0}
        for number in sorted(level, key=level.__getitem__):
            found[number] = number if level[number] == 0 else found.get(parent[number], 0)
        return found

    @cached_property
    def stuff(self) -> tuple[str, ...]:
        """Classes that do not come in objects, of which a share of the outermost objects is known."""
        roots = set(self.cells["class"])
        return tuple(
            c.name for c in self.schema.classes
            if not c.thing and c.parent in roots and f"fraction_{c.name}" in self.cells
        )  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """An object or a piece of stuff whose surface is wanted.

    Attributes:
        id: of the object; 0 for stuff.
        kind: name of its class.
        level: of the volume it lies in.
        outermost: id of the outermost object that holds it.
        box_nm: start and stop of its box, (z, y, x).
    """

    id: int
    kind: str
    level: int
    outermost: int
    parent: int
    volume_nm3: float
    touches_border: bool
    box_nm: BoxNm

    def shown(self, kind: int, mesh: Mesh) -> SceneObject:
        """As an object of the scene."""
        return SceneObject(self.id, kind, mesh, self.volume_nm3, self.parent, self.touches_border)

    def mesh(self, source: Source) -> tuple[Mesh, float]:
        """Its surface, and the longest side of the voxels it is made of, in nm."""
        path, number = source.levels[self.level], 0
        volume, box = source.boxed(path, 0, self.box_nm)
        while box.size > VOXELS and source.has(path, number + 1):
            number += 1
            volume, box = source.boxed(path, number, self.box_nm)
        mask = volume.read(box) == (self.id or self.parent)
        if self.id == 0:
            assert source.classes is not None
            ids = source.schema.descendant_ids(self.kind)
            mask &= np.isin(source.opened(source.classes, number).read(box), ids)
        part, side = volume.part(box), max(volume.voxel_size_nm)
        if not mask.any():  # thinner than the voxels of this level
            return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint32)), side
        return surface(mask, 1, part.voxel_size_nm, part.offset_nm), side


def wanted(source: Source) -> list[Wish]:
    """All objects and all stuff, outermost objects first, then by volume, largest first."""
    found = [*_things(source), *_stuff(source)]
    return sorted(found, key=lambda wish: (wish.id == 0 or wish.level > 0, -wish.volume_nm3, wish.id))


def _things(source: Source) -> Iterator[Wish]:
    table = source.table
    for n, number in enumerate(table["id"]):
        yield Wish(
            id=number, kind=table["class"][n], level=table["level"][n], outermost=source.outermost[number],
            parent=table["parent"][n], volume_nm3=table["volume_nm3"][n],
            touches_border=table["touches_border"][n], box_nm=_box_of(table, n),
        )  # fmt: skip


def _stuff(source: Source) -> Iterator[Wish]:
    table, cells = source.table, source.cells
    row = {number: n for n, number in enumerate(table["id"])}
    for name in source.stuff if source.classes is not None else ():
        for cell, share, volume, cut in zip(
            cells["id"], cells[f"fraction_{name}"], cells["volume_nm3"], cells["touches_border"], strict=True
        ):
            if share:
                yield Wish(
                    id=0, kind=name, level=0, outermost=cell, parent=cell, volume_nm3=share * volume,
                    touches_border=cut, box_nm=_box_of(table, row[cell]),
                )  # fmt: skip


def _box_of(table: Columns, n: int) -> BoxNm:
    start = tuple(float(table[f"box_{a}_start_nm"][n]) for a in "zyx")
    return start, tuple(float(table[f"box_{a}_stop_nm"][n]) for a in "zyx")
