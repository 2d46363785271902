"""Facets: the triangles between the voxels of a block, of many objects at a time, not placed yet.

    voxels   0   1   1   0        A vertex lies halfway between a voxel of the object and its neighbour. It is
               x       x          named by the lower of the two and the axis, in the volume, so that blocks
             cube cube cube       name it alike: facets of all blocks together are the facets of the volume.

A cube has eight neighbouring voxels as corners and belongs to one block. What lies beyond the volume is no
object: surfaces are closed there, in the plane of the volume's border.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densem.blocks import Box, Triple, triple
from densem.meshes.cube_table import CORNERS, EDGES, triangles

_LOW = np.array([CORNERS[a] for a, _ in EDGES], np.int64)
_AXIS = np.repeat(np.arange(3), 4)


@dataclass(frozen=True)
class Lattice:
    """Names of vertices in a volume of `shape` voxels (z, y, x), as int64 keys."""

    shape: Triple

    @property
    def padded(self) -> Triple:
        """The volume with one voxel more on all sides."""
        return triple(s + 2 for s in self.shape)

    def places(self, keys: np.ndarray) -> np.ndarray:
        """Where vertices lie, in voxels, float64 (N, 3) z, y, x: 0 and `shape` are the volume's borders."""
        low, axis = self.lower(keys)
        places = low.astype(np.float64) + 0.5
        places[np.arange(len(keys)), axis] += 0.5
        return places

    def lower(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lower voxel that a vertex lies beside, int64 (N, 3), and the axis, int64 (N,)."""
        voxel = np.stack(np.unravel_index(keys // 3, self.padded), axis=1).astype(np.int64) - 1
        return voxel, keys % 3

    def on_border(self, keys: np.ndarray) -> np.ndarray:
        """In which borders of the volume a vertex lies: bool (N, 3), z, y, x."""
        voxel, axis = self.lower(keys)
        at = voxel[np.arange(len(keys)), axis]
        out = np.zeros((len(keys), 3), bool)
        out[np.arange(len(keys)), axis] = (at == -1) | (at == np.array(self.shape)[axis] - 1)
        return out

    def cubes(self, box: Box) -> Box:
        """The voxels whose cubes belong to a block: one more below, and one beyond the volume's ends."""
        stop = triple(b + (b == n) for b, n in zip(box.stop, self.shape, strict=True))
        return Box(triple(a - 1 for a in box.start), stop)


@dataclass(frozen=True, eq=False)
class Facets:
    """Triangles of some objects.

    Attributes:
        ids: of the objects, ascending, int64 (N,).
        starts: where the triangles of each begin, int64 (N + 1,).
        keys: vertices of the triangles, int64 (T, 3).
    """

    ids: np.ndarray
    starts: np.ndarray
    keys: np.ndarray

    def of(self, position: int) -> np.ndarray:
        """Triangles of one of the objects."""
        return self.keys[self.starts[position] : self.starts[position + 1]]


def facets(labels: np.ndarray, origin: Triple, lattice: Lattice, six: np.ndarray | None = None) -> Facets:
    """The triangles in all cubes of an array.

    Args:
        labels: ids (Z, Y, X), 0 for none; with the voxels beyond the volume.
        origin: place of its first voxel in the volume; -1 is beyond it.
        lattice: of the volume.
        six: ids of objects whose voxels are joined by faces alone; by faces, edges and corners the others.
    """
    cells = triple(n - 1 for n in labels.shape)
    views = [labels[tuple(slice(c, c + n) for c, n in zip(k, cells, strict=True))] for k in CORNERS]
    mixed = np.zeros(cells, bool)
    for view in views[1:]:
        mixed |= view != views[0]
    place = np.stack(np.nonzero(mixed), axis=1).astype(np.int64) + np.array(origin) + 1
    cube = np.ravel_multi_index(tuple(place.T), lattice.padded).astype(np.int64)
    corners = np.stack([view[mixed] for view in views], axis=1)
    of, code, at = _codes(corners, cube)
    order = np.argsort(of, kind="stable")
    of, code, at = of[order], code[order], at[order]
    if six is not None and len(six):
        code = code + 256 * np.isin(of, six)
    owner, keys = _expanded(code, at, lattice)
    ids, counts = np.unique(of[owner], return_counts=True)
    return Facets(ids, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), keys)


def _codes(corners: np.ndarray, cube: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objects in each cube: their id, which corners they fill, the cube; one entry for each of them."""
    ids, codes, cubes = [], [], []
    bits = 1 << np.arange(8)
    for i in range(8):
        mine = corners[:, i]
        fresh = mine > 0
        for k in range(i):
            fresh &= corners[:, k] != mine
        ids.append(mine[fresh].astype(np.int64))
        codes.append((corners[fresh] == mine[fresh, None]) @ bits)
        cubes.append(cube[fresh])
    return np.concatenate(ids), np.concatenate(codes), np.concatenate(cubes)


def _expanded(code: np.ndarray, cube: np.ndarray, lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    """Entry and keys of every triangle."""
    (table26, starts26), (table6, starts6) = triangles(26), triangles(6)
    table, starts = np.concatenate([table26, table6]), np.concatenate([starts26[:-1], len(table26) + starts6])
    count = starts[code + 1] - starts[code]
    owner = np.repeat(np.arange(len(code)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    edge = table[starts[code][owner] + within]
    _, ny, nx = lattice.padded
    step = _LOW @ np.array([ny * nx, nx, 1])
    return owner, (cube[owner, None] + step[edge]) * 3 + _AXIS[edge]
