"""Simplification: fewer triangles, as long as the surface stays closed and within a distance.

1. Edges are collapsed by quadric error (Garland and Heckbert 1997, by fast-simplification), up to a
   threshold that grows with the distance allowed.
2. The outcome is kept if it is closed, has the same Euler number, turns outward and lies within the
   distance, as measured. If not, 1 is done again with half the threshold, and at last not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densem.meshes.distance import distance_nm
from densem.meshes.mesh import Mesh

FEWEST = 40
"""Triangles that are not worth simplifying."""
SHARES = (0.5, 0.25, 0.125, 0.0625)
"""Thresholds that are tried, of the distance: measured distances are about twice as large."""
_GROWTH = 3
_LAST_THRESHOLD = 1e-9 * 103**_GROWTH
"""Of fast-simplification after its hundred rounds: a squared distance."""


@dataclass(frozen=True, eq=False)
class Simplified:
    """A surface with fewer triangles.

    Attributes:
        mesh: the surface.
        error_nm: its measured distance to the one it was made of.
    """

    mesh: Mesh
    error_nm: float


def simplified(mesh: Mesh, error_nm: float) -> Simplified:
    """The surface with as few triangles as stay within `error_nm`; the same one where none does."""
    if error_nm <= 0 or len(mesh.faces) < FEWEST:
        return Simplified(mesh, 0.0)
    for share in SHARES:
        smaller = collapsed(mesh, share * error_nm)
        if not _is_sound(smaller, mesh):
            continue
        distance = distance_nm(smaller, mesh)
        if distance <= error_nm:
            return Simplified(smaller, distance)
    return Simplified(mesh, 0.0)


def collapsed(mesh: Mesh, threshold_nm: float) -> Mesh:
    """The mesh without the edges whose quadric error is below a threshold; not checked."""
    import fast_simplification

    middle, unit = mesh.vertices.mean(axis=0), np.float32(np.sqrt(_LAST_THRESHOLD) / threshold_nm)
    points, faces = fast_simplification.simplify(
        np.ascontiguousarray((mesh.vertices - middle) * unit),
        np.ascontiguousarray(mesh.faces.astype(np.int32)),
        target_count=4,
        agg=_GROWTH,
    )
    used, numbers = np.unique(faces, return_inverse=True)
    kept = (points[used] / unit + middle).astype(np.float32)
    return Mesh(kept, numbers.reshape(-1, 3).astype(np.uint32))


def _is_sound(mesh: Mesh, before: Mesh) -> bool:
    return mesh.is_closed and mesh.euler_number == before.euler_number and mesh.volume_nm3 > 0
