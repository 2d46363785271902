"""Views: the few slices of a volume worth showing, chosen so that every class is seen.

1. every plane (cut into windows where it is large) is a candidate; the voxels of each class in it are counted
2. the candidate that adds most of the classes not seen yet is taken, until all are seen
3. the rest are taken as far from the others as possible, among those that are well labelled
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.schema import LabelSchema
from densem.volumes import Volume

SIDE = 1024
"""Longest side of a view in voxels."""

_BUDGET = 1 << 31  # voxels looked at; of a larger volume, evenly spaced slabs are
_SLAB = 16  # planes read together: a chunk as densem writes them


@dataclass(frozen=True)
class _Candidates:
    """Boxes of one plane, and the voxels of each class in them, int64 (N, C)."""

    boxes: tuple[Box, ...]
    counts: np.ndarray


def choose_views(truth: Volume, schema: LabelSchema, count: int = 4, side: int = SIDE) -> tuple[Box, ...]:
    """Boxes of one plane each, ascending in z, that together show all classes of an annotation.

    Args:
        truth: class ids, 255 where unlabelled; planes without labels are not chosen.
        schema: the classes.
        count: how many.
        side: planes longer than this (voxels) are shown in part.
    """
    candidates = _candidates(truth, schema, side)
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates.boxes)):
        chosen.append(_next(candidates, chosen))
    return tuple(sorted(candidates.boxes[i] for i in chosen))


def _candidates(truth: Volume, schema: LabelSchema, side: int) -> _Candidates:
    boxes: list[Box] = []
    counts: list[np.ndarray] = []
    for slab in _slabs(truth.shape, side):
        channels = schema.channel_of_id[np.minimum(truth.read(slab), 255)]
        for depth, plane in enumerate(channels):
            per_class = np.bincount(plane.reshape(-1), minlength=256)[: len(schema)]
            if per_class.any():
                z = slab.start[0] + depth
                boxes.append(Box((z, *slab.start[1:]), (z + 1, *slab.stop[1:])))
                counts.append(per_class)
    return _Candidates(tuple(boxes), np.array(counts, np.int64).reshape(len(boxes), len(schema)))


def _slabs(shape: Triple, side: int) -> list[Box]:
    """Slabs of windows; the last window of an axis is moved inwards to full size."""
    grid = Grid(shape, (_SLAB, side, side))
    step = max(1, -(-shape[0] * shape[1] * shape[2] // _BUDGET))
    slabs = []
    for box in list(grid)[::step]:
        start = (box.start[0], *(max(0, b - side) for b in box.stop[1:]))
        slabs.append(Box(triple(start), box.stop))
    return slabs


def _next(candidates: _Candidates, chosen: list[int]) -> int:
    counts = candidates.counts
    most = np.maximum(counts.max(axis=0), 1)
    shown = counts[chosen].max(axis=0) if chosen else np.zeros(counts.shape[1], np.int64)
    unseen = shown < 0.1 * most  # a speck of a class does not show it
    gain = (np.log1p(counts) / np.log1p(most))[:, unseen & (counts.max(axis=0) > 0)].sum(axis=1)
    gain[chosen] = 0
    if gain.max(initial=0) > 0:
        return int(gain.argmax())
    return _farthest(candidates, chosen)


def _farthest(candidates: _Candidates, chosen: list[int]) -> int:
    corners = np.array([b.start for b in candidates.boxes], np.float64)
    span = np.maximum(np.ptp(corners, axis=0), 1)
    apart = np.abs((corners[:, None] - corners[chosen]) / span).sum(axis=2).min(axis=1)
    labelled = candidates.counts.sum(axis=1)
    score = apart * (labelled >= 0.5 * labelled.max()) + 1e-3 * apart
    score[chosen] = -1
    return int(score.argmax())
