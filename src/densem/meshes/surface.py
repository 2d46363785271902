"""Surface: of the facets of an object, with coordinates; and of an id of an array in memory."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import find_objects

from densem.blocks import Box, triple
from densem.errors import InputError, ShapeError
from densem.meshes.facets import Lattice, facets
from densem.meshes.mesh import Mesh
from densem.meshes.smoothing import WAVELENGTH, Smoothing, directions, smoothed
from densem.volumes.volume import Nanometres


def surface(
    labels: np.ndarray,
    id: int,
    voxel_size_nm: Nanometres,
    offset_nm: Nanometres = (0.0, 0.0, 0.0),
    smooth_nm: float | None = None,
    connectivity: int = 26,
) -> Mesh:
    """The closed surface of the voxels of one id, with the volume of its voxels.

    Args:
        labels: any integer or bool type (Z, Y, X).
        id: the voxels wanted; 1 of a mask.
        voxel_size_nm: (z, y, x).
        offset_nm: where the corner of voxel (0, 0, 0) lies, (z, y, x).
        smooth_nm: waves of that length along the surface are halved; 0 takes the voxels' corners off only.
            By default ten times the longest side of a voxel.
        connectivity: 26 where voxels that touch at an edge or corner hang together, 6 where they do not.

    Raises:
        ShapeError: labels that have not three axes.
        InputError: no voxel has that id.
    """
    if labels.ndim != 3:
        raise ShapeError(f"labels: expected three axes (z, y, x), found shape {labels.shape}")
    mask = labels == id
    spans = find_objects(mask.astype(np.uint8))[0] if mask.any() else None
    if spans is None:
        raise InputError(f"labels: no voxel has the id {id}, so there is no surface")
    lattice = Lattice(triple(labels.shape))
    box = Box(triple(s.start - 1 for s in spans), triple(s.stop + 1 for s in spans))
    found = facets(np.pad(mask[spans].astype(np.uint8), 1), box.start, lattice, _six(connectivity))
    voxels = int(np.count_nonzero(mask[spans]))
    wavelength = WAVELENGTH * max(voxel_size_nm) if smooth_nm is None else smooth_nm
    return surface_of(found.of(0), lattice, voxel_size_nm, offset_nm, voxels, Smoothing(wavelength))[0]


def _six(connectivity: int) -> np.ndarray | None:
    return np.array([1]) if connectivity == 6 else None


def surface_of(
    keys: np.ndarray,
    lattice: Lattice,
    voxel_size_nm: Nanometres,
    offset_nm: Nanometres,
    voxels: int,
    smoothing: Smoothing,
) -> tuple[Mesh, float]:
    """The surface of all facets of an object, in whatever order they are given.

    Gives as well how far smoothing moved it at most along its normals, in nm.

    Args:
        keys: vertices of its triangles, int64 (T, 3).
        lattice: of the volume.
        voxel_size_nm: (z, y, x).
        offset_nm: of the volume, (z, y, x).
        voxels: how many the object has.
        smoothing: how it is smoothed.
    """
    names, numbers = np.unique(keys, return_inverse=True)
    faces = numbers.reshape(-1, 3)
    faces = faces[np.lexsort(faces.T[::-1])].astype(np.uint32)  # the same for any blocks
    size = np.array(voxel_size_nm[::-1])
    points = lattice.places(names)[:, ::-1] * size
    border = lattice.on_border(names)[:, ::-1]
    volume = voxels * math.prod(voxel_size_nm)
    limits = np.zeros(3), np.array(lattice.shape[::-1]) * size
    smooth = smoothed(points, faces, border, size, limits, volume, smoothing)
    moved = np.abs(((smooth - points) * directions(smooth, faces)[0]).sum(axis=1)).max()
    return Mesh((smooth + np.array(offset_nm[::-1])).astype(np.float32), faces), float(moved)
