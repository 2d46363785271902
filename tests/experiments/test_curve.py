import json

import pytest

from densem.experiments.curve import MOST, curve_of


def write(path, rows, torn=""):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + torn)
    return path


def test_losses_validations_and_attempts(tmp_path):
    rows = [
        {"step": 10, "time": 1.5, "loss": 0.9, "lr": 1e-3},
        {"step": 10, "time": 2.0, "event": "restarted", "reason": "x"},
        {"step": 10, "time": 3.0, "loss": 0.8},
        {"step": 12, "time": 4.0, "eval/miou": 0.4, "eval/miou_organelles": 0.3, "eval/iou/cell": 0.5},
    ]
    found = curve_of(write(tmp_path / "m.jsonl", rows, '{"step": 13, "ti'))
    assert [(p.seconds, p.step, p.attempt, p.loss, p.eval_miou) for p in found] == [
        (1.5, 10, 0, 0.9, None),
        (3.0, 10, 1, 0.8, None),
        (4.0, 12, 1, None, 0.4),
    ]
    assert found[-1].eval_miou_organelles == 0.3
    assert curve_of(tmp_path / "none.jsonl") == ()


def test_long_curves_keep_their_validations_and_their_mean(tmp_path):
    rows = [{"step": 10 * i, "time": float(i), "loss": float(i)} for i in range(1, 2001)]
    rows[1000:1000] = [{"step": 10000, "time": 1000.5, "eval/miou": 0.7}]
    found = curve_of(write(tmp_path / "m.jsonl", rows))
    losses = [p.loss for p in found if p.loss is not None]
    assert len(losses) == MOST
    assert sum(losses) / len(losses) == pytest.approx(1000.5)
    assert [(p.step, p.eval_miou) for p in found if p.eval_miou is not None] == [(10000, 0.7)]
    assert [p.seconds for p in found] == sorted(p.seconds for p in found)
    assert (found[0].step, found[0].loss) == (50, 3.0)
