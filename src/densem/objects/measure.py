"""Measuring: what is summed of each object over the blocks of a volume, all in whole numbers.

Sums of a block are taken in its own coordinates and moved to those of the volume when blocks are put
together, in integers of any size: the outcome is the same for any blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from densem.blocks import Box, Triple, triple
from densem.objects.nesting import Level
from densem.objects.scratch import Scratch
from densem.objects.seams import shifted
from densem.objects.surface import CORNERS, Direction, directions, euler_table, reach
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes.shared import Shared

MOMENTS = ("z", "y", "x", "zz", "yy", "xx", "zy", "zx", "yx")


@dataclass(frozen=True)
class MeasureTask:
    """Sums over one block of a level. Can be sent to other machines.

    Attributes:
        scratch: of the level.
        objects: ids of the level.
        parents: ids of the level above, if there is one.
        classes: class ids.
        level: its classes.
    """

    scratch: Scratch
    objects: Shared
    parents: Shared | None
    classes: Shared
    level: Level

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the sums of one block."""
        volume = self.objects.get()
        ways = directions(volume.voxel_size_nm, tuple(n == 1 for n in volume.shape))
        read = box.grow(reach(ways)).clip(volume.box)
        ids, classes = volume.read(read), self.classes.get().read(read)
        found = np.unique(ids)
        found = found[found > 0]
        number = np.searchsorted(np.concatenate([[0], found]), ids).astype(np.int32)
        core = box.relative_to(read).slices
        inner = np.ascontiguousarray(number[core])
        channel = channels(self.level.schema)[classes]
        width = len(self.level.schema) + 1
        counted = _counts(inner, channel[core], len(found), width)
        size = len(found), width
        facing = _facing(number, channel, box.relative_to(read), ways, size)
        whole = volume.box.relative_to(read)
        facing += _facing_at_border(number, channel, box.relative_to(read), whole, ways, size)
        sums = {
            "id": found.astype(np.int64),
            "classes": counted,
            "moments": _moments(inner, len(found)),
            "box": _boxes(inner, len(found), box.start),
            "facing": facing,
            "euler": _euler(_with_rim(number, box, read, volume.box), len(found)),
            "start": np.array(box.start, np.int64),
        }
        self.scratch.save(f"sums/{index}", **sums, **self._parents(box, inner, found))
        return {}

    def _parents(self, box: Box, inner: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
        """How many voxels of each object lie in each object of the level above: (N, 3) id, id, count."""
        if self.parents is None:
            return {"inside": np.zeros((0, 3), np.int64)}
        outer = self.parents.get().read(box)
        filled = inner > 0
        pair = inner[filled].astype(np.int64) << 32 | outer[filled]
        codes, count = np.unique(pair, return_counts=True)
        rows = np.stack([found[(codes >> 32) - 1].astype(np.int64), codes & 0xFFFFFFFF, count], axis=1)
        return {"inside": rows.astype(np.int64)}


def channels(schema: LabelSchema) -> np.ndarray:
    """Lookup uint8 (256,): class id -> its channel; unlabelled and unknown ids come last."""
    table = schema.channel_of_id.astype(np.uint8)
    table[table == UNLABELLED] = len(schema)
    return table


def _counts(number: np.ndarray, channel: np.ndarray, count: int, width: int) -> np.ndarray:
    """Voxels of each object and channel, int64 (count, width)."""
    filled = number > 0
    codes = (number[filled].astype(np.int64) - 1) * width + channel[filled]
    return np.bincount(codes, minlength=count * width).reshape(count, width).astype(np.int64)


def _moments(number: np.ndarray, count: int) -> np.ndarray:
    """Sums of coordinates and their products in a block, int64 (count, 9) as `MOMENTS`."""
    out = np.zeros((count + 1, 9), np.int64)
    y, x = np.indices(number.shape[1:]).reshape(2, -1).astype(np.float64)
    for z, plane in enumerate(number):
        filled = np.flatnonzero(plane)
        if len(filled) == 0:
            continue
        of, py, px = plane.reshape(-1)[filled], y[filled], x[filled]
        n = np.bincount(of, minlength=count + 1)
        weights = (py, px, py * py, px * px, py * px)  # below 2^53: exact
        sy, sx, syy, sxx, syx = (
            np.rint(np.bincount(of, w, minlength=count + 1)).astype(np.int64) for w in weights
        )
        out += np.stack([z * n, sy, sx, z * z * n, syy, sxx, z * sy, z * sx, syx], axis=1)
    return out[1:]


def _boxes(number: np.ndarray, count: int, origin: Triple) -> np.ndarray:
    """Start and stop of each object, int64 (count, 2, 3); of one in the halo alone, far away and 0."""
    out = np.zeros((count, 2, 3), np.int64)
    out[:, 0] = 2**40
    for row, spans in enumerate(find_objects(number, count)):
        if spans is not None:
            out[row] = np.array([[s.start for s in spans], [s.stop for s in spans]]) + origin
    return out


def _facing(
    number: np.ndarray, channel: np.ndarray, core: Box, ways: tuple[Direction, ...], size: tuple[int, int]
) -> np.ndarray:
    """Area that each object turns to each channel, int64 (count, width) in `UNIT_NM2`.

    A pair of voxels p and p + step belongs to the block that holds p, if both lie in the volume.
    """
    count, width = size
    out = np.zeros(count * width, np.int64)
    shape = triple(number.shape)
    flat, other = number.reshape(-1), channel.reshape(-1)
    differs = np.zeros(shape, bool)
    for way in ways:
        near = _owned(core, shape, way.step)
        far = tuple(slice(s.start + d, s.stop + d) for s, d in zip(near, way.step, strict=True))
        np.not_equal(number[near], number[far], out=differs[near])
        p = np.flatnonzero(differs)
        q = p + (way.step[0] * shape[1] + way.step[1]) * shape[2] + way.step[2]
        differs[near] = False
        out += _crossings(flat, other, p, q, size) * way.area
    return out.reshape(count, width)


def _crossings(
    number: np.ndarray, channel: np.ndarray, p: np.ndarray, q: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """How often each object is left to each channel between voxels p and q, (count * width,)."""
    count, width = size
    found = np.zeros(count * width, np.int64)
    for mine, beyond in ((p, q), (q, p)):
        codes = (number[mine].astype(np.int64) - 1) * width + channel[beyond]
        found += np.bincount(codes[codes >= 0], minlength=count * width)
    return found


def _facing_at_border(
    number: np.ndarray,
    channel: np.ndarray,
    core: Box,
    whole: Box,
    ways: tuple[Direction, ...],
    size: tuple[int, int],
) -> np.ndarray:
    """What `_facing` leaves out: of lines that leave the volume, the part inside, from p to the last voxel.

    So an object near the border has all of its surface, and one that the border cuts all but the cut.
    """
    count, width = size
    out = np.zeros(count * width, np.int64)
    flat, other = number.reshape(-1), channel.reshape(-1)
    far = core.grow(reach(ways))
    for way in ways if far.clip(whole) != far else ():
        for sign in (1, -1):
            p, q = _leaving(core, whole, np.array(way.step) * sign)
            p, q = (np.ravel_multi_index(tuple(i.T), number.shape) for i in (p, q))
            differs = flat[p] != flat[q]
            out += _crossings(flat, other, p[differs], q[differs], size) * way.area
    return out.reshape(count, width)


def _leaving(core: Box, whole: Box, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels p of the core for which p + step lies beyond the volume, and the last voxel inside, (N, 3).

    Where the line passes between two voxels one end of it takes the one and the other end the other.
    """
    axes = [np.arange(a, b) for a, b in zip(core.start, core.stop, strict=True)]
    ends = zip(axes, step, whole.start, whole.stop, strict=True)
    out = [(axis + d < low) | (axis + d >= high) for axis, d, low, high in ends]
    p = np.argwhere(out[0][:, None, None] | out[1][:, None] | out[2]) + core.start
    low, high = np.array(whole.start), np.array(whole.stop) - 1
    room = np.where(step > 0, high - p, p - low) + 0.5
    part = (room / np.maximum(np.abs(step), 1e-9)).min(axis=1, keepdims=True)
    q = p + np.floor(part * step + 0.5).astype(np.int64)
    return p, np.clip(q, low, high)


def _owned(core: Box, shape: Triple, step: Triple) -> tuple[slice, slice, slice]:
    """The voxels p of the core for which p + step lies in the array."""
    low, _ = shifted(shape, step)
    inside = Box(triple(s.start for s in low), triple(max(s.start, s.stop) for s in low))
    return core.clip(inside).slices


def _with_rim(number: np.ndarray, box: Box, read: Box, whole: Box) -> np.ndarray:
    """A block with the planes below it, and beyond the volume's ends planes of no object."""
    low = Box(triple(s - 1 for s in box.start), box.stop).clip(whole)
    block = number[low.relative_to(read).slices]
    pad = [(int(a == 0), int(b == n)) for a, b, n in zip(box.start, box.stop, whole.stop, strict=True)]
    return np.pad(block, pad)


def _euler(number: np.ndarray, count: int) -> np.ndarray:
    """Eight times what the block adds to the Euler number, int64 (count, 2): joined by 6, and by 26."""
    number = np.ascontiguousarray(number)
    _, ny, nx = number.shape
    shape = tuple(n - 1 for n in number.shape)
    views = [number[tuple(slice(c, c + n) for c, n in zip(k, shape, strict=True))] for k in CORNERS]
    mixed = np.zeros(number.shape, bool)
    inside = mixed[:-1, :-1, :-1]
    for view in views[1:]:
        inside |= view != views[0]
    places, flat = np.flatnonzero(mixed), number.reshape(-1)
    corners = np.stack([flat[places + (z * ny + y) * nx + x] for z, y, x in CORNERS], axis=1)
    tables = np.stack([euler_table(6), euler_table(26)], axis=1)
    out = np.zeros((count + 1, 2), np.int64)
    for i in range(8):
        mine = corners[:, i]
        fresh = (mine > 0) & (corners[:, :i] != mine[:, None]).all(axis=1)
        same = corners[fresh] == mine[fresh, None]
        code = (same << np.arange(8)).sum(axis=1)
        parts = tables[code]
        for way in range(2):
            out[:, way] += np.rint(np.bincount(mine[fresh], parts[:, way], count + 1)).astype(np.int64)
    return out[1:]


# ---- blocks put together ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of the objects of a level over the whole volume, in order of id.

    Attributes:
        id: int64 (N,).
        classes: voxels by channel, int64 (N, C + 1).
        moments: Python integers (N, 9) as `MOMENTS`, in voxels of the volume.
        box: start and stop, int64 (N, 2, 3).
        facing: area turned to each channel in `UNIT_NM2`, int64 (N, C + 1).
        euler: eight times the Euler number with 6 and with 26, int64 (N, 2).
        parent: id of the object of the level above that most voxels lie in, int64 (N,); 0 for none.
    """

    id: np.ndarray
    classes: np.ndarray
    moments: np.ndarray
    box: np.ndarray
    facing: np.ndarray
    euler: np.ndarray
    parent: np.ndarray

    @property
    def voxels(self) -> np.ndarray:
        """Of each object, int64 (N,)."""
        return self.classes.sum(axis=1)


def gather(scratch: Scratch, blocks: int, ids: np.ndarray, width: int) -> Sums:
    """Put the sums of all blocks together.

    Args:
        scratch: of the level.
        blocks: how many.
        ids: the level's, ascending, without a gap.
        width: number of channels.
    """
    n, first = len(ids), int(ids[0]) if len(ids) else 0
    classes, facing = np.zeros((n, width), np.int64), np.zeros((n, width), np.int64)
    moments, euler = np.zeros((n, 9), object), np.zeros((n, 2), np.int64)
    box = np.zeros((n, 2, 3), np.int64)
    box[:, 0] = 2**40
    votes = [np.zeros((0, 3), np.int64)]
    for block in range(blocks):
        part = scratch.load(f"sums/{block}")
        rows = part["id"] - first
        classes[rows] += part["classes"]
        facing[rows] += part["facing"]
        euler[rows] += part["euler"]
        moments[rows] += _moved(part["moments"], part["classes"].sum(axis=1), part["start"])
        box[rows, 0] = np.minimum(box[rows, 0], part["box"][:, 0])
        box[rows, 1] = np.maximum(box[rows, 1], part["box"][:, 1])
        votes.append(part["inside"])
    parent = _majority(np.concatenate(votes), ids)
    return Sums(ids, classes, moments, box, facing, euler, parent)


def _moved(moments: np.ndarray, count: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Sums of a block in the volume's coordinates, Python integers (N, 9)."""
    z, y, x, zz, yy, xx, zy, zx, yx = moments.astype(object).T
    n = count.astype(object)
    a, b, c = (int(s) for s in start)
    return np.stack(
        [
            z + a * n, y + b * n, x + c * n,
            zz + 2 * a * z + a * a * n, yy + 2 * b * y + b * b * n, xx + 2 * c * x + c * c * n,
            zy + a * y + b * z + a * b * n, zx + a * x + c * z + a * c * n, yx + b * x + c * y + b * c * n,
        ],
        axis=1,
    )  # fmt: skip


def _majority(votes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Of each id the other id with most votes, 0 being one; of equals the smallest."""
    parent = np.zeros(len(ids), np.int64)
    if len(votes) == 0:
        return parent
    pairs, of = np.unique(votes[:, :2], axis=0, return_inverse=True)
    count = np.zeros(len(pairs), np.int64)
    np.add.at(count, of.reshape(-1), votes[:, 2])
    order = np.lexsort((pairs[:, 1], -count, pairs[:, 0]))
    mine, best = np.unique(pairs[order, 0], return_index=True)
    parent[mine - ids[0]] = pairs[order[best], 1]
    return parent
