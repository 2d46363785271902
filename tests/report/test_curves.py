"""Training curves: reading metrics of interrupted and restarted runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from densem.errors import NotFoundError
from densem.report import attempts_of, read_attempts, training_curves
from densem.report.curves import smoothed


def test_a_resumed_run_is_one_attempt_and_the_later_line_holds() -> None:
    records = [{"step": s, "loss": 1.0} for s in range(6)] + [{"step": s, "loss": 2.0} for s in range(4, 8)]
    (attempt,) = attempts_of(records)
    steps, values = attempt.series("loss")
    assert steps.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert values.tolist() == [1, 1, 1, 1, 2, 2, 2, 2]


def test_a_restart_begins_another_attempt() -> None:
    records = [{"step": 0, "loss": 1.0}, {"step": 9, "eval/miou": 0.1}, {"step": 9, "event": "restarted"}]
    records += [
        {"step": 0, "loss": 3.0, "lr": 0.1},
        {"step": 5, "eval/miou": 0.4},
        {"step": 8, "eval/miou": 0.3},
    ]
    first, second = attempts_of(records)
    assert (first.last_step, first.best) == (9, (9, 0.1))
    assert (second.last_step, second.best) == (8, (5, 0.4))


def test_torn_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": 1.5}\n{"step": 1, "lo\n{"step": 1, "loss": 1.25}\n{"step"')
    (attempt,) = read_attempts(path)
    assert attempt.series("loss")[1].tolist() == [1.5, 1.25]


def test_metrics_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"metrics\.jsonl: no metrics of a training run there \(No such"):
        read_attempts(tmp_path / "metrics.jsonl")


def test_the_running_mean_equals_the_mean_of_its_window() -> None:
    values = np.random.default_rng(0).random(23)
    expected = [values[max(0, i - 3) : i + 4].mean() for i in range(23)]
    np.testing.assert_allclose(smoothed(values, 7), expected, rtol=1e-12)


def test_the_figure_names_its_curves_the_best_score_and_the_restart() -> None:
    records: list[dict[str, Any]] = [{"step": s, "loss": 2.0 - s / 100, "lr": 1e-3} for s in range(50)]
    records += [
        {"step": 50, "event": "restarted", "reason": "one class"},
        *({"step": s, "loss": 1.0} for s in range(1200)),
    ]
    records += [{"step": 1100, "eval/miou": 0.512}]
    figure = training_curves(attempts_of(records))
    assert figure is not None
    words = [
        "".join(n.itertext()) for n in ElementTree.fromstring(figure.data).iter() if n.tag.endswith("}text")
    ]
    for expected in (
        *("loss", "learning rate", "MIoU on the eval volume", "training step"),
        *("best 0.512 at step 1,100", "attempt 1 collapsed at step 49, restarted"),
    ):
        assert expected in words
    assert figure.alt == (
        "Training curves over 1,199 steps; the best MIoU on the eval volume is 0.512 at step 1,100; "
        "1 earlier attempt had collapsed."
    )


def test_only_what_was_recorded_is_drawn() -> None:
    assert training_curves(()) is None
    assert training_curves(attempts_of([{"step": 0, "memory": 3.0}])) is None
    figure = training_curves(attempts_of(json.loads('[{"step": 0, "loss": NaN}, {"step": 1, "loss": 1}]')))
    assert figure is not None
    assert b"learning rate" not in figure.data
