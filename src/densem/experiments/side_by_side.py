"""Side by side: several runs of a benchmark at a time on this machine, each with its share of the cores.

Steps of narrow networks keep several cores badly busy: two runs with a core each get through more of them
than one run after the other with two cores (benchmarks/README.md has figures).

1. How each row is trained is measured first, one row after the other with all cores: a time budget then means
   as many steps as without `--workers`, though each of them takes longer.
2. Runs start in order, each as soon as what it is made of has ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from densem.experiments.benchmark import Say, outcome
from densem.experiments.child import Child, measure_in_child
from densem.experiments.expected_time import ExpectedTime, time_text
from densem.experiments.record import RunRecord
from densem.experiments.row_plan import planned
from densem.experiments.setting import Run, Setting
from densem.experiments.suite import TRAINED, Row
from densem.inference.machine import Cores

POLL_SECONDS = 0.2


def run_side_by_side(setting: Setting, runs: Sequence[Run], workers: int, say: Say) -> list[RunRecord]:
    """Do runs, several at a time, each in a process of its own.

    Args:
        setting: the benchmark.
        runs: to be done, in order.
        workers: how many at a time.
        say: told in a sentence what is done and how long the rest will take.

    Raises:
        KeyboardInterrupt: when asked to stop, once all processes have.
    """
    _measure(setting, runs, say)
    threads = max(1, Cores.look().usable // workers)
    left, going, found = list(runs), list[Child](), list[RunRecord]()
    started: dict[str, float] = {}
    try:
        while left or going:
            while len(going) < workers and (run := _next(left, [c.run for c in going])) is not None:
                seconds = ExpectedTime(setting).of([*left, *(c.run for c in going)])
                text = time_text(None if seconds is None else seconds / workers)
                left.remove(run)
                started[run.name] = time.monotonic()
                say(f"[{len(runs) - len(left)}/{len(runs)}] {run.row.title} ({run.name}){text}")
                going.append(Child(setting, run, threads, say))
            for child in [c for c in going if c.ended()]:
                record = child.record()
                going.remove(child)
                found.append(record)
                took = time.monotonic() - started[child.run.name]
                say(f"    {child.run.name}: {outcome(setting, record)} in {took:.0f} s")
            time.sleep(POLL_SECONDS)
    except BaseException:
        Child.stop(going)
        raise
    return found


def _measure(setting: Setting, runs: Sequence[Run], say: Say) -> None:
    """Decide how rows with a time budget are trained, as long as nothing else runs."""
    rows: dict[str, Row] = {r.row.slug: r.row for r in runs if r.row.kind in TRAINED}
    for row in rows.values():
        if setting.suite.budget_of(row).seconds is None or planned(setting, row) is not None:
            continue
        say(f"Measuring how many steps of {row.title} fit ({row.slug}).")
        if not measure_in_child(setting, row.slug):
            say(f"    {row.slug} could not be measured; its runs will say why")


def _next(left: Sequence[Run], going: Sequence[Run]) -> Run | None:
    """The first run that waits for none of those that have not ended."""
    unfinished = {r.row.slug for r in (*left, *going)}
    return next((r for r in left if r.row.of not in unfinished), None)
