import numpy as np
import pytest
from made_up import MADE_BY

from densem.experiments.ensembles import forward, top
from densem.experiments.record import RoleResult, RunRecord
from densem.schema import LabelSchema

SCHEMA = LabelSchema.from_names(["a", "b", "c"])


def record(seed, on_eval, on_test):
    results = {
        role: RoleResult(volumes={}, scores={"labelled": {"miou": score}})
        for role, score in (("eval", on_eval), ("test", on_test))
    }
    return RunRecord(
        row="deep", title="Deep", kind="network", seed=seed, status="done", results=results, made_by=MADE_BY
    )


def test_members_are_chosen_by_eval_and_never_by_test():
    runs = [record(1, 0.60, 0.90), record(2, 0.80, 0.10), record(3, 0.70, 0.20), record(4, 0.50, 0.95)]
    assert [r.seed for r in top(runs, 2)] == [2, 3]
    assert [r.seed for r in top(runs[::-1], 3)] == [2, 3, 1]


def test_of_equals_the_smaller_seed_and_without_a_score_last():
    runs = [record(3, 0.7, 0.1), record(1, None, 0.9), record(2, 0.7, 0.1)]
    assert [r.seed for r in top(runs, 3)] == [2, 3, 1]


# ---- forward selection -------------------------------------------------------------------------


def probabilities(truth, wrong, sure=200):
    """A network that is right but for some voxels, where it is for the next class."""
    said = np.where(wrong, (truth + 1) % 3, truth)
    return np.where(np.arange(3)[:, None] == said, sure, (255 - sure) // 2).astype(np.uint8)


def test_forward_takes_what_helps_not_what_is_good_alone():
    """The second best makes the same mistakes as the best; two worse ones make others."""
    truth = np.arange(90, dtype=np.uint8) % 3
    place = np.arange(90)
    runs = [
        probabilities(truth, place < 20),
        probabilities(truth, place < 21),
        probabilities(truth, (place >= 30) & (place < 54)),
        probabilities(truth, (place >= 60) & (place < 85)),
    ]
    assert forward(runs, truth, 3, SCHEMA) == [0, 2, 3]


def test_forward_stops_where_more_members_harm():
    truth = np.arange(90, dtype=np.uint8) % 3
    good = probabilities(truth, np.arange(90) < 3, sure=100)
    bad = probabilities(truth, np.arange(90) < 80, sure=250)
    assert forward([good, bad], truth, 2, SCHEMA) == [0]


def test_forward_with_replacement_can_weigh_a_member():
    """The second is surer: beside one voice of the best it spoils more than it mends, beside two it only mends."""
    truth = np.arange(90, dtype=np.uint8) % 3
    place = np.arange(90)
    good = probabilities(truth, place < 30, sure=140)
    right, wrong = probabilities(truth, place < 0, sure=250), probabilities(truth, place >= 0, sure=160)
    other = np.where(place < 24, right, wrong)
    assert forward([good, other], truth, 3, SCHEMA, replacement=False) == [0]
    assert forward([good, other], truth, 3, SCHEMA, replacement=True) == [0, 0, 1]


def test_unlabelled_voxels_choose_nothing():
    truth = np.array([0, 1, 2] * 20 + [255] * 30, np.uint8)
    filled = np.where(truth == 255, 0, truth).astype(np.uint8)
    place = np.arange(90)
    runs = [
        probabilities(filled, place < 6),
        probabilities(filled, place >= 60),
        probabilities(filled, place < 12),
    ]
    assert forward(runs, truth, 1, SCHEMA) == [0]
    assert forward(runs[:1] + runs[2:], truth, 2, SCHEMA) == [0]


@pytest.mark.parametrize("replacement", [False, True])
def test_forward_never_falls_below_the_best_alone(replacement):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400).astype(np.uint8)
    runs = [probabilities(truth, rng.random(400) < 0.2 + 0.05 * i) for i in range(5)]
    chosen = forward(runs, truth, 4, SCHEMA, replacement)
    right = [(sum(runs[i].astype(int) for i in m).argmax(0) == truth).mean() for m in ([0], chosen)]
    assert right[1] >= right[0]
    assert len(set(chosen)) == len(chosen) or replacement
