"""Mutex watershed: a body cut by what a network says about pairs of its voxels.

1. neighbours attract each other with their affinity a, pairs farther apart repel each other with 1 - a; a
   bias above a half takes from the former what it adds to the latter
2. pairs are taken from the strongest to the weakest; one that attracts joins the parts of both its voxels,
   unless these exclude each other; one that repels makes the two parts exclude each other, if they are not
   one already
3. parts of a few voxels go to the neighbour they share most faces with; not those at a side of the array
   beyond which the body goes on, of which more may lie there

Since only neighbours attract, parts hang together. Of pairs farther apart every second one along each axis is
used, which halves the memory. Equal weights are taken in the order of offsets and voxels, so that the outcome
is always the same. Source: Wolf et al., The mutex watershed, ECCV 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densem.blocks import Triple
from densem.objects.seams import shifted
from densem.objects.watershed import Sides, in_order

TIES = 1e-4
"""Of the weight: what equal ones are told apart by; less than a step of 1/255."""
STRIDE = 2
FRAGMENT = 8
"""Voxels of the smallest part that stays one."""
ENDED: Sides = ((False, False),) * 3


def split_by_affinities(
    mask: np.ndarray, affinities: np.ndarray, offsets: Sequence[Triple], bias: float, going_on: Sides = ENDED
) -> tuple[np.ndarray, int]:
    """Cut a body between voxels that are not of one object.

    Args:
        mask: bool (Z, Y, X), the body.
        affinities: uint8 (K, Z, Y, X), round(255 * a) of p and p + offsets[k] being of one object.
        offsets: (z, y, x), at least one of them between neighbours.
        bias: 0 to 1; 0.5 for affinities as they are. Larger: more parts.
        going_on: low and high sides of each axis beyond which the body goes on.

    Returns:
        int32 (Z, Y, X): parts from 1 in C order of their first voxels, 0 outside; and how many there are.
    """
    import mwatershed

    fitting = [
        k for k, o in enumerate(offsets) if all(abs(d) < n for d, n in zip(o, mask.shape, strict=True))
    ]
    if not fitting:  # one voxel
        return mask.astype(np.int32), int(mask.any())
    affinities, offsets = affinities[fitting], [offsets[k] for k in fitting]
    weights = np.zeros(affinities.shape, float)
    for k, offset in enumerate(offsets):
        near, far = shifted((mask.shape[0], mask.shape[1], mask.shape[2]), offset)
        value = affinities[k][near] / 255 + 0.5 - bias
        weight = np.maximum(value, 0) if _neighbours(offset) else np.minimum(value - 1, 0)
        weights[k][near] = np.where(mask[near] & mask[far], weight, 0)
        first, last = 1 + TIES * (1 - k / len(offsets)), 1 + TIES * (1 - (k + 1) / len(offsets))
        weights[k] *= np.linspace(first, last, mask.size, endpoint=False).reshape(mask.shape)
    strides = [[1] * 3 if _neighbours(o) else [STRIDE] * 3 for o in offsets]
    found = mwatershed.agglom(weights, [list(o) for o in offsets], strides=strides).astype(np.int64)
    alone = mask & (found == 0)  # what was joined with nothing
    found[alone] = found.max(initial=0) + np.arange(1, np.count_nonzero(alone) + 1)
    found[~mask] = 0
    labels, count = in_order(found)
    return in_order(_without_fragments(labels, count, going_on))


def _neighbours(offset: Triple) -> bool:
    return sum(map(abs, offset)) == 1


def _without_fragments(labels: np.ndarray, count: int, going_on: Sides) -> np.ndarray:
    """Parts of fewer than `FRAGMENT` voxels given to the larger part they share most faces with."""
    kept = np.zeros(count + 1, bool)
    kept[0] = True
    for axis, sides in enumerate(going_on):
        for place, more in zip((0, -1), sides, strict=True):
            if more:
                kept[np.take(labels, place, axis)] = True
    for _ in range(FRAGMENT):
        small = (np.bincount(labels.reshape(-1), minlength=count + 1) < FRAGMENT) & ~kept
        becomes = _largest_neighbours(labels, small, count)
        if not becomes.any():
            break
        table = np.where(becomes > 0, becomes, np.arange(count + 1))
        labels = table[labels]
    return labels


def _largest_neighbours(labels: np.ndarray, small: np.ndarray, count: int) -> np.ndarray:
    """For each small part the other one it shares most faces with, if that is no small one; else 0."""
    codes = []
    for axis in range(3):
        planes = np.moveaxis(labels, axis, 0)
        near, far = planes[:-1].reshape(-1), planes[1:].reshape(-1)
        for one, other in ((near, far), (far, near)):
            meet = small[one] & (other > 0) & ~small[other]
            codes.append(one[meet].astype(np.int64) * (count + 1) + other[meet])
    found, faces = np.unique(np.concatenate(codes), return_counts=True)
    one, other = found // (count + 1), found % (count + 1)
    order = np.lexsort((-other, faces))  # most faces last, and of equals the first part
    becomes = np.zeros(count + 1, np.int64)
    becomes[one[order]] = other[order]
    return becomes
