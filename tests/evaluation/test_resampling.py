"""Resampling: scores of weighted tables, variances that are right for few replicates, permutation by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from densem.evaluation import ContingencyTable, scores
from densem.evaluation.resampling import (
    class_sums,
    mean_iou,
    permutation_p,
    resampled_means,
    resampled_scores,
)
from densem.schema import LabelSchema

SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 1, "color": "#0000ff"},
        "granule": {"id": 7, "color": "#00ff00", "parent": "cell", "organelle": True},
        "core": {"id": 9, "color": "#00ff88", "parent": "granule", "organelle": True},
    },
    "test",
)


def test_mean_ious_of_many_tables_equal_those_of_each() -> None:
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 50, (40, 4, 5)) * (rng.random((40, 4, 1)) < 0.7) * (rng.random((40, 1, 5)) < 0.8)
    tables[:, 0, 0] += 1
    found = mean_iou(class_sums(tables, [0, 1, 2, 3]))
    organelles = mean_iou(class_sums(tables, [2, 3]))
    for table, miou, over_organelles in zip(tables, found, organelles, strict=True):
        expected = scores(ContingencyTable(table, SCHEMA))
        assert miou == pytest.approx(expected.miou)
        if expected.miou_organelles is None:
            assert np.isnan(over_organelles)
        else:
            assert over_organelles == pytest.approx(expected.miou_organelles)


def test_resampled_scores_are_those_of_tables_put_together_from_drawn_blocks() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(1, 50, (3, 6, 4, 5)), rng.integers(1, 50, (3, 2, 4, 5))
    volumes = [class_sums(v, range(4)) for v in (first, second)]
    found = resampled_scores(volumes, 2000, np.random.default_rng(7))
    assert found.shape == (2000, 3)
    drawing = np.random.default_rng(7)
    drawn = [drawing.multinomial(n - 1, np.full(n, 1 / n), size=2000) * n / (n - 1) for n in (6, 2)]
    for index in (0, 999, 1999):
        table = sum(np.tensordot(w[index], v, (0, 1)) for w, v in zip(drawn, (first, second), strict=True))
        assert found[index] == pytest.approx(mean_iou(class_sums(table, range(4))))


def test_a_single_block_stays() -> None:
    volume = class_sums(np.random.default_rng(1).integers(1, 50, (3, 1, 4, 5)), range(4))
    found = resampled_scores([volume], 100, np.random.default_rng(7))
    assert np.ptp(found, axis=0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("values", [[0.1, 0.5], [0.1, 0.5, 0.2], [0.3, 0.1, 0.9, 0.4, 0.35, 0.2]])
def test_means_of_replicates_vary_as_much_as_they_do(values: list[float]) -> None:
    """Of n - 1 drawn from n, the variance is s² / n; of n from n it would be a third too small for three."""
    scores_of = np.tile(values, (200_000, 1))
    drawn = resampled_means(scores_of, np.random.default_rng(3))
    assert drawn.var() == pytest.approx(np.var(values, ddof=1) / len(values), rel=0.02)
    assert drawn.mean() == pytest.approx(np.mean(values), abs=0.005)


def test_a_single_replicate_stays() -> None:
    assert resampled_means(np.array([[0.2], [0.3]]), np.random.default_rng(0)).tolist() == [0.2, 0.3]


def test_blocks_vary_as_much_as_a_mean_does() -> None:
    """With equal blocks and no false positives an IoU is a mean over blocks: its variance is s² / B."""
    hits = np.array([10, 70, 30, 90, 55, 20, 80, 65])
    table = np.zeros((1, 8, 2, 3), np.int64)
    table[0, :, 1, 1], table[0, :, 1, 2] = hits, 100 - hits
    drawn = resampled_scores([class_sums(table, [1])], 100_000, np.random.default_rng(0))[:, 0]
    assert drawn.var() == pytest.approx(np.var(hits / 100, ddof=1) / 8, rel=0.02)


# ---- permutation -----------------------------------------------------------------------------


def test_permutation_by_hand() -> None:
    def p(first: list[float], second: list[float]) -> float:
        return permutation_p(np.array(first), np.array(second), 1000, 0)

    assert p([1, 2, 3], [4, 5, 6]) == 2 / 20  # only the observed dealing and its mirror are as far apart
    assert p([4, 5, 6], [1, 2, 3]) == 2 / 20
    assert p([0], [1, 2]) == 2 / 3  # {1, 2} and {0, 1}; {0, 2} has the same mean as 1
    assert p([1, 2], [1, 2]) == 1
    assert p([0.1, 0.2, 0.3], [0.1 + 0.2, 0.2, 0.1]) == 1  # equal but for rounding
    six = np.arange(6.0)
    assert permutation_p(six, six + 6, 1000, 0) == 2 / 924


@pytest.mark.parametrize("seed", range(4))
def test_exact_permutation_equals_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=6), rng.normal(0.8, 1, size=6)
    expected = stats.permutation_test(
        (first, second), lambda a, b, axis: b.mean(axis) - a.mean(axis), vectorized=True, n_resamples=np.inf
    )
    assert permutation_p(first, second, 1000, 0) == pytest.approx(expected.pvalue)


def test_many_replicates_are_dealt_at_random_and_p_is_never_zero() -> None:
    first, second = np.arange(10.0), np.arange(10.0) + 100  # 20 choose 10 is 184,756
    assert permutation_p(first, second, 999, 0) == 1 / 1000
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=12), rng.normal(0.7, 1, size=12)
    expected = stats.ttest_ind(first, second).pvalue
    assert permutation_p(first, second, 20_000, 0) == pytest.approx(expected, abs=0.01)
    assert permutation_p(first, second, 500, 1) == permutation_p(first, second, 500, 1)
