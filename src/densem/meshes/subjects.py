"""Subjects: the objects that meshes are made of, as `densem objects` left them on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from densem.blocks import Box, Triple, triple
from densem.errors import InputError, NotFoundError
from densem.object_table import level_paths, read_rows
from densem.schema import LabelSchema
from densem.volumes import Volume, open_volume
from densem.volumes.ome_zarr import AXES

_COLUMNS = (
    "id", "class", "level", "parent", "voxels",
    *(f"box_{a}_{end}_nm" for end in ("start", "stop") for a in AXES),
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """An object.

    Attributes:
        id: its id, unique over all levels.
        kind: name of its class.
        level: whose volume it is in.
        parent: id of the object it lies in; 0 for none.
        voxels: how many it has.
        box: around them.
    """

    id: int
    kind: str
    level: int
    parent: int
    voxels: int
    box: Box

    @property
    def name(self) -> str:
        """Of its files, such as `alpha_granule-17`."""
        return f"{self.kind.replace(' ', '_')}-{self.id}"


@dataclass(frozen=True)
class Found:
    """The objects in a folder of `densem objects`.

    Attributes:
        folder: where they lie.
        schema: their classes.
    """

    folder: Path
    schema: LabelSchema

    def __post_init__(self) -> None:
        if not (self.folder / "objects.csv").is_file():
            raise NotFoundError(
                f"{self.folder}: no finished objects there (objects.csv is missing); "
                "finish them with  densem objects"
            )

    @cached_property
    def volumes(self) -> tuple[Volume, ...]:
        """Ids of each level, uint32 (Z, Y, X)."""
        return tuple(open_volume(path) for path in level_paths(self.folder))

    def subjects(self, classes: Sequence[str] = (), ids: Sequence[int] = ()) -> list[Subject]:
        """Those of some classes or ids, in order of id; all without either; with both, what is in either.

        Raises:
            SchemaError: for a class that is not in the schema.
            InputError: for a class without an object, and ids that no object has.
        """
        for name in classes:
            self.schema[name]
        every = list(self._rows())
        self._check(every, classes, ids)
        if not classes and not ids:
            return every
        wanted, kinds = set(ids), set(classes)
        return [s for s in every if s.id in wanted or s.kind in kinds]

    def _check(self, every: list[Subject], classes: Sequence[str], ids: Sequence[int]) -> None:
        there = sorted({s.kind for s in every})
        for name in classes:
            if name not in there:
                raise InputError(
                    f"{self.folder}: no object is a {name!r}; "
                    f"there are objects of {', '.join(there) or 'no class'}"
                )
        known = {s.id for s in every}
        strange = [i for i in ids if i not in known]
        if strange:
            raise InputError(
                f"{self.folder}: no object has the id {', '.join(map(str, strange[:5]))}; "
                f"ids are {_spans(known)}, see objects.csv"
            )
        if not every:
            raise InputError(f"{self.folder}: there is no object, so there is nothing to make a mesh of")

    def _rows(self) -> Iterator[Subject]:
        size, offset = self.volumes[0].voxel_size_nm, self.volumes[0].offset_nm

        def corner(place_nm: Sequence[float]) -> Triple:
            return triple(round((p - o) / s) for p, o, s in zip(place_nm, offset, size, strict=True))

        path = self.folder / "objects.csv"
        for number, row in enumerate(read_rows(path, _COLUMNS), start=2):
            identity, kind, level, parent, voxels, *box = row
            subject = Subject(identity, kind, level, parent, voxels, Box(corner(box[:3]), corner(box[3:])))
            if voxels < 1 or subject.box.size < 1:
                raise InputError(
                    f"{path}, line {number}: object {subject.id} ({subject.kind}) has no voxel, "
                    "so it has no surface; make the objects anew"
                )
            yield subject

    def six(self, level: int) -> np.ndarray:
        """Ids on a level whose voxels are joined by faces alone, int64."""
        rules = self.volumes[level].provenance.get("rules", {})
        kinds = {name for name, rule in rules.items() if rule.get("connectivity") == 6}
        return np.array([s.id for s in self._rows() if s.kind in kinds and s.level == level], np.int64)

    @property
    def voxel_volume_nm3(self) -> float:
        """Of a voxel."""
        return math.prod(self.volumes[0].voxel_size_nm)


def _spans(ids: set[int]) -> str:
    return f"{min(ids)} to {max(ids)}" if ids else "none"
