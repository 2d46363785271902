"""Panoptic quality and average precision: matching by brute force as the oracle, literals by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from densem.errors import FormatError, InputError, SchemaError
from densem.evaluation import ObjectScores, ObjectVolumes, object_scores, overlaps, panoptic
from densem.evaluation.panoptic import THRESHOLDS
from densem.schema import LabelSchema
from densem.volumes import Volume

SHAPE, VOXELS = (3, 8, 13), (40.0, 10.0, 8.0)
PLATELET = LabelSchema.resolve("platelet")


def volume(array, dtype=np.uint32):
    array = np.asarray(array, dtype)
    return Volume(array if array.ndim == 3 else array.reshape(1, 1, -1), VOXELS)


def scored(truth, prediction, schema=None, inner=False, **more):
    more = {key: volume(v, np.uint8) if key.endswith("classes") else v for key, v in more.items()}
    return object_scores(ObjectVolumes(volume(truth), volume(prediction), **more), schema, inner)


def by_brute_force(truth, prediction, threshold):
    """Most matches with an IoU above a threshold, and their IoU, with exact fractions."""
    true_ids, predicted_ids = (np.unique(a[a > 0]) for a in (truth, prediction))
    iou = np.zeros((true_ids.size, predicted_ids.size))
    for i, t in enumerate(true_ids):
        for j, p in enumerate(predicted_ids):
            a, b = truth == t, prediction == p
            exact = Fraction(int((a & b).sum()), int((a | b).sum()))
            iou[i, j] = float(exact) if exact > threshold else 0
    chosen = iou[linear_sum_assignment(iou > 0, maximize=True)]
    hits = chosen[chosen > 0]
    return len(hits), hits.sum(), true_ids.size, predicted_ids.size


@pytest.fixture(params=range(5))
def pair(request):
    """Bars of objects and a copy of them with errors: all IoU between 0 and 1 occur."""
    rng = np.random.default_rng(request.param)
    truth = np.sort(rng.integers(0, 9, SHAPE), axis=2)
    wrong = rng.random(SHAPE) < rng.choice([0.05, 0.3], 13)
    return truth, np.where(wrong, rng.integers(0, 9, SHAPE), truth)


def test_equal_to_matching_by_brute_force(pair):
    found = scored(*pair).every
    for threshold, ap in zip(THRESHOLDS, found.ap, strict=True):
        hits, _, true, predicted = by_brute_force(*pair, threshold)
        assert ap == hits / (true + predicted - hits)
    hits, iou, true, predicted = by_brute_force(*pair, Fraction(1, 2))
    assert hits == found.matched
    assert found.pq == pytest.approx(iou / (hits + (true - hits) / 2 + (predicted - hits) / 2))
    assert found.sq == pytest.approx(iou / hits)
    assert found.pq == found.sq * found.rq
    assert found.mean_ap == pytest.approx(np.mean(found.ap))


def test_blocks_and_workers_do_not_matter(pair):
    volumes = ObjectVolumes(volume(pair[0]), volume(pair[1]))
    whole = object_scores(volumes, inner=True)
    assert object_scores(volumes, inner=True, block=(2, 3, 4), workers=3) == whole


def test_perfect_with_other_ids():
    found = scored([1, 1, 0, 2, 2], [9, 9, 0, 4, 4]).every
    assert (found.pq, found.sq, found.rq, found.mean_ap, found.matched) == (1, 1, 1, 1, 2)


def test_an_empty_prediction_misses_all():
    found = scored([1, 1, 2], [0, 0, 0]).every
    assert (found.truth, found.predicted, found.matched) == (2, 0, 0)
    assert (found.pq, found.sq, found.rq, found.mean_ap) == (0, None, 0, 0)


def test_an_empty_truth_makes_all_false():
    found = scored([0, 0, 0], [1, 1, 2]).every
    assert (found.truth, found.predicted, found.pq, found.mean_ap) == (0, 2, 0, 0)


def test_nothing_in_both_has_no_scores():
    found = scored([0, 0], [0, 0]).every
    assert (found.pq, found.sq, found.rq, found.mean_ap) == (None, None, None, None)


def test_split_in_two():
    halves = scored([1] * 6, [1, 1, 1, 2, 2, 2]).every
    assert (halves.matched, halves.pq) == (0, 0)
    found = scored([1] * 6, [1, 1, 1, 1, 2, 2]).every
    assert (found.matched, found.sq, found.rq) == (1, 4 / 6, 2 / 3)
    assert found.ap == (*[0.5] * 4, *[0.0] * 6)  # IoU 0.667 is above 0.5, 0.55, 0.6 and 0.65


def test_two_merged():
    found = scored([1, 1, 1, 1, 2, 2], [7] * 6).every
    assert (found.truth, found.predicted, found.matched, found.sq) == (2, 1, 1, 4 / 6)


def test_an_iou_of_exactly_a_half_is_no_match():
    assert scored([1, 1, 0, 0], [1, 1, 1, 1]).every.matched == 0
    assert scored([1, 1, 1, 0, 0], [1, 1, 1, 1, 1]).every.matched == 1


def test_thresholds_are_exact():
    """0.6 as a float is not 3/5: IoU 3/5 is above 0.55 and not above 0.6."""
    assert scored([1, 1, 1, 0, 0], [1] * 5).every.ap == (1, 1, *[0] * 8)


# ---- classes ---------------------------------------------------------------------------------


def test_objects_are_matched_within_their_class():
    truth, prediction = [1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3]
    true_classes, predicted_classes = [2, 2, 3, 3, 3, 3], [2, 2, 2, 2, 3, 3]
    found = scored(
        truth, prediction, PLATELET, true_classes=true_classes, predicted_classes=predicted_classes
    )
    assert found.every.pq == 1
    mitochondrion, granule = found.classes["mitochondrion"], found.classes["alpha_granule"]
    assert list(found.classes) == ["mitochondrion", "alpha_granule"]
    assert (mitochondrion.truth, mitochondrion.predicted, mitochondrion.matched) == (1, 2, 1)
    assert (granule.truth, granule.predicted, granule.matched) == (2, 1, 1)
    assert mitochondrion.rq == granule.rq == 2 / 3
    assert found.mean_pq == 2 / 3


def test_without_predicted_classes_the_annotation_tells_them():
    truth, prediction = [1, 1, 1, 0, 0, 0], [5, 5, 5, 6, 6, 8]
    found = scored(truth, prediction, PLATELET, true_classes=[2, 2, 2, 3, 3, 0])
    assert found.classes["mitochondrion"].pq == 1
    assert (found.classes["alpha_granule"].truth, found.classes["alpha_granule"].predicted) == (0, 1)
    assert found.every.predicted == 3  # 8 lies in the background: of no class


def test_a_cell_full_of_granules_is_a_cell():
    truth = np.ones(10, int)
    classes = [1, 1, 1, 3, 3, 3, 3, 3, 4, 4]  # cytoplasm 3, alpha granules 5, vessel 2
    assert list(scored(truth, truth, PLATELET, true_classes=classes).classes) == ["cell"]
    classes = [1, 1, 1, 1, 3, 3, 3, 3, 3, 3]  # more than half
    assert list(scored(truth, truth, PLATELET, true_classes=classes).classes) == ["alpha_granule"]
    classes = [1, 5, 5, 6, 6, 6, 6, 6, 6, 6]  # a core of 70 % is no countable class, its granule is
    assert list(scored(truth, truth, PLATELET, true_classes=classes).classes) == ["dense_granule"]


def test_a_vessel_is_in_a_cell_and_no_cell():
    truth = np.ones(10, int)
    found = scored(truth, truth, PLATELET, true_classes=[1, 1, *[4] * 8])
    assert (found.classes, found.true_stuff) == ({}, {"canalicular_vessel": 1})


def test_objects_of_stuff_are_no_objects():
    """Vessels are numbered in published annotations, but nobody counts them."""
    truth = [1, 1, 2, 2, 2, 3, 3, 0]
    true_classes = [2, 2, 4, 4, 4, 3, 3, 1]
    found = scored(truth, [1, 1, 0, 0, 0, 3, 3, 0], PLATELET, true_classes=true_classes,
                   predicted_classes=true_classes)  # fmt: skip
    assert (found.every.truth, found.every.pq, found.partitions.voxels) == (2, 1, 4)
    assert (found.true_stuff, found.predicted_stuff) == ({"canalicular_vessel": 1}, {})
    assert list(found.classes) == ["mitochondrion", "alpha_granule"]
    assert ObjectScores.from_dict(found.to_dict()) == found


def test_found_vessels_are_left_away_and_a_granule_on_a_vessel_is_false():
    truth, true_classes = [1, 1, 2, 2, 2, 0], [2, 2, 4, 4, 4, 1]
    prediction = [1, 1, 5, 5, 5, 0]
    same = scored(truth, prediction, PLATELET, true_classes=true_classes, predicted_classes=true_classes)
    assert (same.every.predicted, same.predicted_stuff) == (1, {"canalicular_vessel": 1})
    granule = scored(
        truth, prediction, PLATELET, true_classes=true_classes, predicted_classes=[2, 2, 3, 3, 3, 1]
    )
    assert (granule.every.predicted, granule.every.matched) == (2, 1)
    beside = scored([1, 1, 0, 0, 0, 0], prediction, PLATELET, true_classes=[2, 2, 1, 1, 1, 1],
                    predicted_classes=true_classes)  # fmt: skip
    assert (beside.every.predicted, beside.predicted_stuff) == (2, {})  # no vessel is numbered there
    assert list(beside.classes) == ["mitochondrion"]
    assert (granule.classes["alpha_granule"].predicted, granule.predicted_stuff) == (1, {})


def test_without_predicted_classes_what_lies_mostly_on_a_vessel_is_left_away():
    truth, true_classes = [1, 1, 2, 2, 2, 2, 0, 0], [2, 2, 4, 4, 4, 4, 4, 4]
    prediction = [1, 1, 5, 5, 6, 6, 6, 6]  # 5 lies on it, 6 half beside it
    found = scored(truth, prediction, PLATELET, true_classes=true_classes)
    assert (found.every.predicted, found.every.matched) == (2, 1)
    assert found.predicted_stuff == {"canalicular_vessel": 1}


def test_where_nothing_is_a_thing_all_objects_count():
    schema = LabelSchema.from_names(["inside", "membrane"])
    found = scored([1, 1, 2], [1, 1, 2], schema, true_classes=[0, 0, 1])
    assert (found.every.matched, found.true_stuff) == (2, {})


def test_without_countable_classes_most_voxels_decide():
    schema = LabelSchema.from_names(["inside", "membrane", "vesicle"])
    found = scored([1, 1, 1, 2, 2], [1, 1, 1, 2, 2], schema, true_classes=[2, 2, 1, 0, 255])
    assert list(found.classes) == ["inside", "vesicle"]


# ---- ignored voxels and borders --------------------------------------------------------------


def test_ignored_voxels_are_taken_from_both():
    found = scored([1, 1, 1, 7, 7], [1, 1, 1, 1, 1], ignored_id=7)
    assert (found.every.truth, found.every.sq, found.ignored_voxels) == (1, 1, 2)


def test_a_prediction_mostly_on_ignored_voxels_is_not_false():
    found = scored([1, 1, 0, 9, 9, 0], [1, 1, 2, 2, 2, 3], ignored_id=9)
    assert (found.every.predicted, found.predicted_left_out) == (2, 1)  # 2 is excused, 3 is not
    half = scored([1, 1, 0, 9], [1, 1, 2, 2], ignored_id=9)
    assert (half.every.predicted, half.predicted_left_out) == (2, 0)  # exactly half: false


def test_objects_at_the_border_are_left_out_only_if_asked():
    truth = np.zeros((1, 7, 9), int)
    truth[0, 0:3, 1:3], truth[0, 3:5, 4:7] = 1, 2  # 1 touches the border
    prediction = np.where(truth == 1, 5, truth)
    prediction[0, 1, 7] = 6  # false, inside
    prediction[0, 6, 7] = 8  # false, at the border
    everything, inner = scored(truth, prediction), scored(truth, prediction, inner=True)
    assert (everything.every.truth, everything.every.predicted, everything.every.matched) == (2, 4, 2)
    assert (inner.every.truth, inner.every.predicted, inner.every.matched) == (1, 2, 1)
    assert (inner.true_left_out, inner.predicted_left_out) == (1, 2)
    assert (everything.partitions.voxels, inner.partitions.voxels) == (12, 6)


def test_fragments_of_an_object_at_the_border_are_not_false():
    truth = np.zeros((1, 6, 9), int)
    truth[0, 0:5, 2:6] = 1
    prediction = truth.copy()
    prediction[0, 2:4, 2:6] = 2
    prediction[0, 4, 2:6] = 3  # neither matches; both lie on it, and touch no border
    assert scored(truth, prediction).every.predicted == 3
    inner = scored(truth, prediction, inner=True)
    assert (inner.every.truth, inner.every.predicted) == (0, 0)
    assert inner.partitions.voxels == 0


def test_inner_needs_overlaps_that_know_it():
    table = overlaps(ObjectVolumes(volume([1]), volume([1])))
    with pytest.raises(
        InputError, match=r"inner objects: expected overlaps with touching=True; count them so"
    ):
        panoptic(table, inner=True)


# ---- in and out, refusals --------------------------------------------------------------------


def test_scores_go_to_json_and_back(pair):
    import json

    classes = np.full(SHAPE, 2)
    found = scored(*pair, PLATELET, inner=True, true_classes=classes)
    data = json.loads(json.dumps(found.to_dict()))
    assert ObjectScores.from_dict(data) == found
    assert data["iou_thresholds"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    del data["partitions"]["vi"]
    with pytest.raises(
        FormatError, match=r"s\.json: expected the scores that densem evaluate-objects writes"
    ):
        ObjectScores.from_dict(data, "s.json")


def test_classes_outside_the_schema_are_refused():
    with pytest.raises(
        SchemaError, match=r"annotation volume: ids outside the schema: 77 \(2 voxels\); expected 0, 1"
    ):
        scored([1, 1], [1, 1], PLATELET, true_classes=[77, 77])


def test_classes_need_a_schema():
    with pytest.raises(InputError, match="expected a schema with volumes of classes, found none"):
        scored([1], [1], true_classes=[1])


def test_volumes_without_a_scored_voxel_are_refused():
    with pytest.raises(InputError, match="every voxel is ignored, so that there is nothing to score"):
        scored([4, 4], [1, 1], ignored_id=4)
