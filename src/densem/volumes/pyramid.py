"""Image pyramids: each level halves the axes that are finest, images by mean, labels by mode.

An axis is halved while its voxel is at most 1.5 times the smallest one, so that levels become
isotropic; levels end when the largest in-plane side is at most 256 voxels. An axis of a single voxel is not
halved, and its voxel has no say in which others are.
"""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from densem.blocks import Box, Crew, Grid, Journal, LocalCrew, Triple, triple, verify
from densem.volumes import shards
from densem.volumes.ome_zarr import Kind, Layout, create_array, levels_folder
from densem.volumes.volume import Nanometres

SMALLEST = 256


def factors(voxel_size_nm: Nanometres, shape: Triple) -> Triple:
    """By how much each axis shrinks to the next level: 1 or 2, (z, y, x); all 1 only for a single voxel."""
    finest = min((v for v, s in zip(voxel_size_nm, shape, strict=True) if s > 1), default=0.0)
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


# ---- a volume's levels -----------------------------------------------------------------------


@dataclass(frozen=True)
class LevelTask:
    """Writes one block of a level: whole shards of it, from the level before. Can be sent to other machines.

    Attributes:
        folder: of the volume.
        source: name of the level that is read.
        target: name of the level that is written.
        by: how many voxels become one, (z, y, x).
        kind: images by mean, labels by mode.
    """

    folder: Path
    source: str
    target: str
    by: Triple
    kind: Kind

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write a box of the level and read it back; gives its digest. On return it is on disk.

        Raises:
            IntegrityError: if the disk gives back something else.
        """
        group = zarr.open_group(self.folder, mode="r+")
        source, target = _array(group, self.source), _array(group, self.target)
        read = tuple(
            slice(a * f, min(b * f, s))
            for a, b, f, s in zip(box.start, box.stop, self.by, source.shape, strict=True)
        )
        block = reduce(np.asarray(source[read]), self.by, self.kind)
        return {"digest": shards.write_verified(target, box, block)}

    def holds(self, grid: Grid, record: dict[str, Any]) -> bool:
        """Whether a block on disk is what its record says."""
        target = _array(zarr.open_group(self.folder, mode="r"), self.target)
        return shards.digest(target, grid.box(record["block"])) == record["digest"]


@dataclass(frozen=True)
class Coarser:
    """A level of a pyramid above the first.

    Attributes:
        shape: in voxels, (z, y, x).
        voxel_size_nm: (z, y, x).
        by: how many voxels of the level before become one, (z, y, x).
    """

    shape: Triple
    voxel_size_nm: Nanometres
    by: Triple


def coarser_levels(shape: Triple, voxel_size_nm: Nanometres) -> Iterator[Coarser]:
    """The levels above one of this shape and voxel size, finest first."""
    while max(shape[1:]) > SMALLEST:
        by = factors(voxel_size_nm, shape)
        z, y, x = (v * f for v, f in zip(voxel_size_nm, by, strict=True))
        voxel_size_nm = (z, y, x)
        shape = triple(-(-s // f) for s, f in zip(shape, by, strict=True))
        yield Coarser(shape, voxel_size_nm, by)


def build(
    folder: Path, voxel_size_nm: Nanometres, kind: Kind, crew: Crew | None = None, workers: int = 1
) -> list[tuple[str, Nanometres]]:
    """Add the coarser levels to a volume folder whose level `s0` is written.

    Works block by block, each block whole shards of the level it writes, so any crew gives the same bytes.
    A journal beside the folder keeps what is done: after a kill the same call goes on from there.

    Args:
        folder: of the volume; `s0` is not changed any more.
        voxel_size_nm: of `s0`, (z, y, x).
        kind: images by mean, labels by mode.
        crew: who does the blocks; by default one thread of this process.
        workers: threads that look at what an earlier call left.

    Returns:
        (array name, voxel size in nm) of every level, finest first.

    Raises:
        IncompleteError, ResourceError: as `coordinate`.
    """
    folder = folder.resolve()  # as other machines see it
    levels = [("s0", voxel_size_nm)]
    shape = triple(_array(zarr.open_group(folder, mode="r"), "s0").shape)
    for level in coarser_levels(shape, voxel_size_nm):
        task = LevelTask(folder, levels[-1][0], f"s{len(levels)}", level.by, kind)
        _build_level(task, level.shape, crew or LocalCrew(), workers)
        levels.append((task.target, level.voxel_size_nm))
    shutil.rmtree(levels_folder(folder), ignore_errors=True)
    return levels


def forget(folder: Path) -> None:
    """Remove the coarser levels of a volume folder, and what is known of them."""
    shutil.rmtree(levels_folder(folder), ignore_errors=True)
    for coarser in folder.glob("s[1-9]*"):
        shutil.rmtree(coarser)


def _build_level(task: LevelTask, shape: Triple, crew: Crew, workers: int) -> None:
    layout = Layout.fitting(shape)
    grid, journal = Grid(shape, layout.shard), Journal(levels_folder(task.folder) / task.target)
    group = zarr.open_group(task.folder, mode="r+")
    plan = {"shape": shape, "block": layout.shard, "by": task.by, "kind": task.kind}
    if journal.begin(plan) and task.target in group:
        verify(journal, functools.partial(task.holds, grid), workers)
        shards.sweep(_array(group, task.target), grid, journal.done())
    else:
        shutil.rmtree(task.folder / task.target, ignore_errors=True)
        journal.keep(set())
        create_array(group, task.target, shape, _array(group, task.source).dtype, layout)
    done = crew.do(task, grid, journal).done
    shards.sweep(_array(group, task.target), grid, frozenset())  # of workers that were killed over a block
    if done:  # then whatever was made of this level is made anew
        coarser = levels_folder(task.folder) / f"s{int(task.target[1:]) + 1}"
        shutil.rmtree(coarser, ignore_errors=True)


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array
