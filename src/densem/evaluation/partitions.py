"""Partitions: adapted Rand error and variation of information of true and predicted objects.

Both ask how a prediction divides the voxels of the true objects, and need no matching. Voxels that belong
to no true object are left out, as both are used in connectomics, so that what is predicted outside the true
objects goes unseen. Voxels of true objects for which no object was predicted (0) make up one part, as in
scikit-image; the script of the SNEMI3D challenge takes each of them as a part of its own instead.

With n(t, p) voxels of true object t in part p of the prediction, and N voxels in all:

    recall     sum of n(t,p) (n(t,p) - 1)  /  sum of n(t) (n(t) - 1)     few splits
    precision  the same                    /  sum of n(p) (n(p) - 1)     few merges
    error      1 - their harmonic mean
    split      H(P | T) = - sum of n(t,p)/N log2 (n(t,p) / n(t))         bits
    merge      H(T | P) = - sum of n(t,p)/N log2 (n(t,p) / n(p))         bits

scikit-image 0.26 gives the same error, but precision and recall in the places of each other.

Sources: Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for
connectomics, 2015; Meila, Comparing clusterings, an information based distance, 2007.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from densem.evaluation.overlaps import totals


@dataclass(frozen=True)
class PartitionScores:
    """How a prediction divides the voxels of the true objects; None where it is not available.

    Attributes:
        adapted_rand_error: 0 (the same parts) to 1.
        rand_precision: share of the pairs of voxels together in the prediction that belong together.
        rand_recall: share of the pairs of voxels that belong together that are so in the prediction.
        vi: variation of information in bits, the sum of split and merge; 0 for the same parts.
        vi_split: what the true objects are split by, in bits.
        vi_merge: what is merged, in bits.
        voxels: of the true objects.
        missed: of these, voxels for which no object was predicted.
    """

    adapted_rand_error: float | None
    rand_precision: float | None
    rand_recall: float | None
    vi: float | None
    vi_split: float | None
    vi_merge: float | None
    voxels: int
    missed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a score that is not available is None (null)."""
        return asdict(self)


def partition_scores(
    true_ids: np.ndarray, predicted_ids: np.ndarray, voxels: np.ndarray, left_out: np.ndarray | None = None
) -> PartitionScores:
    """The scores of a table of overlaps.

    Args:
        true_ids: uint64 (N,), 0 for no object.
        predicted_ids: uint64 (N,); each pair comes once.
        voxels: int64 (N,), above zero.
        left_out: true ids whose voxels are not looked at.
    """
    kept = true_ids > 0
    if left_out is not None:
        kept &= ~np.isin(true_ids, left_out)
    true_ids, predicted_ids, voxels = true_ids[kept], predicted_ids[kept], voxels[kept]
    together, of_truth, of_prediction = (
        _pairs(v) for v in (voxels, totals(true_ids, voxels)[1], totals(predicted_ids, voxels)[1])
    )
    count = int(voxels.sum())
    split = _conditional_entropy(true_ids, voxels, count)
    merge = _conditional_entropy(predicted_ids, voxels, count)
    both = of_truth + of_prediction
    return PartitionScores(
        adapted_rand_error=(both - 2 * together) / both if both else None,
        rand_precision=together / of_prediction if of_prediction else None,
        rand_recall=together / of_truth if of_truth else None,
        vi=None if split is None or merge is None else split + merge,
        vi_split=split,
        vi_merge=merge,
        voxels=count,
        missed=int(voxels[predicted_ids == 0].sum()),
    )


def _pairs(sizes: Iterable[Any]) -> int:
    """Ordered pairs of different voxels within parts, as a Python integer: 10^12 squared is past 64 bits."""
    return sum(n * (n - 1) for n in map(int, sizes))


def _conditional_entropy(given: np.ndarray, voxels: np.ndarray, count: int) -> float | None:
    """Entropy of the overlaps within the parts that are given, in bits."""
    if count == 0:
        return None
    known, sizes = totals(given, voxels)
    of_part = sizes[np.searchsorted(known, given)]
    terms = voxels / count * (np.log2(of_part) - np.log2(voxels))
    return math.fsum(terms)
