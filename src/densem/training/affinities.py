"""Affinities: whether a voxel and one some way off are of the same object, learnt beside the classes.

    offset (0, 0, 1)     ids      1 1 2 0 0 3 ?    target of p: are p and p + offset one object
                         target   1 0 0 . 0 . .    .: not asked: one of them is unknown or beyond the patch,
                                                      or neither is of an object

Near offsets say where objects end; far ones, which are right even where a membrane is missed for some voxels,
say which voxels must never be joined. Pairs outside of objects are never asked for, and would outweigh those
between objects, which matter most.
Sources: Turaga et al., Neural Computation 22 (2010); Lee et al., arXiv:1706.00120 (2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from densem.blocks import Triple
from densem.sampling.object_labels import UNKNOWN

IGNORED = 255
REACHES = (1, 3, 9)
"""In voxels of a section; along z as many nanometres, in whole sections."""
RAREST = 0.05
"""Pairs of one kind that are rarer than this weigh as if they were so frequent."""


def default_offsets(voxel_size_nm: tuple[float, float, float]) -> tuple[Triple, ...]:
    """Offsets along each axis: the next voxel, and farther ones of about equal length in nm.

    Args:
        voxel_size_nm: (z, y, x).
    """
    side = min(voxel_size_nm)
    found: list[Triple] = []
    for reach in REACHES:
        for axis in range(3):
            step = max(1, round(reach * side / voxel_size_nm[axis]))
            offset = [0, 0, 0]
            offset[axis] = step
            if (triple := (offset[0], offset[1], offset[2])) not in found:
                found.append(triple)
    return tuple(found)


def affinity_targets(objects: Tensor, offsets: Sequence[Triple]) -> Tensor:
    """Which pairs of voxels are of one object.

    Args:
        objects: int (N, Z, Y, X), ids; 0 is no object, `UNKNOWN` is not known.
        offsets: (z, y, x) in voxels.

    Returns:
        uint8 (N, K, Z, Y, X): 1 where p and p + offset are of one object, 0 where not, 255 where one of them
        is unknown or beyond the patch, or neither is of an object.
    """
    found = objects.new_full((len(objects), len(offsets), *objects.shape[1:]), IGNORED, dtype=torch.uint8)
    for k, offset in enumerate(offsets):
        near, far = _pair(offset, objects.shape[1:])
        a, b = objects[(slice(None), *near)], objects[(slice(None), *far)]
        unasked = (a == UNKNOWN) | (b == UNKNOWN) | ((a == 0) & (b == 0))
        z, y, x = near
        found[:, k, z, y, x] = (a == b).to(torch.uint8).masked_fill_(unasked, IGNORED)
    return found


def affinity_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy in which, for each offset, both kinds of pairs weigh alike.

    Args:
        logits: (N, K, Z, Y, X), any float type.
        targets: uint8 (N, K, Z, Y, X), as `affinity_targets` gives them; 255 takes no part.

    Returns:
        A float32 scalar; 0 where nothing is known.
    """
    known = targets != IGNORED
    truth = torch.where(known, targets, 0).float()
    counts = known.sum((0, 2, 3, 4)).clamp_min(1)
    share = ((truth.sum((0, 2, 3, 4))) / counts).clamp(RAREST, 1 - RAREST)[:, None, None, None]
    weights = known * torch.where(truth > 0, 0.5 / share, 0.5 / (1 - share))
    voxelwise = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return (voxelwise * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)


def _pair(offset: Triple, shape: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Where p and p + offset both lie inside: the slices of p, and of p + offset."""
    near = [slice(max(0, -d), max(0, min(n, n - d))) for d, n in zip(offset, shape, strict=True)]
    far = [slice(max(0, d), max(0, min(n, n + d))) for d, n in zip(offset, shape, strict=True)]
    return near, far
