"""Image pyramids: each level halves the axes that are finest, images by mean, labels by mode.

An axis is halved while its voxel is at most 1.5 times the smallest one, so that levels become
isotropic; levels end when the largest in-plane side is at most 256 voxels.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from densem.blocks import Grid, Triple, triple
from densem.volumes.ome_zarr import Kind, Layout, create_array
from densem.volumes.volume import Nanometres

SMALLEST = 256


def factors(voxel_size_nm: Nanometres, shape: Triple) -> Triple:
    """By how much each axis shrinks to the next level: 1 or 2, (z, y, x)."""
    finest = min(voxel_size_nm)
    return triple(2 if v <= 1.5 * finest and s > 1 else 1 for v, s in zip(voxel_size_nm, shape, strict=True))


def reduce(block: np.ndarray, by: Triple, kind: Kind) -> np.ndarray:
    """Shrink (Z, Y, X) by whole factors; an odd last plane is repeated, so edges keep their value."""
    pad = [(0, -s % f) for s, f in zip(block.shape, by, strict=True)]
    block = np.pad(block, pad, mode="edge") if any(p for _, p in pad) else block
    corners = [block[z :: by[0], y :: by[1], x :: by[2]] for z, y, x in itertools.product(*map(range, by))]
    return _mean(corners) if kind == "image" else _mode(corners)


def _mean(corners: list[np.ndarray]) -> np.ndarray:
    """Mean of equally shaped arrays; integers are rounded, halves to even."""
    total = corners[0].astype(np.float32)
    for corner in corners[1:]:
        total += corner
    total /= len(corners)
    dtype = corners[0].dtype
    return total.astype(dtype) if dtype.kind == "f" else np.rint(total).astype(dtype)


def _mode(corners: list[np.ndarray]) -> np.ndarray:
    """Most frequent of equally shaped arrays, voxel by voxel; of equals the one that comes first."""
    best, most = corners[0].copy(), np.zeros(corners[0].shape, np.uint8)
    for i, corner in enumerate(corners):
        votes = np.ones(corner.shape, np.uint8)
        for other in corners[i + 1 :]:
            votes += corner == other
        better = votes > most
        np.copyto(best, corner, where=better)
        np.copyto(most, votes, where=better)
    return best


def build(folder: Path, voxel_size_nm: Nanometres, kind: Kind) -> list[tuple[str, Nanometres]]:
    """Add the coarser levels to a volume folder whose level `s0` is written.

    Works block by block, each block whole shards of the level it writes.

    Returns:
        (array name, voxel size in nm) of every level, finest first.
    """
    group = zarr.open_group(folder, mode="r+")
    levels = [("s0", voxel_size_nm)]
    source: Any = group["s0"]
    while max(source.shape[1:]) > SMALLEST:
        by = factors(voxel_size_nm, triple(source.shape))
        voxel_size_nm = (voxel_size_nm[0] * by[0], voxel_size_nm[1] * by[1], voxel_size_nm[2] * by[2])
        shape = triple(-(-s // f) for s, f in zip(source.shape, by, strict=True))
        layout = Layout.fitting(shape)
        name = f"s{len(levels)}"
        target = create_array(group, name, shape, source.dtype, layout)
        for box in Grid(shape, layout.shard):
            read = tuple(
                slice(a * f, min(b * f, s))
                for a, b, f, s in zip(box.start, box.stop, by, source.shape, strict=True)
            )
            target[box.slices] = reduce(np.asarray(source[read]), by, kind)
        levels.append((name, voxel_size_nm))
        source = target
    return levels
