"""Surfaces of a study's objects, made one after the other from the box of each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from densem.blocks import Box, triple
from densem.errors import InputError, NotFoundError
from densem.meshes.named import NamedMesh, Room
from densem.meshes.surface import surface
from densem.study.study import Study
from densem.volumes import Volume
from densem.volumes.exports.source import GREY

Progress = Callable[[int, int], None]
LARGEST_BOX = 2**29
"""Voxels of an object's box that are held at once."""


def room_of(volume: Volume) -> Room:
    """Where the surfaces lie."""
    return Room(volume.shape, volume.voxel_size_nm, volume.offset_nm)


def object_surfaces(
    study: Study, volume: Volume, table: Path, level: int, progress: Progress | None = None
) -> Iterator[NamedMesh]:
    """The surface of each object of a level, in order of id.

    Args:
        study: whose classes have the colours.
        volume: ids of the level's objects.
        table: objects.csv.
        level: 0 for the outermost things.
        progress: told (objects done, objects in all).

    Raises:
        NotFoundError: if the table is gone.
        InputError: if an object's box is too large to be held.
    """
    if not table.exists():
        raise NotFoundError(f"{table}: expected the table of the objects, found none; make them anew")
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["level"]) == level]
    for done, row in enumerate(rows, 1):
        number, kind = int(row["id"]), row["class"]
        box = _box(row, volume)
        if box.size > LARGEST_BOX:
            raise InputError(
                f"object {number} ({kind}): expected a box of at most {LARGEST_BOX} voxels, found "
                f"{box.size}; "
                "take the meshes that  densem mesh  makes block by block"
            )
        part = volume.part(box)
        made = surface(part.read(), number, part.voxel_size_nm, part.offset_nm)
        known = kind in study.schema.names
        yield NamedMesh(number, kind, study.schema[kind].rgb if known else GREY, made)
        if progress:
            progress(done, len(rows))


def _box(row: dict[str, str], volume: Volume) -> Box:
    """The voxels of an object and two more on each side, within the volume."""
    ends = []
    for end, grow in (("start", -2), ("stop", 2)):
        nm = [float(row[f"box_{axis}_{end}_nm"]) for axis in "zyx"]
        place = (np.array(nm) - volume.offset_nm) / volume.voxel_size_nm
        ends.append(triple(np.rint(place).astype(int) + grow))
    return Box(ends[0], ends[1]).clip(volume.box)
