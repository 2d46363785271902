"""Watershed: a body cut at its necks, by the distance of each voxel to the body's surface.

1. distance to the nearest voxel outside, in nm (an edge of the array is outside only where it is closed)
2. a basin around every local maximum of the distance (scikit-image's watershed)
3. neighbouring basins are joined from the widest neck to the narrowest, while the lower one of their two
   maxima rises by less than h above the neck

Step 3 leaves one body for each h-maximum: a maximum whose height above the highest pass to a higher one
(its dynamics) is at least h. Source: Grimaud, New measure of contrast: the dynamics, 1992; h-maxima as in
Soille, Morphological Image Analysis, 2003, section 6.3.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import edt
import numpy as np
from skimage.measure import label
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from densem.blocks import Triple
from densem.objects.seams import NEIGHBOURS, shifted
from densem.volumes.volume import Nanometres

Sides = Sequence[tuple[bool, bool]]
"""Whether the low and the high side of each axis are closed: what is beyond is outside of the body."""


def split_body(
    mask: np.ndarray, voxel_size_nm: Nanometres, h_nm: float, connectivity: Literal[6, 26], closed: Sides
) -> tuple[np.ndarray, int]:
    """Cut a body at its necks.

    Args:
        mask: bool (Z, Y, X), the body.
        voxel_size_nm: (z, y, x).
        h_nm: by how much a neck's radius must be below that of the smaller body at it.
        connectivity: how voxels of a part are joined, 6 or 26.
        closed: sides of the array beyond which the body ends.

    Returns:
        int32 (Z, Y, X): parts from 1 in C order of their first voxels, 0 outside; and how many there are.
    """
    distance = _distance(mask, voxel_size_nm, closed)
    least = min(voxel_size_nm)  # of any distance, so of any pass
    if not np.isfinite(distance).all() or distance.max(initial=0) - least < h_nm:  # no maximum rises by h
        basins, count = label(mask, connectivity=_rank(connectivity), return_num=True)
        return basins.astype(np.int32), int(count)
    maxima = label(local_maxima(distance, connectivity=3) & mask, connectivity=3)
    basins = watershed(-distance, maxima, mask=mask, connectivity=_rank(connectivity)).astype(np.int32)
    peaks = np.zeros(int(basins.max()) + 1)
    np.maximum.at(peaks, basins.reshape(-1), distance.reshape(-1))
    passes = _passes(basins, distance, connectivity)
    return in_order(_merge(passes, peaks, h_nm)[basins])


def may_fall_apart(shape: Triple, voxel_size_nm: Nanometres, h_nm: float, closed: Sides) -> bool:
    """Whether a connected body that fills a box could be cut at all; tells noise from bodies at no cost.

    No distance in it is above that to the middle of the box, and none below the shortest side of a voxel.

    Args:
        shape: of the box, voxels.
        voxel_size_nm: (z, y, x).
        h_nm: as in `split_body`.
        closed: sides of the box beyond which the body ends.
    """
    largest = min(
        size * {0: math.inf, 1: n, 2: (n + 1) // 2}[low + high]
        for n, size, (low, high) in zip(shape, voxel_size_nm, closed, strict=True)
    )
    return largest - min(voxel_size_nm) >= h_nm * (1 - 1e-6)


def _rank(connectivity: int) -> int:
    return 1 if connectivity == 6 else 3


def _distance(mask: np.ndarray, voxel_size_nm: Nanometres, closed: Sides) -> np.ndarray:
    """Distance in nm to the nearest voxel outside, float32; infinite where there is none."""
    padded = np.pad(mask, [(int(low), int(high)) for low, high in closed])
    found = edt.edt(padded, anisotropy=voxel_size_nm, black_border=False, parallel=1)
    inner = tuple(slice(int(low), n - int(high)) for (low, high), n in zip(closed, padded.shape, strict=True))
    return np.ascontiguousarray(found[inner])


def _passes(
    basins: np.ndarray, distance: np.ndarray, connectivity: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The highest pass of each pair of neighbouring basins: both basins and its height, highest first."""
    pairs, heights = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    for step in NEIGHBOURS:
        if connectivity == 6 and sum(map(abs, step)) > 1:
            continue
        a, b = shifted((basins.shape[0], basins.shape[1], basins.shape[2]), step)
        meet = (basins[a] != basins[b]) & (basins[a] > 0) & (basins[b] > 0)
        both = np.stack([basins[a][meet], basins[b][meet]], axis=1).astype(np.int64)
        pairs.append(np.sort(both, axis=1))
        heights.append(np.minimum(distance[a][meet], distance[b][meet]))
    pair, height = np.concatenate(pairs), np.concatenate(heights)
    code = pair[:, 0] << 32 | pair[:, 1]
    order = np.lexsort((-height, code))
    code, height = code[order], height[order]
    first = np.flatnonzero(np.diff(code, prepend=-1))  # the highest of each pair
    code, height = code[first], height[first]
    order = np.lexsort((code, -height))
    code, height = code[order], height[order]
    return code >> 32, code & 0xFFFFFFFF, height


def _merge(passes: tuple[np.ndarray, np.ndarray, np.ndarray], peaks: np.ndarray, h_nm: float) -> np.ndarray:
    """Which basin each basin becomes a part of, int64."""
    parent = list(range(len(peaks)))
    top = peaks.tolist()

    def find(basin: int) -> int:
        while parent[basin] != basin:
            parent[basin] = parent[parent[basin]]
            basin = parent[basin]
        return basin

    for a, b, height in zip(*(values.tolist() for values in passes), strict=True):
        one, other = sorted((find(a), find(b)))
        if one != other and min(top[one], top[other]) - height < h_nm:
            parent[other] = one
            top[one] = max(top[one], top[other])
    return np.array([find(basin) for basin in range(len(peaks))], np.int64)


def in_order(parts: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbered from 1 in C order of first voxels."""
    found, first = np.unique(parts, return_index=True)
    inside = found > 0
    found, first = found[inside], first[inside]
    table = np.zeros(int(found.max(initial=0)) + 1, np.int32)
    table[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return table[parts], len(found)
