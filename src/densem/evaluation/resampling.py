"""Resampling: mean IoUs of many resampled block tables at once, and the permutation test of two samples.

A round of the bootstrap gives every evaluation block a weight, how often it was drawn, and every network the
score of its weighted tables. One less is drawn than there is (n - 1 of n): drawing n of n has a variance too
small by (n - 1) / n, a third for three replicates, and drawing n - 1 has the right one.

Sources: Rao and Wu, Resampling inference with complex survey data, JASA 1988 (n - 1 of n); Phipson and
Smyth, Permutation p-values should never be zero, 2010.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

EXACT = 100_000
"""Up to so many ways of dealing the replicates to two rows, all are looked at."""

_CHUNK = 1 << 22  # weights held at once


def class_sums(counts: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """What IoUs need of tables (..., C, C + 1): hits, true and predicted voxels, float64 (..., 3, K)."""
    chosen = list(channels)
    sums = (counts[..., chosen, chosen], counts.sum(axis=-1)[..., chosen], counts.sum(axis=-2)[..., chosen])
    return np.stack(sums, axis=-2).astype(np.float64)


def mean_iou(sums: np.ndarray) -> np.ndarray:
    """Mean over the classes of TP / (TP + FP + FN), of what `class_sums` gave, float64 (...).

    A class in neither volume does not enter; NaN where no class does.
    """
    hits, truth, predicted = (sums[..., row, :] for row in range(3))
    union = truth + predicted - hits
    there = union > 0
    ious = np.divide(hits, union, out=np.zeros_like(hits), where=there)
    classes = there.sum(axis=-1)
    return np.divide(ious.sum(axis=-1), classes, out=np.full(classes.shape, np.nan), where=classes > 0)


def resampled_scores(volumes: Sequence[np.ndarray], rounds: int, random: np.random.Generator) -> np.ndarray:
    """Scores of every network when the blocks are drawn anew, the same blocks for all networks.

    Args:
        volumes: for each test volume the sums of `class_sums`, float64 (N, B, 3, K): networks, blocks.
            Blocks are drawn within their volume, which keeps its weight; a single block stays.
        rounds: how often.
        random: where the draws come from.

    Returns:
        float64 (rounds, N); NaN where no class was drawn.
    """
    networks, _, _, classes = volumes[0].shape
    most = max(v.shape[1] for v in volumes)
    step = max(1, _CHUNK // max(most, networks * 3 * classes))
    parts = []
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        sums = np.zeros((size, networks, 3, classes))
        for volume in volumes:
            sums += np.tensordot(_weights(volume.shape[1], size, random), volume, axes=(1, 1))
        parts.append(mean_iou(sums))
    return np.concatenate(parts)


def _weights(blocks: int, rounds: int, random: np.random.Generator) -> np.ndarray:
    """How often each block is drawn, float64 (rounds, blocks), scaled so that they sum to `blocks`."""
    if blocks < 2:
        return np.ones((rounds, blocks))
    drawn = random.multinomial(blocks - 1, np.full(blocks, 1 / blocks), size=rounds)
    return drawn * (blocks / (blocks - 1))


def resampled_means(scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Means over replicates drawn anew in every round, float64 (rounds,), of scores (rounds, n).

    One less than n is drawn; a single replicate stays.
    """
    rounds, replicates = scores.shape
    if replicates < 2:
        return scores[:, 0]
    drawn = random.integers(0, replicates, (rounds, replicates - 1))
    return np.take_along_axis(scores, drawn, axis=1).mean(axis=1)


def permutation_p(first: np.ndarray, second: np.ndarray, rounds: int, seed: int) -> float:
    """Two-sided p of a difference of means under random dealing of all values to both samples.

    Every dealing is looked at if there are at most 100,000 (12 choose 6 is 924): the p is exact. Else so
    many random ones as `rounds` says, and the one observed counts as one of them (Phipson and Smyth, 2010).

    Args:
        first: scores (n,).
        second: scores (m,).
        rounds: random dealings.
        seed: of them.
    """
    pooled = np.concatenate([first, second])
    total, size = len(pooled), len(second)
    observed = abs(second.mean() - first.mean())
    exact = math.comb(total, size) <= EXACT
    if exact:
        chosen = np.array(list(combinations(range(total), size)))
    else:
        random = np.random.default_rng(seed)
        chosen = np.argsort(random.random((rounds, total)), axis=1)[:, :size]
    sums = pooled[chosen].sum(axis=1)
    differences = np.abs(sums / size - (pooled.sum() - sums) / (total - size))
    # Dealings that are the observed one in another order must not fall below it by rounding.
    extreme = int((differences >= observed - 1e-12 * max(1.0, observed)).sum())
    return extreme / len(chosen) if exact else (extreme + 1) / (rounds + 1)
