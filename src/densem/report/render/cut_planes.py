"""Cut planes: slices of the raw image across z, y and x, as sheets that stand in the scene where they belong.

A sheet shows whole voxels: it reaches from the outer side of the first to that of the last, and lies in the
middle of its slice. Walls lie on the sides of a box instead, a little outside so that objects do not touch
them, and only those behind the objects are seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from densem.blocks import Box, Triple
from densem.report.render.scene import CutPlane
from densem.volumes import Volume

FINEST = 2048
"""Longest side of a sheet in pixels."""

_APART = 0.004  # in lengths of the box


def walls(image: Volume, box: Box) -> tuple[CutPlane, ...]:
    """The six sides of a box as its outermost slices, each seen from inside alone.

    Args:
        image: grey values.
        box: not empty, inside the image.
    """
    greys = _grey_range(image, box)
    found = []
    away = _APART * max(n * s for n, s in zip(box.shape, image.voxel_size_nm, strict=True))
    for axis in range(3):
        for last in (False, True):
            index = box.stop[axis] - 1 if last else box.start[axis]
            side = (box.stop[axis] if last else box.start[axis]) * image.voxel_size_nm[axis]
            at = side + (away if last else -away) + image.offset_nm[axis]
            found.append(_sheet(image, box, axis, index, at, greys, -1 if last else 1, away))
    return tuple(found)


def cuts(image: Volume, box: Box, at: Triple) -> tuple[CutPlane, ...]:
    """Three sheets in a box, across z, y and x, through a voxel in it."""
    greys = _grey_range(image, box)
    size, offset = image.voxel_size_nm, image.offset_nm
    return tuple(
        _sheet(image, box, axis, at[axis], (at[axis] + 0.5) * size[axis] + offset[axis], greys)
        for axis in range(3)
    )


def _sheet(
    image: Volume,
    box: Box,
    axis: int,
    index: int,
    at_nm: float,
    greys: tuple[float, float],
    front: int = 0,
    margin_nm: float = 0.0,
) -> CutPlane:
    """A slice as a sheet at a place of its axis; `front` is the sign of the direction it is seen from."""
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = index, index + 1
    plane = image.read(Box(tuple(start), tuple(stop))).squeeze(axis)  # type: ignore[arg-type]
    rows, columns = (k for k in range(3) if k != axis)
    size, offset = np.array(image.voxel_size_nm), np.array(image.offset_nm)
    origin = np.array(box.start) * size + offset
    origin[axis] = at_nm
    sides = np.zeros((2, 3))
    for side, k in zip(sides, (rows, columns), strict=True):
        side[k] = box.shape[k] * size[k]
    pixels = _shrunk(_stretched(plane, greys))
    along_rows, along_columns = sides
    facing = np.sign(np.cross(along_rows[::-1], along_columns[::-1])[::-1][axis])
    if front and facing != front:  # the same sheet with rows and columns exchanged looks the other way
        pixels, along_rows, along_columns = pixels.T, along_columns, along_rows
    corner, right, down = (side[::-1].copy() for side in (origin, along_columns, along_rows))  # x, y, z
    return CutPlane(np.ascontiguousarray(pixels), corner, right, down, front != 0, margin_nm)


def _grey_range(image: Volume, box: Box) -> tuple[float, float]:
    """What is black and what white: as stored with the image, else of the middle slice of the box."""
    known = image.intensity
    if known is not None:
        return known.low, known.high
    middle = (box.start[0] + box.stop[0]) // 2
    plane = image.read(Box((middle, *box.start[1:]), (middle + 1, *box.stop[1:])))
    low, high = np.percentile(plane, (0.5, 99.5))
    return float(low), float(high)


def _stretched(plane: np.ndarray, greys: Sequence[float]) -> np.ndarray:
    low, high = greys
    scaled = (plane.astype(np.float32) - low) / max(high - low, 1e-9)
    return np.asarray((np.clip(scaled, 0, 1) * 255).round().astype(np.uint8))


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """Area means where it is larger than a sheet can be."""
    height, width = pixels.shape
    if max(height, width) <= FINEST:
        return pixels
    share = FINEST / max(height, width)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
