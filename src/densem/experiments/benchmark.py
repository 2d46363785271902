"""Benchmark: all runs of a suite, one after another or as jobs, whatever happens to some of them.

1. What has a record is done; what was begun goes on; an ensemble is chosen anew when runs were added, a
   network distilled anew when its ensemble has other members; what was scored on other volumes or
   annotations than the study has now is scored anew.
2. Every run works in a process of its own: one that crashes, or is killed for memory, is one failed run.
3. A run that fails leaves a record saying why, and the others go on; it is tried again when asked to.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from densem.errors import CollapseError, DensemError, IncompleteError
from densem.experiments.record import FILE, RunRecord
from densem.experiments.setting import Run, Setting
from densem.experiments.suite import Budget, Suite
from densem.study import Study
from densem.study.manifest import claimed
from densem.study.training import parse_time

ERROR_FILE = "error.txt"
Say = Callable[[str], None]
Do = Callable[[Setting, Run], RunRecord]


@dataclass(frozen=True)
class BenchmarkRequest:
    """What is to be run, as the command line gives it.

    Attributes:
        suite: a packaged suite or a file.
        name: of the benchmark; that of the suite without it.
        rows: slugs of some rows; all without them.
        replicates, max_time: in place of the suite's.
    """

    suite: str = "poster"
    name: str | None = None
    rows: tuple[str, ...] | None = None
    replicates: int | None = None
    max_time: str | None = None


def plan(study: Study, request: BenchmarkRequest) -> Setting:
    """Read the suite and check it against the study and what was begun; nothing is written.

    Raises:
        NotFoundError, ConfigError: naming what is wrong with the suite, or with the study for it.
        IntegrityError: if a row was begun with something else.
    """
    setting = Setting.of(study, request.name or Path(request.suite).stem, asked_suite(request))
    check(setting, request.rows)
    return setting


def asked_suite(request: BenchmarkRequest) -> Suite:
    """The suite with what the command line changes in it."""
    suite = Suite.load(request.suite)
    if request.replicates is not None:
        suite = suite.with_replicates(request.replicates, request.rows)
    if request.max_time is not None:
        parse_time(request.max_time)
        suite = suite.with_budget(Budget(max_time=request.max_time))
    return suite


def check(setting: Setting, rows: tuple[str, ...] | None = None) -> None:
    """Refuse what would make runs fail or rows mixed, before anything is run.

    Raises:
        IntegrityError: if a row was begun with another recipe, budget or other volumes.
        InputError: for volumes that cannot be trained on.
    """
    from densem.experiments.row_plan import planned
    from densem.study.training import gather

    gather(setting.study)
    for row in {r.row.slug: r.row for r in setting.runs(rows) if r.seed is not None}.values():
        planned(setting, row)


# ---- what is left ----------------------------------------------------------------------------


def pending(setting: Setting, rows: tuple[str, ...] | None = None, retry_failed: bool = False) -> list[Run]:
    """The runs that are to be done, in order.

    Args:
        setting: the benchmark.
        rows: slugs of some rows.
        retry_failed: whether runs that failed are among them.
    """
    found: list[Run] = []
    for run in setting.runs(rows):
        made_anew = run.row.of in {f.row.slug for f in found}  # what it is made of may become another
        if made_anew or _is_pending(setting, run, retry_failed):
            found.append(run)
    return found


def _is_pending(setting: Setting, run: Run, retry_failed: bool) -> bool:
    record = setting.record(run)
    if record is None or (record.status == "failed" and retry_failed):
        return True
    return _what_is_old(setting, run, record) is not None


def _what_is_old(setting: Setting, run: Run, record: RunRecord) -> str | None:
    """What must be done anew of a run that has ended; None if nothing."""
    if run.row.kind == "ensemble" and _can_be_chosen_anew(setting, run, record):
        return "chosen"
    if run.row.kind == "distilled" and record.done and _has_other_teachers(setting, run, record):
        return "distilled"
    return "scored" if record.done and _was_scored_on_others(setting, run, record) else None


def _was_scored_on_others(setting: Setting, run: Run, record: RunRecord) -> bool:
    """Whether volumes or annotations are other ones now: it is judged anew, without another training."""
    then = {role: result.volumes for role, result in record.results.items()}
    return then != setting.volumes_of(run.row)


def _has_other_teachers(setting: Setting, run: Run, record: RunRecord) -> bool:
    """Whether the ensemble has been chosen anew since a network was distilled from it."""
    ensemble = setting.record(setting.run(run.row.of or ""))
    return ensemble is not None and ensemble.done and ensemble.members != record.members


def _can_be_chosen_anew(setting: Setting, run: Run, record: RunRecord) -> bool:
    """Whether an ensemble has other candidates than when it was chosen, and enough of them."""
    assert run.row.of is not None
    assert run.row.k is not None
    now = [r.name for r in setting.finished(run.row.of)]
    return len(now) >= run.row.k and tuple(sorted(now)) != record.candidates


# ---- doing one -------------------------------------------------------------------------------


def do(setting: Setting, run: Run) -> RunRecord:
    """Do one run here, to its record; errors become a record too.

    Raises:
        KeyboardInterrupt: when asked to stop; nothing is recorded and the run can go on.
        ResourceError: if another process is doing it.
    """
    place = setting.place(run)
    with claimed(place, f"doing run {run.name}"):
        (place / FILE).unlink(missing_ok=True)
        (place / ERROR_FILE).unlink(missing_ok=True)
        return _to_a_record(setting, run)


def _to_a_record(setting: Setting, run: Run) -> RunRecord:
    place = setting.place(run)
    try:
        return _dispatch(setting, run)
    except CollapseError as error:
        return fail(setting, run, str(error), "collapsed")
    except DensemError as error:
        return fail(setting, run, str(error))
    except Exception as error:
        (place / ERROR_FILE).write_text(traceback.format_exc())
        text = " ".join(str(error).split()) or "no message"
        return fail(setting, run, f"{type(error).__name__}: {text[:500]}")


def _dispatch(setting: Setting, run: Run) -> RunRecord:
    if run.row.kind == "ensemble":
        from densem.experiments.ensembles import run_ensemble

        return run_ensemble(setting, run)
    if run.row.kind == "distilled":
        from densem.experiments.distillation import run_distilled

        return run_distilled(setting, run)
    if run.row.kind == "annotators":
        from densem.experiments.annotators import run_annotators

        return run_annotators(setting, run)
    from densem.experiments.replicate import run_replicate

    return run_replicate(setting, run)


def fail(setting: Setting, run: Run, error: str, status: str = "failed") -> RunRecord:
    """Record that a run went wrong."""
    from densem.experiments.made_by import made_by
    from densem.experiments.replicate import facts_of

    try:
        facts = facts_of(setting, run)
    except DensemError:
        facts = {"row": run.row.slug, "title": run.row.title, "kind": run.row.kind, "seed": run.seed}
    candidates: tuple[str, ...] = ()
    if run.row.kind == "ensemble" and run.row.of:
        candidates = tuple(sorted(r.name for r in setting.finished(run.row.of)))
    record = RunRecord.model_validate(
        {**facts, "candidates": candidates, "status": status, "error": error, "made_by": made_by()}
    )
    record.write(setting.place(run))
    return record


# ---- doing all -------------------------------------------------------------------------------


def run_all(setting: Setting, runs: Sequence[Run], do_one: Do, say: Say) -> list[RunRecord]:
    """Do runs one after another.

    Args:
        setting: the benchmark.
        runs: to be done.
        do_one: does one, to its record.
        say: told in a sentence what is done and how long the rest will take.

    Raises:
        KeyboardInterrupt: when asked to stop.
    """
    from densem.experiments.expected_time import ExpectedTime, time_text

    found = []
    for number, run in enumerate(runs, start=1):
        left = ExpectedTime(setting).of(runs[number - 1 :])
        say(f"[{number}/{len(runs)}] {run.row.title} ({run.name}){time_text(left)}")
        started = time.monotonic()
        record = do_one(setting, run)
        say(f"    {outcome(setting, record)} in {time.monotonic() - started:.0f} s")
        found.append(record)
    return found


def state(setting: Setting, run: Run) -> str:
    """How far a run is, in a word or two."""
    record = setting.record(run)
    if record is not None:
        old = _what_is_old(setting, run, record)
        return record.status if old is None else f"{record.status}, to be {old} anew"
    place = setting.place(run)
    if (place / "model").is_dir():
        return "trained"
    return "begun" if (place / "training" / "checkpoint.pt").is_file() else "not begun"


def outcome(setting: Setting, record: RunRecord) -> str:
    """How a run ended, in a line."""
    if not record.done:
        return f"{record.status}: {record.error}"
    found = []
    for column in setting.suite.columns:
        value = record.metric(column.role, column.protocol, column.metric)
        found.append(f"{column.title} {'n/a' if value is None else format(value, '.3f')}")
    return ", ".join(found)


def conclude(setting: Setting, runs: Sequence[Run]) -> None:
    """See whether all is well at the end.

    Raises:
        IncompleteError: naming the runs that failed.
    """
    records = [(r, setting.record(r)) for r in runs]
    bad = [(run, found) for run, found in records if found is None or found.status == "failed"]
    if bad:
        first, record = bad[0]
        why = "it has no record" if record is None else record.error
        names = ", ".join(run.name for run, _ in bad[:8]) + (" ..." if len(bad) > 8 else "")
        raise IncompleteError(
            f"{len(bad)} of {len(runs)} runs failed ({names}); {first.name}: {why}; "
            f"--retry-failed tries them again"
        )
