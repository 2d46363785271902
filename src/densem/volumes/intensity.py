"""Grey-value statistics of a volume from a bounded, seeded sample.

1. Find padding: values that fill a run of `RUN` voxels along an in-plane edge of sampled slices.
2. Draw blocks without repetition; more of them while nearly all of what was drawn is padding.
3. Leave out voxels of a padding value in or beside an in-plane 3 x 3 square that holds nothing else.
4. Take moments, percentiles, histogram and sharpness of the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.errors import EmptyError, InputError
from densem.volumes.volume import Intensity, Volume

BLOCK: Triple = (8, 128, 128)
BLOCKS = 48
ROUNDS = 4
RUN = 32
BINS = 64


def measure_intensity(volume: Volume, seed: int = 0) -> Intensity:
    """Grey-value statistics of an image volume; reads at most 192 blocks of 8 x 128 x 128 voxels.

    Args:
        volume: an image; constant borders are left out.
        seed: which blocks are drawn; the same seed gives the same numbers.

    Raises:
        InputError: if a voxel is not finite.
        EmptyError: if all that were drawn have one value.
    """
    padding = _padding_values(volume)
    sample, curvature = _gather(volume, padding, seed)
    if sample.size == 0 or sample.min() == sample.max():
        value = f"{sample[0]:g}" if sample.size else "that of the padding"
        raise EmptyError(
            f"{volume.path or volume.name}: expected an image, found one value ({value}) in every sampled "
            "voxel; check that this is the right file"
        )
    return _summary(sample, curvature)


def _gather(volume: Volume, padding: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Kept voxels and in-plane Laplacians, both float32 (N,)."""
    kept, curvature, drawn = [], [], 0
    for boxes in _rounds(volume.shape, seed):
        for box in boxes:
            block = _finite_block(volume, box)
            keep = ~_is_padding(block, padding)
            kept.append(block[keep])
            curvature.append(_laplacian(block, keep))
            drawn += block.size
        if sum(k.size for k in kept) * 100 >= drawn:
            break
    return np.concatenate(kept), np.concatenate(curvature)


def _rounds(shape: Triple, seed: int) -> Iterator[list[Box]]:
    """Up to `ROUNDS` lists of up to `BLOCKS` boxes each, none twice."""
    grid = Grid(shape, triple(min(b, s) for b, s in zip(BLOCK, shape, strict=True)))
    count = min(len(grid), ROUNDS * BLOCKS)
    order = np.random.default_rng(seed).choice(len(grid), count, replace=False)
    for start in range(0, count, BLOCKS):
        yield [grid.box(int(i)) for i in sorted(order[start : start + BLOCKS])]


def _finite_block(volume: Volume, box: Box) -> np.ndarray:
    block = volume.read(box).astype(np.float32)
    check_finite(block, box.start, str(volume.path or volume.name))
    return block


def check_finite(block: np.ndarray, start: Triple, where: str) -> None:
    """Refuse NaN and infinities.

    Args:
        block: (Z, Y, X), any type.
        start: where the block begins in its volume, (z, y, x).
        where: named in the message.

    Raises:
        InputError: naming the first voxel that is not finite.
    """
    if block.dtype.kind != "f" or np.isfinite(block).all():
        return
    bad = ~np.isfinite(block)
    first = triple(np.unravel_index(int(bad.argmax()), block.shape))
    z, y, x = (a + b for a, b in zip(start, first, strict=True))
    raise InputError(
        f"{where}: expected numbers, found {block[first]} at voxel z {z}, y {y}, x {x} "
        f"({int(bad.sum())} such voxels in this part); replace them before importing"
    )


def _padding_values(volume: Volume) -> np.ndarray:
    """Values that fill a long run on an edge of the first, last or three inner slices, float32 (N,)."""
    depth, height, width = volume.shape
    slices = sorted({0, depth // 4, depth // 2, 3 * depth // 4, depth - 1})
    edges = [
        *(Box((z, y, 0), (z + 1, y + 1, width)) for z in slices for y in (0, height - 1)),
        *(Box((z, 0, x), (z + 1, height, x + 1)) for z in slices for x in (0, width - 1)),
    ]
    runs = [_long_runs(volume.read(edge).ravel().astype(np.float32)) for edge in edges]
    return np.unique(np.concatenate(runs))


def _long_runs(line: np.ndarray) -> np.ndarray:
    """Values of the runs of at least `RUN` equal voxels in a line (N,)."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(line)) + 1])
    lengths = np.diff(np.concatenate([starts, [line.size]]))
    return line[starts[lengths >= RUN]]


def _is_padding(block: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Voxels of a padding value in or beside an in-plane 3 x 3 square of that value, bool (Z, Y, X)."""
    valued = np.isin(block, padding)
    if not valued.any():
        return valued
    inside = valued.copy()
    for shifted in _around(block):
        inside &= shifted == block
    beside = inside.copy()
    for shifted in _around(inside):
        beside |= shifted
    return beside & valued


def _around(block: np.ndarray) -> Iterator[np.ndarray]:
    """A block seen from each of its eight in-plane neighbours; edges are repeated."""
    ring = np.pad(block, ((0, 0), (1, 1), (1, 1)), mode="edge")
    _, height, width = block.shape
    for dy, dx in itertools.product(range(3), range(3)):
        if (dy, dx) != (1, 1):
            yield ring[:, dy : dy + height, dx : dx + width]


def _laplacian(block: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """In-plane five-point Laplacian where all five voxels are kept, float32 (N,)."""
    if min(block.shape[1:]) < 3:
        return np.zeros(0, np.float32)
    inner, around = (slice(None), slice(1, -1), slice(1, -1)), _neighbours()
    value, whole = -4 * block[inner], keep[inner].copy()
    for place in around:
        value += block[place]
        whole &= keep[place]
    return value[whole]


def _neighbours() -> list[tuple[slice, slice, slice]]:
    every, inner, low, high = slice(None), slice(1, -1), slice(None, -2), slice(2, None)
    return [(every, low, inner), (every, high, inner), (every, inner, low), (every, inner, high)]


def _summary(sample: np.ndarray, curvature: np.ndarray) -> Intensity:
    low, high = (float(v) for v in np.percentile(sample, (0.1, 99.9)))
    std = float(sample.std(dtype=np.float64))
    counts, _ = np.histogram(
        np.clip(sample, low, high), bins=BINS, range=(low, high if high > low else low + 1)
    )
    return Intensity(
        mean=float(sample.mean(dtype=np.float64)),
        std=std,
        minimum=float(sample.min()),
        maximum=float(sample.max()),
        low=low,
        high=high,
        sharpness=float(curvature.std(dtype=np.float64)) / std if curvature.size else 0.0,
        histogram=tuple(float(c) for c in counts / counts.sum()),
    )
