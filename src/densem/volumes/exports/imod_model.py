"""IMOD's binary models (.mod): big-endian, objects with contours or meshes, lengths in pixels of the image.

Coordinates of a pixel's corners are whole in x and y, those of its centre in z (x in 0 to NX, z in -0.5 to NZ
- 0.5).
Layout: https://bio3d.colorado.edu/imod/doc/binspec.html.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from densem.blocks import Triple
from densem.volumes.exports.source import Color
from densem.volumes.volume import Nanometres

NANOMETRE = -9
DRAWS_MESH = 1 << 10
NO_LINES = 1 << 11
FILLED = 1 << 8
TRIANGLES = -25
END_OF_TRIANGLES = -22
END_OF_LIST = -1


@dataclass(frozen=True)
class ModelObject:
    """The head of an object of a model.

    Attributes:
        name: shown in the list of objects.
        rgb: its colour.
        contours: how many follow.
        meshes: how many follow.
        surfaces: the largest number of a surface in it.
    """

    name: str
    rgb: Color
    contours: int = 0
    meshes: int = 0
    surfaces: int = 0


def write_model_head(
    file: BinaryIO, title: str, shape: Triple, voxel_size_nm: Nanometres, objects: int
) -> None:
    """Write the identity and header of a model for an image of that shape, both (z, y, x)."""
    nz, ny, nx = shape
    dz, dy, dx = voxel_size_nm
    file.write(b"IMODV1.2")
    file.write(_text(title, 128))
    file.write(struct.pack(">4iI4i", nx, ny, nz, objects, 1 << 12 | 1 << 13, 1, 0, 0, 255))
    file.write(struct.pack(">6f", 0, 0, 0, 1, dy / dx, dz / dx))
    file.write(struct.pack(">5i", 0, 0, 0, 3, 128))
    file.write(struct.pack(">f2i3f", dx, NANOMETRE, 0, 0, 0, 0))


def write_object_head(file: BinaryIO, made: ModelObject) -> None:
    """Write the head of an object; its contours follow, then its meshes."""
    flags = DRAWS_MESH | NO_LINES | FILLED if made.meshes else 0
    file.write(b"OBJT" + _text(made.name, 64) + bytes(64))
    file.write(struct.pack(">iI2i3fi", made.contours, flags, 0, 0, *(v / 255 for v in made.rgb), 0))
    file.write(struct.pack(">8B2i", 1, 3, 1, 1, 0, 0, 0, 0, made.meshes, made.surfaces))


def contour(points: np.ndarray, surface: int) -> bytes:
    """A closed contour, float (N, 3) in x, y, z."""
    return b"CONT" + struct.pack(">iIii", len(points), 0, 0, surface) + points.astype(">f4").tobytes()


def mesh(vertices: np.ndarray, normals: np.ndarray, faces: np.ndarray, surface: int) -> bytes:
    """A mesh: vertices and normals, float (N, 3) in x, y, z, faces (M, 3)."""
    pairs = np.stack([vertices, normals], axis=1).astype(">f4")
    tail = [END_OF_TRIANGLES, END_OF_LIST]
    indices = np.concatenate([[TRIANGLES], 2 * faces.astype(np.int64).ravel(), tail]).astype(">i4")
    head = b"MESH" + struct.pack(">iiI2h", 2 * len(vertices), len(indices), 0, 0, surface)
    return head + pairs.tobytes() + indices.tobytes()


def end_model(file: BinaryIO) -> None:
    """Write the end of a model."""
    file.write(b"IEOF")


def _text(text: str, size: int) -> bytes:
    return text.encode("ascii", "replace")[: size - 1].ljust(size, b"\0")
