"""Voxel scores: tables scored by hand, equality with scikit-learn, the published anchors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from densem.errors import FormatError
from densem.evaluation import ContingencyTable, Protocol, Scores, contingency, scores
from densem.evaluation.voxels import adjusted_rand_index
from densem.schema import LabelSchema
from densem.volumes import Volume

THREE = LabelSchema.from_table(
    {
        "outside": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 1, "color": "#0000ff"},
        "granule": {"id": 2, "color": "#00ff00", "parent": "cell", "organelle": True},
    },
    "test",
)
PLATELET = LabelSchema.resolve("platelet")


def of(rows: list[list[int]], protocol: Protocol = Protocol.LABELLED) -> Scores:
    return scores(ContingencyTable(np.array(rows, np.int64), THREE, protocol))


# ---- by hand ---------------------------------------------------------------------------------


def test_a_table_scored_by_hand() -> None:
    result = of([[6, 2, 0, 0], [1, 7, 0, 2], [1, 0, 3, 0]])
    assert [c.iou for c in result.classes] == [6 / 10, 7 / 12, 3 / 4]
    assert [c.precision for c in result.classes] == [6 / 8, 7 / 9, 3 / 3]
    assert [c.recall for c in result.classes] == [6 / 8, 7 / 10, 3 / 4]
    assert [c.f1 for c in result.classes] == [12 / 16, 14 / 19, 6 / 7]
    assert [(c.truth, c.predicted) for c in result.classes] == [(8, 8), (10, 9), (4, 3)]
    assert result.accuracy == 16 / 22
    assert result.miou == pytest.approx((6 / 10 + 7 / 12 + 3 / 4) / 3, abs=1e-15)
    assert result.miou_organelles == 3 / 4
    assert result.voxels == 22


def test_a_class_absent_from_both_has_no_iou_and_enters_no_mean() -> None:
    result = of([[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]])
    granule = result.classes[2]
    assert (granule.iou, granule.precision, granule.recall, granule.f1) == (None, None, None, None)
    assert result.miou == (3 / 4 + 4 / 5) / 2
    assert result.miou_organelles is None


def test_a_class_predicted_but_absent_from_the_truth_scores_zero() -> None:
    result = of([[3, 0, 1, 0], [0, 4, 0, 0], [0, 0, 0, 0]])
    granule = result.classes[2]
    assert (granule.iou, granule.precision, granule.recall, granule.f1) == (0, 0, None, 0)
    assert result.miou == (3 / 4 + 1 + 0) / 3
    assert result.miou_organelles == 0


def test_nothing_predicted_is_wrong_and_found_by_no_class() -> None:
    result = of([[3, 0, 0, 1], [0, 4, 0, 0], [0, 0, 2, 0]])
    assert (result.classes[0].iou, result.classes[0].precision) == (3 / 4, 1)
    assert result.accuracy == 9 / 10


def test_inside_cells_only_organelles_are_judged() -> None:
    result = of([[0, 0, 0, 0], [2, 5, 1, 0], [1, 1, 4, 0]], Protocol.CELLS)
    outside, cell, granule = result.classes
    assert result.miou is None
    assert (outside.iou, cell.iou, cell.precision, cell.f1) == (None, None, None, None)
    assert cell.recall == 5 / 8
    assert result.miou_organelles == granule.iou == 4 / 7
    assert result.accuracy == 9 / 14


def test_the_row_normalised_confusion_matrix() -> None:
    shares = of([[1, 2, 0, 1], [0, 4, 1, 0], [0, 0, 0, 0]]).normalized_confusion()
    np.testing.assert_array_equal(shares, [[0.25, 0.5, 0, 0.25], [0, 0.8, 0.2, 0], [np.nan] * 4])


def test_the_rand_index_is_exact_beyond_64_bits() -> None:
    small = np.array([[30, 2], [1, 50]])
    assert adjusted_rand_index(small * 10**12) == pytest.approx(_rand_of_shares(small), abs=1e-12)
    assert adjusted_rand_index(np.array([[10**15]])) == 1.0


def _rand_of_shares(counts: np.ndarray) -> float:
    """The limit of the index for many voxels: pairs drawn with replacement."""
    share = counts / counts.sum()
    both, rows, columns = ((s**2).sum() for s in (share, share.sum(1), share.sum(0)))
    return float((both - rows * columns) / ((rows + columns) / 2 - rows * columns))


# ---- scikit-learn ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_scikit_learn(seed: int) -> None:
    """Sparse ids, classes absent from one or both volumes, unlabelled voxels."""
    rng = np.random.default_rng(seed)
    schema = LabelSchema.from_table(
        {f"c{i}": {"id": i, "color": "#808080", "organelle": i > 9} for i in (1, 2, 9, 17, 130, 254)}, "test"
    )
    truth = rng.choice([1, 2, 9, 130, 255], (5, 9, 13)).astype(np.uint8)
    guess = rng.choice([1, 2, 9, 17], truth.shape).astype(np.uint8)
    guess = np.where((rng.random(truth.shape) < 0.6) & (truth != 255), truth, guess)
    result = scores(contingency(_volume(truth), _volume(guess), schema, block=(2, 4, 8)))

    t, p = truth[truth != 255], guess[truth != 255]
    expected = metrics.jaccard_score(t, p, labels=schema.ids, average=None, zero_division=0)
    expected[[i not in (*t, *p) for i in schema.ids]] = np.nan
    found = np.array([np.nan if c.iou is None else c.iou for c in result.classes])
    np.testing.assert_allclose(found, expected, atol=1e-15)
    assert result.miou == pytest.approx(np.nanmean(expected))
    assert result.miou_organelles == pytest.approx(np.nanmean(expected[3:]))
    assert result.accuracy == metrics.accuracy_score(t, p)
    assert result.ari == pytest.approx(metrics.adjusted_rand_score(t, p), abs=1e-14)
    np.testing.assert_array_equal(
        np.array(result.confusion)[:, :-1], metrics.confusion_matrix(t, p, labels=schema.ids)
    )
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        t, p, labels=schema.ids, zero_division=np.nan
    )
    for index, entry in enumerate(result.classes):
        for ours, theirs in ((entry.precision, precision), (entry.recall, recall), (entry.f1, f1)):
            assert np.nan_to_num(np.float64(np.nan if ours is None else ours), nan=-1) == pytest.approx(
                np.nan_to_num(theirs[index], nan=-1)
            )
        assert entry.truth == support[index]


@pytest.mark.parametrize("seed", range(3))
def test_the_reference_protocol_equals_masking_and_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 7, (4, 9, 14)).astype(np.uint8)
    guess = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, 7, truth.shape)).astype(np.uint8)
    result = scores(contingency(_volume(truth), _volume(guess), PLATELET, Protocol.CELLS))
    t, p = truth[truth > 0], guess[truth > 0]
    expected = metrics.jaccard_score(t, p, labels=[2, 3, 4, 5, 6], average="macro")
    assert result.miou_organelles == pytest.approx(expected, abs=1e-15)
    assert result.accuracy == metrics.accuracy_score(t, p)
    assert result.ari == pytest.approx(metrics.adjusted_rand_score(t, p), abs=1e-14)


@pytest.mark.parametrize(
    ("truth", "guess"),
    [([0, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 1, 2]), ([0, 1, 2], [1, 1, 1]), ([0, 1], [1, 0]), ([1], [2])],
)
def test_degenerate_partitions_have_the_rand_index_of_scikit_learn(
    truth: list[int], guess: list[int]
) -> None:
    table = contingency(_volume(np.array([[truth]])), _volume(np.array([[guess]])), THREE)
    assert scores(table).ari == metrics.adjusted_rand_score(truth, guess)


# ---- anchors ---------------------------------------------------------------------------------


def test_a_constant_predictor_scores_accuracy_over_the_number_of_true_classes() -> None:
    """The archive's constant "background" predictor: accuracy .457, MIoU accuracy / 7 = .065."""
    rng = np.random.default_rng(0)
    truth = rng.choice(7, (10, 20, 30), p=[0.457, 0.45, 0.02, 0.04, 0.02, 0.01, 0.003]).astype(np.uint8)
    result = scores(contingency(_volume(truth), _volume(np.zeros_like(truth)), PLATELET))
    assert result.miou == pytest.approx(result.accuracy / 7, abs=1e-15)
    assert result.miou == pytest.approx(0.065, abs=0.002)
    assert result.ari == 0


def test_classes_the_truth_lacks_do_not_lower_the_mean() -> None:
    truth = np.array([[[0, 0, 0, 1, 2]]], np.uint8)
    result = scores(contingency(_volume(truth), _volume(np.zeros_like(truth)), PLATELET))
    assert result.miou == result.accuracy / 3 == 0.6 / 3


# ---- in and out ------------------------------------------------------------------------------


def test_scores_survive_json() -> None:
    result = of([[3, 1, 0, 2], [0, 4, 0, 0], [0, 0, 0, 0]])
    assert Scores.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_the_keys_of_the_json_are_stable() -> None:
    data = of([[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]]).to_dict()
    assert list(data) == [
        *("protocol", "miou", "miou_organelles", "accuracy", "ari", "classes", "confusion", "voxels")
    ]
    assert data["classes"]["granule"] == {
        "id": 2,
        "organelle": True,
        **dict.fromkeys(("iou", "precision", "recall", "f1")),
        "truth": 0,
        "predicted": 0,
    }
    assert data["confusion"]["columns"] == ["outside", "cell", "granule", "unpredicted"]
    assert data["voxels"] == {"scored": 8, "left_out": 0}


def test_scores_that_lack_an_entry_are_refused() -> None:
    data = of([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]).to_dict()
    del data["ari"]
    with pytest.raises(FormatError) as caught:
        Scores.from_dict(data, "scores.json")
    assert str(caught.value) == (
        "scores.json: expected the scores that densem evaluate writes, but entry 'ari' is missing or wrong; "
        "evaluate again"
    )


def _volume(array: np.ndarray) -> Volume:
    return Volume(array, (40.0, 10.0, 8.0))
