"""Simplification: fewer triangles within a measured distance of all of them.

The surface stays closed, keeps its topology and its volume, and what lies in a border of the volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densem.meshes.collapse import collapsed
from densem.meshes.distance import distance_nm
from densem.meshes.mesh import Mesh
from densem.meshes.smoothing import Limits, with_volume

FEWEST = 40
"""Triangles that are not worth simplifying."""
FIRST_SHARE = 0.25
"""Threshold of the collapse that is tried first, of the distance allowed: measured ones are larger."""
TRIES = 5
IN_BORDER_NM = 0.05


@dataclass(frozen=True, eq=False)
class Simplified:
    """A surface with fewer triangles.

    Attributes:
        mesh: the surface.
        error_nm: its measured distance to the one it was made of.
    """

    mesh: Mesh
    error_nm: float


def simplified(mesh: Mesh, error_nm: float, limits: Limits | None = None) -> Simplified:
    """The surface with as few triangles as stay within `error_nm`; the same one where none does.

    Args:
        mesh: closed.
        error_nm: 0 keeps it as it is.
        limits: lowest and highest x, y, z of the volume, in nm.
    """
    if error_nm <= 0 or len(mesh.faces) < FEWEST:
        return Simplified(mesh, 0.0)
    share = FIRST_SHARE
    for _ in range(TRIES):
        smaller = _refilled(collapsed(mesh, share * error_nm), mesh.volume_nm3, limits)
        distance = distance_nm(smaller, mesh)
        if distance <= error_nm and smaller.volume_nm3 > 0:
            return Simplified(smaller, distance)
        share *= 0.8 * min(1.0, error_nm / distance)
    return Simplified(mesh, 0.0)


def _refilled(mesh: Mesh, volume_nm3: float, limits: Limits | None) -> Mesh:
    """The mesh moved along its normals until it has that volume."""
    low, high = limits or (np.full(3, -np.inf), np.full(3, np.inf))
    points = mesh.vertices.astype(np.float64)
    for limit in (low, high):
        points = np.where(np.abs(points - limit) < IN_BORDER_NM, limit, points)
    border = (points == low) | (points == high)
    step = float(np.sqrt(mesh.area_nm2 / len(mesh.faces)))
    moved = with_volume(points, mesh.faces, border, (low, high), volume_nm3, step)
    return Mesh(moved.astype(np.float32), mesh.faces)
