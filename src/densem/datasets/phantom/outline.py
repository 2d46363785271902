"""Outlines: voxels in material space, and which cell owns each of them.

1. `Positions`: a voxel's place in the specimen, displaced by a slow warp that makes every form irregular.
2. `outline`: the owner of each voxel and its distance to the cell's border; where bodies overlap, the border
   lies halfway between their outlines, with a thin gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densem.datasets.phantom.body import Body
from densem.datasets.phantom.noise import Rays, SmoothNoise, key_of
from densem.datasets.phantom.solids import Places

GAP_NM = 26.0
"""Mean width of the space between touching cells."""
FAR = np.float32(1e6)
"""A distance that no cell is away, in nm."""
REACH_NM = 120.0
"""Beyond its bounds by so much a body can still be seen."""
_STRIDE = 8
_WARPS = ((700.0, 85.0), (170.0, 13.0))
Slices = tuple[slice, slice, slice]


class Positions:
    """Where the voxels of a box lie in material space, float32 nm.

    Args:
        seed: of the phantom.
        rays: where they lie in the specimen.
    """

    def __init__(self, seed: int, rays: Rays) -> None:
        shift = [
            sum(np.float32(size) * SmoothNoise(key_of(seed, "warp", axis, step), (step,) * 3)(rays)
                for step, size in _WARPS)
            for axis in "zyx"
        ]  # fmt: skip
        straight = (rays.z[:, None, None], rays.y[:, :, None], rays.x[:, None, :])
        self.at: Places = tuple(  # type: ignore[assignment]
            (s + p.astype(np.float32)).astype(np.float32) for s, p in zip(shift, straight, strict=True)
        )
        self._coarse = [a[:, ::_STRIDE, ::_STRIDE] for a in self.at]
        step = max(float(np.abs(np.diff(p, axis=-1)).max(initial=1.0)) for p in (rays.y, rays.x))
        self._slack = 1.6 * _STRIDE * step
        self.low = np.array([a.min() for a in self.at], np.float64)
        self.high = np.array([a.max() for a in self.at], np.float64)

    def near(self, low: np.ndarray, high: np.ndarray) -> Slices | None:
        """The part of the box that holds all voxels between two corners (nm), or None."""
        hit = np.ones(self._coarse[0].shape, bool)
        for a, lower, upper in zip(self._coarse, low - self._slack, high + self._slack, strict=True):
            hit &= (a > lower) & (a < upper)
        if not hit.any():
            return None
        z, y, x = (np.flatnonzero(hit.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1)))
        plane = (slice(max(0, v[0] - 1) * _STRIDE, (v[-1] + 2) * _STRIDE) for v in (y, x))
        return slice(z[0], z[-1] + 1), *plane  # type: ignore[return-value]

    def part(self, where: Slices) -> Places:
        """The places in a part of the box."""
        z, y, x = self.at
        return z[where], y[where], x[where]


@dataclass(frozen=True)
class Outline:
    """The cells on the voxels of a box.

    Attributes:
        owner: int32, number of the cell that owns the voxel; 0 outside.
        distance: float32 nm, signed distance to the border of the nearest cell, negative inside.
        shade: float32, grey of that cell against the mean.
    """

    owner: np.ndarray
    distance: np.ndarray
    shade: np.ndarray


def outline(positions: Positions, bodies: Sequence[Body], seed: int, rays: Rays) -> Outline:
    """Which cell owns each voxel; where bodies overlap, the border lies halfway between their outlines."""
    shape = positions.at[0].shape
    first, second = np.full(shape, FAR), np.full(shape, FAR)
    owner, shade = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for body in bodies:
        low, high = body.bounds()
        where = positions.near(low - REACH_NM, high + REACH_NM)
        if where is None:
            continue
        d = body.distance(positions.part(where))
        closer = d < first[where]
        second[where] = np.where(closer, first[where], np.minimum(second[where], d))
        first[where] = np.where(closer, d, first[where])
        owner[where][closer] = body.number
        shade[where][closer] = body.shade
    ruffle = np.float32(9.0) * SmoothNoise(key_of(seed, "ruffle"), (90.0, 60.0, 60.0))(rays)
    gap = np.float32(GAP_NM) * (1 + 0.4 * SmoothNoise(key_of(seed, "gap"), (300.0, 300.0, 300.0))(rays))
    distance = np.maximum(first + ruffle, (first - second + np.maximum(gap, 0)) / 2)
    owner[distance >= 0] = 0
    return Outline(owner, distance, shade)
