"""Adapted Rand error and variation of information: scikit-image as the oracle, literals by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from densem.evaluation import ObjectVolumes, overlaps, partition_scores
from densem.volumes import Volume

SHAPE, VOXELS = (4, 6, 9), (40.0, 10.0, 8.0)


def scored(truth, prediction, **kwargs):
    volumes = (Volume(np.asarray(a, np.uint64).reshape(1, 1, -1), VOXELS) for a in (truth, prediction))
    return partition_scores(*overlaps(ObjectVolumes(*volumes, **kwargs)).pairs())


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_scikit_image(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 6, SHAPE), rng.integers(0, 4, SHAPE)
    prediction = np.where(rng.random(SHAPE) < 0.7, truth, prediction)
    found = scored(truth, prediction)
    error, *_ = adapted_rand_error(truth, prediction)
    split, merge = variation_of_information(truth, prediction, ignore_labels=(0,))
    assert found.adapted_rand_error == pytest.approx(error, rel=1e-12)
    assert (found.vi_split, found.vi_merge) == (pytest.approx(split), pytest.approx(merge))
    assert found.vi == found.vi_split + found.vi_merge
    assert (found.voxels, found.missed) == ((truth > 0).sum(), ((truth > 0) & (prediction == 0)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_equal_pairs_counted_one_by_one(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 4, 40), rng.integers(0, 3, 40)
    t, p = truth[truth > 0], prediction[truth > 0]
    apart = ~np.eye(t.size, dtype=bool)
    in_truth, in_prediction = (apart & (a[:, None] == a) for a in (t, p))
    both = (in_truth & in_prediction).sum()
    found = scored(truth, prediction)
    assert found.rand_recall == both / in_truth.sum()
    assert found.rand_precision == both / in_prediction.sum()
    mean = 2 / (1 / found.rand_precision + 1 / found.rand_recall)
    assert found.adapted_rand_error == pytest.approx(1 - mean)


def test_perfect():
    found = scored([0, 7, 7, 9, 9], [3, 1, 1, 2, 2])
    assert (found.adapted_rand_error, found.rand_precision, found.rand_recall) == (0, 1, 1)
    assert (found.vi, found.vi_split, found.vi_merge) == (0, 0, 0)


def test_split_in_two_is_one_bit_of_split():
    found = scored([1, 1, 1, 1], [1, 1, 2, 2])
    assert (found.rand_precision, found.rand_recall) == (1, 4 / 12)
    assert found.adapted_rand_error == pytest.approx(0.5)
    assert (found.vi_split, found.vi_merge) == (1, 0)


def test_two_merged_is_one_bit_of_merge():
    found = scored([1, 1, 2, 2], [5, 5, 5, 5])
    assert (found.rand_precision, found.rand_recall) == (4 / 12, 1)
    assert (found.vi_split, found.vi_merge) == (0, 1)


def test_an_empty_prediction_is_one_part():
    found = scored([1, 1, 2, 2, 0], [0, 0, 0, 0, 0])
    assert (found.rand_precision, found.rand_recall, found.vi_merge) == (4 / 12, 1, 1)
    assert (found.voxels, found.missed) == (4, 4)


def test_an_empty_truth_has_no_scores():
    found = scored([0, 0], [1, 2])
    assert found.to_dict() == {
        "adapted_rand_error": None, "rand_precision": None, "rand_recall": None, "vi": None,
        "vi_split": None, "vi_merge": None, "voxels": 0, "missed": 0,
    }  # fmt: skip


def test_objects_of_one_voxel_have_no_pairs():
    found = scored([1, 2], [1, 2])
    assert found.adapted_rand_error is None
    assert found.vi == 0


def test_ignored_voxels_do_not_matter():
    truth, prediction = np.array([1, 1, 2, 2, 9, 9]), np.array([1, 1, 2, 2, 1, 2])
    assert scored(truth, prediction, ignored_id=9).adapted_rand_error == 0
    assert scored(truth, prediction).adapted_rand_error > 0


def test_numbers_beyond_64_bits_stay_exact():
    n = 6_000_000_000
    found = partition_scores(np.array([1, 1], np.uint64), np.array([1, 2], np.uint64), np.array([n, n]))
    assert found.rand_recall == 2 * n * (n - 1) / (2 * n * (2 * n - 1))
    assert math.isclose(found.vi_split, 1)
