"""A mesh with what it is a surface of, and the volume it lies in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densem.blocks import Triple
from densem.meshes.mesh import Mesh, normals
from densem.volumes.exports.source import Color
from densem.volumes.volume import Nanometres


@dataclass(frozen=True, eq=False)
class NamedMesh:
    """The surface of an object.

    Attributes:
        id: of the object.
        kind: its class.
        rgb: its colour.
        mesh: in nm.
    """

    id: int
    kind: str
    rgb: Color
    mesh: Mesh

    @property
    def name(self) -> str:
        """Class and id."""
        return f"{self.kind} {self.id}"


@dataclass(frozen=True)
class Room:
    """The volume that meshes lie in, all (z, y, x)."""

    shape: Triple
    voxel_size_nm: Nanometres
    offset_nm: Nanometres


def vertex_normals(mesh: Mesh) -> np.ndarray:
    """Normals of length one at vertices, float64 (N, 3): the mean over triangles, weighted by area."""
    sums = np.zeros((len(mesh.vertices), 3))
    across = normals(mesh.vertices, mesh.faces)
    for corner in range(3):
        np.add.at(sums, mesh.faces[:, corner], across)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
