"""Collapse: edges of a closed surface shrunk to points, many at a time, without changing its topology.

Each round:
1. every edge has a place for the point it would become and the mean squared distance of that to the planes
   of all triangles merged into it (quadrics, Garland and Heckbert 1997); edges below the round's threshold
   may go
2. of these a set is chosen, at random and always the same, no two of which have neighbouring ends
3. an edge stays if its ends have other common neighbours than the two beside it (link condition, Dey et al.
   1999) or a triangle would turn over

Thresholds grow from round to round, so the flattest edges go first. Libraries that were tried (zmesh,
pyfqmr, fast-simplification, meshoptimizer) open large surfaces here and there; this keeps them closed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from densem.meshes.mesh import Mesh, normals

ROUNDS = 100
GROWING = 12
"""Rounds in which thresholds grow."""
SIEVES = 4
FLAT = 8.0
"""Largest area that squared distances are averaged over, of the mean one at a vertex at first."""
SMALLEST_SHARE = 0.02
FEWEST = 0.004
"""A round in which fewer edges go, of those there are, is the last one with that threshold."""
_STIFFNESS = 1e-6
_TURN = 0.25
"""Least cosine between a triangle before and after."""


def collapsed(mesh: Mesh, error_nm: float) -> Mesh:
    """The surface with fewer triangles, about `error_nm` from the one given; closed if that is closed."""
    middle = mesh.vertices.mean(axis=0, dtype=np.float64)
    points, faces = mesh.vertices - middle, mesh.faces.astype(np.int64)
    quadrics = _quadrics(points, faces)
    state = _State(points, faces, quadrics, FLAT * float(quadrics[:, 10].mean()))
    for number in range(ROUNDS):
        share = SMALLEST_SHARE ** max(0.0, 1 - number / GROWING)
        gone = state.round((share * error_nm) ** 2, number)
        if number >= GROWING and gone < FEWEST * len(state.faces):
            break
    used, numbers = np.unique(state.faces, return_inverse=True)
    kept = (state.points[used] + middle).astype(np.float32)
    return Mesh(kept, numbers.reshape(-1, 3).astype(np.uint32))


def _quadrics(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """At each vertex the sum over its triangles, weighted by area: float64 (N, 11).

    n n^T as six numbers, d n, d^2 and the area, where n x + d is the distance of x to the triangle's plane.
    """
    n = normals(points, faces)
    twice = np.linalg.norm(n, axis=1)
    n /= np.maximum(twice, 1e-30)[:, None]
    d = -(n * points[faces[:, 0]]).sum(axis=1)
    x, y, z = n.T
    rows = np.stack([x * x, x * y, x * z, y * y, y * z, z * z, d * x, d * y, d * z, d * d, np.ones(len(d))])
    rows *= twice / 2
    flat = faces.reshape(-1)
    return np.stack([np.bincount(flat, np.repeat(row, 3), len(points)) for row in rows], axis=1)


def _best_places(q: np.ndarray, middle: np.ndarray, area: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the sum of squared distances is least, and their mean there: (E, 3), (E,).

    The mean is over no more than `area`: large flat parts do not hide what is cut off beside them.
    Where planes leave a direction free, a weak spring holds the place at the middle of the edge.
    """
    xx, xy, xz, yy, yz, zz = q[:, :6].T
    gradient = np.stack(
        [
            xx * middle[:, 0] + xy * middle[:, 1] + xz * middle[:, 2] + q[:, 6],
            xy * middle[:, 0] + yy * middle[:, 1] + yz * middle[:, 2] + q[:, 7],
            xz * middle[:, 0] + yz * middle[:, 1] + zz * middle[:, 2] + q[:, 8],
        ]
    )
    at_middle = (middle.T * (gradient + q[:, 6:9].T)).sum(axis=0) + q[:, 9]
    spring = _STIFFNESS * q[:, 10]
    a, b, c = xx + spring, yy + spring, zz + spring
    inverse = np.stack(
        [b * c - yz * yz, xz * yz - xy * c, xy * yz - xz * b,
         a * c - xz * xz, xy * xz - a * yz, a * b - xy * xy]
    )  # fmt: skip
    inverse /= np.maximum(a * inverse[0] + xy * inverse[1] + xz * inverse[2], 1e-300)
    gx, gy, gz = gradient
    step = -np.stack(
        [
            inverse[0] * gx + inverse[1] * gy + inverse[2] * gz,
            inverse[1] * gx + inverse[3] * gy + inverse[4] * gz,
            inverse[2] * gx + inverse[4] * gy + inverse[5] * gz,
        ]
    )
    sx, sy, sz = step
    bent = xx * sx * sx + yy * sy * sy + zz * sz * sz + 2 * (xy * sx * sy + xz * sx * sz + yz * sy * sz)
    cost = at_middle + 2 * (gradient * step).sum(axis=0) + bent
    return middle + step.T, np.maximum(cost, 0) / np.clip(q[:, 10], 1e-30, area)


@dataclass
class _State:
    """A surface while edges go.

    Attributes:
        points: float64 (N, 3); some are not used any more.
        faces: int64 (M, 3).
        quadrics: of the points, float64 (N, 11).
        area: that squared distances are averaged over at most.
    """

    points: np.ndarray
    faces: np.ndarray
    quadrics: np.ndarray
    area: float

    def round(self, threshold: float, number: int) -> int:
        """Collapse edges below a threshold, nm^2; gives how many."""
        one, other = self.faces.reshape(-1), self.faces[:, [1, 2, 0]].reshape(-1)
        up = one < other  # of a closed surface each edge is there in both directions
        low, high = one[up], other[up]
        place, cost = _best_places(
            self.quadrics[low] + self.quadrics[high], (self.points[low] + self.points[high]) / 2, self.area
        )
        may = np.flatnonzero(cost < threshold)
        low, high, place = low[may], high[may], place[may]
        chosen = self._apart(low, high, one, other, number)
        low, high, place = low[chosen], high[chosen], place[chosen]
        sound = self._keeps_topology(low, high, one, other)
        low, high, place = low[sound], high[sound], place[sound]
        sound = self._keeps_sides(low, high, place)
        low, high, place = low[sound], high[sound], place[sound]
        self.points[low] = place
        self.quadrics[low] += self.quadrics[high]
        goes_to = np.arange(len(self.points))
        goes_to[high] = low
        faces = goes_to[self.faces]
        left = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        self.faces = faces[left]
        return len(low)

    def _apart(
        self, low: np.ndarray, high: np.ndarray, one: np.ndarray, other: np.ndarray, seed: int
    ) -> np.ndarray:
        """Edges so chosen that no end of one is an end of another or its neighbour.

        Those that come first among all whose ends are so near, of the others again those, a few times.
        """
        turn = np.random.default_rng(seed).permutation(len(low))
        left, chosen = np.arange(len(low)), []
        for _ in range(SIEVES):
            first = np.full(len(self.points), len(low))
            np.minimum.at(first, low[left], turn[left])
            np.minimum.at(first, high[left], turn[left])
            around = first.copy()
            np.minimum.at(around, one, first[other])
            new = left[(turn[left] == around[low[left]]) & (turn[left] == around[high[left]])]
            chosen.append(new)
            taken = np.zeros(len(self.points), bool)
            taken[low[new]] = taken[high[new]] = True
            taken[other[taken[one]]] = True
            left = left[~(taken[low[left]] | taken[high[left]])]
            if len(left) == 0:
                break
        return np.concatenate(chosen)

    def _keeps_topology(
        self, low: np.ndarray, high: np.ndarray, one: np.ndarray, other: np.ndarray
    ) -> np.ndarray:
        """Whether just two vertices neighbour both ends, each with more than three neighbours."""
        count = len(self.points)
        near = csr_array((np.ones(len(one), np.int8), (one, other)), shape=(count, count))
        degree = np.bincount(one, minlength=count)
        both = csr_array(near[low].multiply(near[high]))
        row = np.repeat(np.arange(len(low)), np.diff(both.indptr))
        tight = np.bincount(row, degree[both.indices] <= 3, len(low)) > 0
        return (np.diff(both.indptr) == 2) & ~tight

    def _keeps_sides(self, low: np.ndarray, high: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Whether no triangle turns over or shrinks to a line."""
        ends_at = np.full(len(self.points), -1)  # the edge that goes and ends at a vertex; at most one does
        ends_at[low] = ends_at[high] = np.arange(len(low))
        edge = ends_at[self.faces]
        touched = np.flatnonzero((edge >= 0).sum(axis=1) == 1)
        edge, corners = edge[touched], self.points[self.faces[touched]]
        moved = np.where((edge >= 0)[..., None], place[edge], corners)
        before, after = (np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]) for c in (corners, moved))
        sizes = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        bad = (before * after).sum(axis=1) <= _TURN * sizes
        return np.bincount(edge.max(axis=1), bad, len(low)) == 0
