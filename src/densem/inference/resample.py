"""Resampling: a volume seen at a model's voxel size.

    own grid    |--0--|--1--|--2--|--3--|--4--|     centres at (i + 1/2) * size, same corner
    model grid  |----0----|----1----|----2----|

Larger voxels are area averages, smaller ones linear between centres; both are weighted sums over a few
voxels, added in a fixed order, so a voxel has the same value whatever box it is read in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from densem.blocks import Box, Triple, triple
from densem.volumes import Volume
from densem.volumes.volume import Nanometres

STAGE = "at-model-size"
"""Folder inside a prediction for what was predicted on the model's grid; removed at the end."""
Ratio = tuple[float, float, float]


@dataclass(frozen=True)
class Resampled:
    """A lazy array (z, y, x) of float32: a volume at another voxel size.

    Attributes:
        source: the volume.
        ratio: size of a voxel here over that of the source, per axis; 1 leaves an axis as it is.
    """

    source: Volume
    ratio: Ratio

    @property
    def dtype(self) -> np.dtype:
        """Always float32."""
        return np.dtype(np.float32)

    @property
    def shape(self) -> Triple:
        """Voxels that cover the source."""
        return triple(
            max(1, math.ceil(n / r - 1e-6)) for n, r in zip(self.source.shape, self.ratio, strict=True)
        )

    def __getitem__(self, key: Any) -> np.ndarray:
        """The voxels of three slices, float32 (Z, Y, X)."""
        spans = [range(*k.indices(n)) for k, n in zip(key, self.shape, strict=True)]
        taps = [_taps(s, r, n) for s, r, n in zip(spans, self.ratio, self.source.shape, strict=True)]
        if any(len(s) == 0 for s in spans):
            return np.zeros(tuple(len(s) for s in spans), np.float32)
        start = triple(int(places.min()) for places, _ in taps)
        stop = triple(int(places.max()) + 1 for places, _ in taps)
        block = self.source.read(Box(start, stop)).astype(np.float32)
        for axis, (places, weights) in enumerate(taps):
            block = _weigh(block, axis, places - start[axis], weights)
        return block


def at_size(volume: Volume, voxel_size_nm: Nanometres, tolerance: float) -> Volume:
    """The volume seen at another voxel size; axes within the tolerance are left as they are.

    Returns:
        A lazy float32 volume without stored statistics; its id names source and size.
    """
    ratio = [
        m / v if abs(v - m) > tolerance * m else 1.0
        for v, m in zip(volume.voxel_size_nm, voxel_size_nm, strict=True)
    ]
    z, y, x = (v * r for v, r in zip(volume.voxel_size_nm, ratio, strict=True))
    array = Resampled(volume, (ratio[0], ratio[1], ratio[2]))
    identity = f"{volume.id} at {z:g} {y:g} {x:g} nm"
    return Volume(array, (z, y, x), volume.offset_nm, volume.path, {"id": identity})


def _taps(span: range, ratio: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Source places int (N, K) and weights float32 (N, K) for each voxel of a span; weights sum to 1."""
    centre = np.asarray(span, float)
    if ratio == 1:
        return np.asarray(span)[:, None], np.ones((len(span), 1), np.float32)
    if ratio < 1:
        place = np.clip((centre + 0.5) * ratio - 0.5, 0, n - 1)
        first = np.floor(place).astype(int)
        share = place - first
        places = np.stack([first, np.minimum(first + 1, n - 1)], axis=1)
        return places, np.stack([1 - share, share], axis=1).astype(np.float32)
    low, high = centre * ratio, np.minimum((centre + 1) * ratio, n)
    first = np.floor(low + 1e-9).astype(int)
    places = first[:, None] + np.arange(math.ceil(ratio) + 1)
    cover = np.minimum(high[:, None], places + 1) - np.maximum(low[:, None], places)
    cover = np.clip(cover, 0, None)
    weights = cover / cover.sum(axis=1, keepdims=True)
    return np.minimum(places, n - 1), weights.astype(np.float32)


def _weigh(block: np.ndarray, axis: int, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum of planes along an axis, tap by tap."""
    shape = [1, 1, 1]
    shape[axis] = -1
    total = np.take(block, places[:, 0], axis) * weights[:, 0].reshape(shape)
    for k in range(1, places.shape[1]):
        total += np.take(block, places[:, k], axis) * weights[:, k].reshape(shape)
    return total
