"""Mesh: a triangulated surface in nm; coordinates are x, y, z here, as in every format for surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface; closed where it is the surface of an object.

    Attributes:
        vertices: float32 (N, 3), x, y, z in nm, with the volume's offset.
        faces: uint32 (M, 3), vertices of each triangle; its normal points outward by the right-hand rule.
    """

    vertices: np.ndarray
    faces: np.ndarray

    @property
    def volume_nm3(self) -> float:
        """Volume that it encloses; negative where normals point inward."""
        return enclosed_volume(self.vertices, self.faces)

    @property
    def area_nm2(self) -> float:
        """Area of all triangles."""
        return float(np.linalg.norm(normals(self.vertices, self.faces), axis=1).sum() / 2)

    @property
    def box_nm(self) -> np.ndarray:
        """Smallest and largest x, y, z, float64 (2, 3).

        Raises:
            ValueError: of a mesh without vertices.
        """
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)]).astype(np.float64)

    @property
    def euler_number(self) -> int:
        """Vertices - edges + faces, vertices without a face left aside; twice that of a closed body."""
        used = len(np.unique(self.faces))
        return used - len(edges(self.faces)) + len(self.faces)

    @property
    def is_closed(self) -> bool:
        """Whether each edge is run through once in each direction."""
        return len(self.faces) > 0 and _paired(self.faces)


def normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals of triangles, float64 (M, 3), as long as twice their areas."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return np.cross(b - a, c - a)


def enclosed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume that triangles enclose, positive where their normals point outward."""
    if len(faces) == 0:
        return 0.0
    a, b, c = (vertices[faces[:, i]].astype(np.float64) - vertices[0] for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def edges(faces: np.ndarray) -> np.ndarray:
    """Edges of triangles, each once, int64 (E, 2), the smaller vertex first."""
    codes = np.unique(_codes(np.sort(_directed(faces), axis=1)))
    return np.stack([codes >> 32, codes & 0xFFFFFFFF], axis=1)


def _directed(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)


def _codes(pairs: np.ndarray) -> np.ndarray:
    return pairs[:, 0] << 32 | pairs[:, 1]


def _paired(faces: np.ndarray) -> bool:
    """Whether no directed edge comes twice and each has its opposite."""
    run = _directed(faces)
    there, back = np.sort(_codes(run)), np.sort(_codes(run[:, ::-1]))
    return bool((there == back).all() and (np.diff(there) > 0).all())
