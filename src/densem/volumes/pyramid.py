"""Image pyramids: each level halves the axes that are finest, images by mean, labels by mode.

An axis is halved while its voxel is at most 1.5 times the smallest one, so that levels become
isotropic; levels end when the largest in-plane side is at most 256 voxels.
"""

from __future__ import annotations

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
    z, y, x = (s // f for s, f in zip(block.shape, by, strict=True))
    cells = block.reshape(z, by[0], y, by[1], x, by[2]).transpose(0, 2, 4, 1, 3, 5).reshape(z, y, x, -1)
    return _mean(cells, block.dtype) if kind == "image" else _mode(cells)


def _mean(cells: np.ndarray, dtype: np.dtype) -> np.ndarray:
    mean = cells.mean(axis=-1, dtype=np.float32)
    return mean.astype(dtype) if dtype.kind == "f" else np.rint(mean).astype(dtype)


def _mode(cells: np.ndarray) -> np.ndarray:
    """Most frequent value of each cell; of equals the one whose first voxel comes first."""
    votes = (cells[..., :, None] == cells[..., None, :]).sum(axis=-1)
    return np.take_along_axis(cells, votes.argmax(axis=-1)[..., None], axis=-1)[..., 0]


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
