"""Distance: how far a simplified surface lies from the surface it was made of, in nm.

Measured both ways (Hausdorff): from the vertices of the one to the other surface, and back from points all
over the simplified one. To a triangle the distance is exact; of the triangles those are looked at that the
nearest of these points lie on, so what is found may be too large, never too small.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from densem.meshes.mesh import Mesh

NEAREST = 8
CHUNK = 1 << 16
FINEST = 128
"""Parts that a side of a triangle is cut in at most."""


def distance_nm(simplified: Mesh, original: Mesh) -> float:
    """The largest distance between two surfaces."""
    spacing = 2 * np.sqrt(original.area_nm2 / max(len(original.faces), 1))
    points, owner = _points_on(simplified, spacing)
    there = _farthest(original.vertices, points, owner, simplified)
    places, lies_on = _points_on(original, spacing / 2)
    points = np.concatenate([points, simplified.vertices[np.unique(simplified.faces)]])
    back = _farthest(points, places, lies_on, original)
    return max(there, back)


def _points_on(mesh: Mesh, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points about `spacing` from each other on every triangle, and which triangle each lies on."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    parts = np.clip(np.ceil(longest / spacing), 1, FINEST).astype(np.int64)
    points, owner = [], []
    for n in np.unique(parts):
        these = np.flatnonzero(parts == n)
        i, j = (k.reshape(-1) + 1 / 3 for k in np.indices((n, n)))  # within it: a side is two triangles'
        share = (np.stack([i, j, n - i - j], axis=1) / n)[i + j < n]
        points.append(np.einsum("pk,tkd->tpd", share, corners[these]).reshape(-1, 3))
        owner.append(np.repeat(these, len(share)))
    return np.concatenate(points), np.concatenate(owner)


def _farthest(points: np.ndarray, places: np.ndarray, owner: np.ndarray, mesh: Mesh) -> float:
    """Largest distance of points to a mesh, whose triangles `owner` the `places` lie on."""
    tree, count = KDTree(places), min(NEAREST, len(places))
    most = 0.0
    for start in range(0, len(points), CHUNK):
        part = points[start : start + CHUNK].astype(np.float64)
        near = owner[tree.query(part, k=count)[1].reshape(len(part), count)]
        squares = [_squared(part, mesh.vertices[mesh.faces[column]].astype(np.float64)) for column in near.T]
        most = max(most, float(np.min(squares, axis=0).max()))
    return float(np.sqrt(most))


def _squared(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Squared distance of each point to its triangle, (N,); corners (N, 3, 3).

    The nearest point lies within the triangle where its barycentric coordinates are positive, else on a side.
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    normal = np.cross(b - a, c - a)
    length = np.maximum(_dot(normal, normal), 1e-30)
    out = _dot(points - a, normal) ** 2 / length
    outside = np.zeros(len(points), bool)
    for start, end in ((a, b), (b, c), (c, a)):
        outside |= _dot(np.cross(end - start, points - start), normal) < 0
    p = points[outside]
    sides = [_to_side(p, s[outside], e[outside]) for s, e in ((a, b), (b, c), (c, a))]
    out[outside] = np.minimum.reduce(sides) if len(p) else 0
    return out


def _to_side(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    way = end - start
    share = np.clip(_dot(points - start, way) / np.maximum(_dot(way, way), 1e-30), 0, 1)
    rest = points - start - share[:, None] * way
    return _dot(rest, rest)


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", one, other)
