"""Noise that is a pure function of a key and a place, so that any part of a field equals its crop.

White noise hashes the whole-number place itself. Smooth noise hashes the points of a lattice given in nm
and joins them by cubic B-splines; it has unit variance and features about as large as the spacing.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from densem.blocks import Box

_SPLINE_VARIANCE = 151 / 315
"""Mean over all phases of the summed squares of the four cubic B-spline weights."""


def key_of(*words: object) -> int:
    """A 32-bit key from a seed and names."""
    return zlib.crc32("/".join(map(str, words)).encode())


def _mix(h: np.ndarray) -> np.ndarray:
    """Scramble 32-bit integers in place: xor-shifts and odd multiplications, one to one."""
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def white(key: int, box: Box) -> np.ndarray:
    """Independent normal values of unit variance, float32 (Z, Y, X), one for each whole-number place.

    The sum of the four bytes of a hash, which is normal to within 0.3 in kurtosis and ends at 3.5.
    """
    z, y, x = (
        np.arange(a, b, dtype=np.int64).astype(np.uint32) for a, b in zip(box.start, box.stop, strict=True)
    )
    h = _mix(z + np.uint32(key))
    h = _mix(h[:, None] + y)
    h = _mix(h[:, :, None] + x)
    total = h.view(np.uint8).reshape(*h.shape, 4).sum(axis=-1, dtype=np.uint16)
    return (total.astype(np.float32) - np.float32(510)) / np.float32(math.sqrt(4 * (256**2 - 1) / 12))


@dataclass(frozen=True)
class Rays:
    """Where the voxels of a box lie in the specimen, in nm: sections may be shifted sideways.

    Attributes:
        z: float64 (Z,); y: float64 (Z, Y); x: float64 (Z, X).
    """

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray


@dataclass(frozen=True)
class SmoothNoise:
    """A smooth random field of zero mean and unit variance with a lattice of `spacing_nm` (z, y, x)."""

    key: int
    spacing_nm: tuple[float, float, float]

    def __call__(self, rays: Rays) -> np.ndarray:
        """The field at the voxels, float32 (Z, Y, X)."""
        starts, weights = zip(
            *(_spline(p / s) for p, s in zip((rays.z, rays.y, rays.x), self.spacing_nm, strict=True)),
            strict=True,
        )
        stops = [a + w.shape[-1] for a, w in zip(starts, weights, strict=True)]
        lattice = white(self.key, Box((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2])))
        planes = np.tensordot(weights[0], lattice, axes=1)
        return np.matmul(np.matmul(weights[1], planes), weights[2].swapaxes(-1, -2))


def _spline(place: np.ndarray) -> tuple[int, np.ndarray]:
    """First lattice point and the weights float32 (..., K) of the K points around all places."""
    whole = np.floor(place)
    first, t = int(whole.min()) - 1, place - whole
    four = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], -1)
    weights = np.zeros((*place.shape, int(whole.max()) + 3 - first), np.float32)
    columns = (whole.astype(np.int64) - 1 - first)[..., None] + np.arange(4)
    np.put_along_axis(weights, columns, (four / 6 / math.sqrt(_SPLINE_VARIANCE)).astype(np.float32), -1)
    return first, weights
