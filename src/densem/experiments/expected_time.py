"""Expected time: how long runs will take, from those that are done and from their budgets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from densem.experiments.record import RunRecord
from densem.experiments.setting import Run, Setting

OVERHEAD = 1.15
"""Of a run over its budget, until runs have been timed: reading, context, predictions, scores."""


class ExpectedTime:
    """What is known of the time of runs.

    Args:
        setting: the benchmark.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._timed: dict[str, list[RunRecord]] = {}
        for run in setting.runs():
            record = setting.record(run)
            if record is not None and record.done and record.seconds is not None:
                self._timed.setdefault(run.row.slug, []).append(record)

    def of_run(self, run: Run) -> float | None:
        """Seconds of one run: as others of its row took, else as its budget says; None if nobody knows."""
        mine = [r.seconds for r in self._timed.get(run.row.slug, []) if r.seconds is not None]
        if mine:
            return statistics.mean(mine)
        if run.row.kind == "ensemble" and run.row.of is not None and run.row.k is not None:
            members = [_judging(r) for r in self._timed.get(run.row.of, [])]
            return run.row.k * statistics.mean(members) if members else None
        if run.seed is None:
            return None
        budget = self._setting.suite.budget_of(run.row).seconds
        return None if budget is None else OVERHEAD * budget

    def of(self, runs: Sequence[Run]) -> float | None:
        """Seconds of several runs together; those nobody knows of count as the mean of the others."""
        known = [s for r in runs if (s := self.of_run(r)) is not None]
        return statistics.mean(known) * len(runs) if known else None


def _judging(record: RunRecord) -> float:
    """Seconds spent on predictions."""
    return sum(r.prediction.seconds for r in record.results.values() if r.prediction is not None)


def time_text(seconds: float | None) -> str:
    """`, about 2 h 05 min left`; empty if nobody knows."""
    return "" if seconds is None else f", about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """A time in words: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
