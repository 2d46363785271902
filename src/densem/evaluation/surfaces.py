"""Surfaces of classes in label volumes: the points where a class meets something else, with their areas.

A surface point lies at a corner that eight voxels share, if some of the eight are of the class and some are
not. It carries the area, in nm², of the surface within half a voxel of it on every side:

    . . | o o
    . . | o o      * surface points of class o, at the corners of voxels
    ----*----      1. which of the eight voxels are of the class makes a number from 0 to 255
    . . * o o      2. a table of 256 areas, made for the voxel size, turns the number into an area
    . . | . .

The area is that of the plane patch which marching cubes would cut there (midpoints of the edges between a
voxel inside and one outside); each part of a class that is apart from the others within the eight voxels has
a patch of its own. Areas count, since voxels of serial sections are long in z: counted by voxels, a boundary
that faces z would weigh as much as one that faces x and has many times its area.

Source: Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck anatomy
for radiotherapy, 2018, where surfaces are defined by area.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import label

from densem.blocks import Box, Grid, Triple, triple
from densem.volumes.volume import Nanometres

_CORNERS = tuple(np.ndindex(2, 2, 2))  # bit i of a number is the voxel at corner i
_SIDES = np.array([0, 1 / 8, 1 / 2, 7 / 8, 1])  # share of a square by how many of its corners are inside


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface of one class.

    Attributes:
        places: int64 (N,), numbers of corners in the lattice of inner corners, in C order, ascending.
        codes: uint8 (N,), which of the eight voxels around are of the class.
    """

    places: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        """Number of points."""
        return len(self.places)


def patch_areas(voxel_size_nm: Nanometres) -> np.ndarray:
    """Area in nm² for each of the 256 ways in which a class can fill eight voxels, float64 (256,)."""
    z, y, x = voxel_size_nm
    faces = np.array([y * x, z * x, z * y])
    areas = np.zeros(256)
    for code in range(1, 255):
        filled = np.array([code >> i & 1 for i in range(8)], bool).reshape(2, 2, 2)
        inside = ~filled if filled.sum() > 4 else filled  # the surface is the same from both sides
        parts, count = label(inside)  # joined through edges of the cell
        areas[code] = sum(_patch(parts == part, faces) for part in range(1, count + 1))
    return areas


def _patch(part: np.ndarray, faces: np.ndarray) -> float:
    """Area of the patch around a part of the cell: its vector area follows from the cell's six sides.

    The closed surface of patch and sides has the vector area zero, so the patch has, along an axis, the
    difference of what the part covers of the two sides across it. For a plane patch the length of the
    vector is the area.
    """
    vector = []
    for axis in range(3):
        near, far = np.take(part, 0, axis).sum(), np.take(part, 1, axis).sum()
        vector.append((_SIDES[far] - _SIDES[near]) * faces[axis])
    return float(np.linalg.norm(vector))


def lattice(shape: Triple) -> Triple:
    """Numbers of inner corners along the axes; an axis of one voxel counts as one."""
    return triple(max(1, side - 1) for side in shape)


def surfaces_of_box(
    read: Callable[[Box], tuple[np.ndarray, ...]], shape: Triple, box: Box, ids: Sequence[int]
) -> list[list[Surface]]:
    """Surfaces of several label volumes within a box of the lattice of inner corners.

    Args:
        read: gives uint8 (Z, Y, X) of a box of voxels for each volume, and at the end bool: not scored.
            A corner that touches a voxel that is not scored is on no surface, in any of the volumes.
        shape: of the volumes.
        box: of the lattice.
        ids: the classes.

    Returns:
        For each volume a surface per class.
    """
    voxels = Box(box.start, triple(b + 1 for b in box.stop)).clip(Box.of_shape(shape))
    *volumes, unscored = (_thick(array, box.shape) for array in read(voxels))
    judged = ~_any(unscored)
    numbers = _numbers(shape, box)
    return [_surfaces(volume, judged, numbers, ids) for volume in volumes]


def _surfaces(
    labels: np.ndarray, judged: np.ndarray, numbers: np.ndarray, ids: Sequence[int]
) -> list[Surface]:
    mixed = judged & _mixed(labels)
    places = numbers[mixed]
    around = np.stack([corner[mixed] for corner in _corners(labels)], axis=1)  # (N, 8)
    found = []
    for i in ids:
        codes = np.packbits(around == i, axis=1, bitorder="little").reshape(-1)
        here = (codes > 0) & (codes < 255)
        found.append(Surface(places[here], codes[here]))
    return found


def joined(parts: Sequence[Surface]) -> Surface:
    """Surfaces of several boxes as one, in ascending order of place."""
    if not parts:
        return Surface(np.zeros(0, np.int64), np.zeros(0, np.uint8))
    places = np.concatenate([part.places for part in parts])
    codes = np.concatenate([part.codes for part in parts])
    order = np.argsort(places, kind="stable")
    return Surface(places[order], codes[order])


def packed(sides: Sequence[Sequence[Surface]]) -> dict[str, Any]:
    """Surfaces as plain values for JSON: numbers of points, and all points compressed."""
    surfaces = [surface for side in sides for surface in side]
    steps = [np.diff(surface.places, prepend=0) for surface in surfaces]  # mostly small: a few bits a point
    return {
        "sizes": [[len(surface) for surface in side] for side in sides],
        "places": _text(np.concatenate(steps).astype("<i8")),
        "codes": _text(np.concatenate([surface.codes for surface in surfaces])),
    }


def unpacked(record: dict[str, Any]) -> list[list[Surface]]:
    """From what `packed` gave."""
    sizes = record["sizes"]
    ends = np.cumsum([size for side in sizes for size in side])[:-1]
    steps = np.split(_array(record["places"], np.dtype("<i8")), ends)
    codes = np.split(_array(record["codes"], np.dtype(np.uint8)), ends)
    surfaces = iter([Surface(np.cumsum(a, dtype=np.int64), b) for a, b in zip(steps, codes, strict=True)])
    return [[next(surfaces) for _ in side] for side in sizes]


def _text(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 1)).decode()


def _array(text: str, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def positions(places: np.ndarray, shape: Triple, voxel_size_nm: Nanometres) -> np.ndarray:
    """Where corners lie, in nm from the first one, float64 (N, 3)."""
    index = np.stack(np.unravel_index(places, lattice(shape)), axis=1)
    return index * np.asarray(voxel_size_nm)


def lattice_grid(shape: Triple, block: Triple) -> Grid:
    """The lattice of inner corners in boxes of about a block."""
    return Grid(lattice(shape), block)


def _thick(array: np.ndarray, corners: Triple) -> np.ndarray:
    """An axis of one voxel is doubled: a single slice is taken as a slab without top and bottom."""
    for axis, (side, wanted) in enumerate(zip(array.shape, corners, strict=True)):
        if side == wanted:
            array = np.repeat(array, 2, axis)
    return array


def _corners(array: np.ndarray) -> list[np.ndarray]:
    """The eight views of an array that lie around each inner corner, in the order of the bits."""
    ends = [(slice(0, side - 1), slice(1, side)) for side in array.shape]
    return [array[ends[0][z], ends[1][y], ends[2][x]] for z, y, x in _CORNERS]


def _mixed(labels: np.ndarray) -> np.ndarray:
    """Whether the eight voxels around a corner differ, bool."""
    first, *others = _corners(labels)
    found = np.zeros(first.shape, bool)
    for other in others:
        found |= other != first
    return found


def _any(mask: np.ndarray) -> np.ndarray:
    return np.logical_or.reduce(_corners(mask))


def _numbers(shape: Triple, box: Box) -> np.ndarray:
    """Numbers of the corners of a box in the whole lattice, int64 (Z, Y, X)."""
    _, ny, nx = lattice(shape)
    z, y, x = (np.arange(a, b, dtype=np.int64) for a, b in zip(box.start, box.stop, strict=True))
    return (z[:, None, None] * ny + y[:, None]) * nx + x
