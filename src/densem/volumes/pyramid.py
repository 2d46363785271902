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
    shrink = _mean if kind == "image" else _mode
    out = np.empty([s // f for s, f in zip(block.shape, by, strict=True)], block.dtype)
    for z in range(len(out)):  # plane by plane: the intermediate sums stay small
        out[z] = shrink(block[z * by[0] : (z + 1) * by[0]], by)[0]
    return out


def _mean(block: np.ndarray, by: Triple) -> np.ndarray:
    """Mean of each cell; integers are summed exactly and rounded, halves to even."""
    wide = np.float32 if block.dtype.kind == "f" else np.uint16 if block.dtype.itemsize == 1 else np.int32
    total = block.astype(wide)
    for axis, factor in enumerate(by):
        if factor > 1:
            first, *others = (_every(total, axis, start, factor) for start in range(factor))
            total = sum(others, first)
    mean = total.astype(np.float32) / np.float32(by[0] * by[1] * by[2])
    return mean if block.dtype.kind == "f" else np.rint(mean, out=mean).astype(block.dtype)


def _every(block: np.ndarray, axis: int, start: int, step: int) -> np.ndarray:
    """Every `step`-th plane along an axis."""
    key = [slice(None)] * 3
    key[axis] = slice(start, None, step)
    return block[tuple(key)]


def _mode(block: np.ndarray, by: Triple) -> np.ndarray:
    """Most frequent value of each cell; of equals the one that comes first."""
    corners = [block[z :: by[0], y :: by[1], x :: by[2]] for z, y, x in itertools.product(*map(range, by))]
    out = corners[0].copy()
    mixed = np.zeros(out.shape, bool)
    for corner in corners[1:]:
        mixed |= corner != out
    out[mixed] = _vote([corner[mixed] for corner in corners])
    return out


def _vote(corners: list[np.ndarray]) -> np.ndarray:
    """Most frequent of equally long arrays (N,), element by element; of equals the one that comes first."""
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
