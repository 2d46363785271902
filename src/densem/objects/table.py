"""Table: one row per object with lengths in nm.

Coordinates are those of the volume: the corner of its first voxel lies at its offset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densem.object_table import Table
from densem.objects.measure import Sums
from densem.objects.nesting import Level
from densem.objects.surface import UNIT_NM2
from densem.volumes.volume import Volume

AXES = ("z", "y", "x")


@dataclass(frozen=True, eq=False)
class Measured:
    """A level with its sums.

    Attributes:
        level: its classes and rules.
        kind: 1 + position of each object's class in the level, (N,).
        sums: of its objects.
    """

    level: Level
    kind: np.ndarray
    sums: Sums


def object_table(levels: Sequence[Measured], volume: Volume) -> Table:
    """All objects of all levels in order of id."""
    outermost = _outermost(levels)
    tables = [_level_table(measured, volume, outermost) for measured in levels]
    return {key: [v for t in tables for v in t[key]] for key in tables[0]}


def _outermost(levels: Sequence[Measured]) -> dict[int, int]:
    """By id, the object of the outermost level that each lies in, through its parents; 0 for none.

    Those of the outermost level stand for themselves.
    """
    found = {0: 0, **{int(i): int(i) for i in levels[0].sums.id}}
    for measured in levels[1:]:
        parents = measured.sums.parent.tolist()
        found.update({i: found.get(p, 0) for i, p in zip(measured.sums.id.tolist(), parents, strict=True)})
    return found


def _level_table(measured: Measured, volume: Volume, outermost: dict[int, int]) -> Table:
    sums, level = measured.sums, measured.level
    size, offset = np.array(volume.voxel_size_nm), np.array(volume.offset_nm)
    voxels = sums.voxels
    surface = (sums.facing * UNIT_NM2).sum(axis=1)
    nm3 = voxels * math.prod(volume.voxel_size_nm)
    low, high = sums.box[:, 0] * size + offset, sums.box[:, 1] * size + offset
    centre, lengths, directions = _shape(sums, size)
    joined = [int(level.rules[k - 1].connectivity == 26) for k in measured.kind]
    border = _touching(sums, volume)
    ball = math.pi ** (1 / 3) * (6 * nm3) ** (2 / 3)
    table: Table = {
        "id": sums.id.tolist(),
        "class": [level.names[k - 1] for k in measured.kind],
        "level": [level.number] * len(sums.id),
        "parent": sums.parent.tolist(),
        "cell": [outermost.get(p, 0) for p in sums.parent.tolist()],
        "voxels": voxels.tolist(),
        "volume_nm3": nm3.tolist(),
        "surface_nm2": surface.tolist(),
        "sphericity": [
            float(b / s) if s > 0 and not cut and 1 not in volume.shape else None
            for b, s, cut in zip(ball, surface, border, strict=True)
        ],
        "euler_number": [int(e[j]) // 8 for e, j in zip(sums.euler, joined, strict=True)],
        "touches_border": border.tolist(),
    }
    for a, axis in enumerate(AXES):
        table[f"centroid_{axis}_nm"] = (centre[:, a] + offset[a]).tolist()
    for a, axis in enumerate(AXES):
        table[f"box_{axis}_start_nm"], table[f"box_{axis}_stop_nm"] = low[:, a].tolist(), high[:, a].tolist()
    for n in range(3):
        table[f"axis_{n + 1}_nm"] = lengths[:, n].tolist()
    for n in range(3):
        for a, axis in enumerate(AXES):
            table[f"axis_{n + 1}_{axis}"] = directions[:, n, a].tolist()
    areas = sums.facing * UNIT_NM2
    for channel, name in enumerate((*level.schema.names, "unlabelled")):
        table[f"contact_{name}_nm2"] = areas[:, channel].tolist()
    return table


def _touching(sums: Sums, volume: Volume) -> np.ndarray:
    """Objects that touch the border of the volume, bool (N,); an axis of a single voxel has no border."""
    wide = np.array(volume.shape) > 1
    return (((sums.box[:, 0] == 0) | (sums.box[:, 1] == np.array(volume.shape))) & wide).any(axis=1)


def _shape(sums: Sums, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centroids and lengths of the principal axes in nm, (N, 3) each, and their directions, (N, 3, 3).

    The axes, longest first, are those of the ellipsoid that has the object's second moments, voxels being
    boxes. A direction is a row (z, y, x) of length 1 whose largest part is positive.
    """
    count = len(sums.id)
    if count == 0:
        return np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3))
    n = sums.voxels.astype(object)
    m = sums.moments
    mean = np.stack([m[:, a] / n for a in range(3)], axis=1).astype(np.float64)
    spread = np.zeros((count, 3, 3))
    for column, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)], start=3):
        value = ((n * m[:, column] - m[:, a] * m[:, b]) / (n * n)).astype(np.float64)
        spread[:, a, b] = spread[:, b, a] = value * size[a] * size[b]
    spread[:, range(3), range(3)] += size**2 / 12
    values, vectors = np.linalg.eigh(spread)
    directions = vectors.transpose(0, 2, 1)[:, ::-1]
    largest = np.abs(directions).argmax(axis=2)[..., None]
    sign = np.sign(np.take_along_axis(directions, largest, axis=2))
    lengths = 2 * np.sqrt(5 * np.maximum(values[:, ::-1], 0))
    return (mean + 0.5) * size, lengths, directions * sign


def cell_table(levels: Sequence[Measured], volume: Volume) -> Table:
    """Per object of the outermost level: objects of each class it holds, shares of its volume."""
    first, schema = levels[0], levels[0].level.schema
    sums = first.sums
    voxels = np.maximum(sums.voxels, 1)
    table: Table = {
        "id": sums.id.tolist(),
        "class": [first.level.names[k - 1] for k in first.kind],
        "volume_nm3": (sums.voxels * math.prod(volume.voxel_size_nm)).tolist(),
        "touches_border": _touching(sums, volume).tolist(),
    }
    outermost = _outermost(levels)
    for measured in levels[1:]:
        for kind, name in enumerate(measured.level.names, start=1):
            ids = measured.sums.id[measured.kind == kind].tolist()
            held = np.bincount([outermost[i] for i in ids], minlength=len(outermost) + 1)
            table[f"count_{name}"] = [int(held[i]) for i in table["id"]]
    for entry in schema.classes:
        if entry.parent is None or not any(entry.id in _inner(first.level, n) for n in first.level.names):
            continue
        inside = [schema.ids.index(i) for i in schema.descendant_ids(entry.name)]
        share = sums.classes[:, inside].sum(axis=1) / voxels
        table[f"fraction_{entry.name}"] = share.tolist()
    return table


def _inner(level: Level, name: str) -> set[int]:
    return set(level.schema.descendant_ids(name)) - {level.schema[name].id}
