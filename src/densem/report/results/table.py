"""The results table: the rows of a suite in its order, their runs, and what follows from them.

Means, spreads and intervals are over the finished runs of a row. A run that failed or collapsed enters none
of them; it is counted, and its reason kept. All values are stored in the units of `columns`; nothing is
rounded here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scipy import stats

from densem.evaluation import Verdict
from densem.report.results.columns import Column

State = Literal["done", "collapsed", "failed", "not run"]
Kind = Literal["network", "distilled", "ensemble", "annotators"]

MARKS: dict[Verdict, str] = {
    Verdict.REFERENCE: "ref.",
    Verdict.HIGHER: "▲",
    Verdict.LOWER: "▼",
    Verdict.NOT_TOLD_APART: "≈",
    Verdict.SPREAD_UNKNOWN: "?",
}
"""How a verdict stands in a table. The arrows say which way the value differs, not which one is better."""

READING: dict[Verdict, str] = {
    Verdict.REFERENCE: "the row that the others are compared with",
    Verdict.HIGHER: "higher, also after correction for the number of rows",
    Verdict.LOWER: "lower, also after correction for the number of rows",
    Verdict.NOT_TOLD_APART: "cannot be told apart",
    Verdict.SPREAD_UNKNOWN: "not decidable with so few runs",
}

LEVEL = 0.95
_MISSING: tuple[State, ...] = ("not run", "failed", "collapsed")


@dataclass(frozen=True)
class Run:
    """One run of a row: a trained network, an ensemble, a second annotation.

    Attributes:
        name: as `row/s0`.
        state: how it ended.
        reason: why it failed or collapsed.
        values: column key -> value.
        ious: role and protocol, as `test/cells` -> class name -> IoU, None where it is not available.
        curve: seconds of training and the MIoU on the eval volumes then, ascending.
        restarts: attempts that had collapsed before this one.
        averaged: column key -> classes that its value is a mean of, for columns that leave some out: a class
            that was never predicted has no distance.
        details: further facts for the methods and for JSON: architecture, recipe, members, machine.
    """

    name: str
    state: State
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    ious: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    curve: tuple[tuple[float, float], ...] = ()
    restarts: int = 0
    averaged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A row against the reference row in one column.

    Attributes:
        verdict: what may be said.
        difference: mean of the row less that of the reference.
        low, high: 95 % interval of the difference.
        p: probability of so large a difference by chance alone.
        p_holm: the same, corrected for the number of rows: what the verdict follows from.
        reason: what limits the comparison.
    """

    verdict: Verdict
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Summary:
    """What the finished runs of a row say in one column; None where it takes more runs than there are.

    Attributes:
        n: runs with a value.
        mean: of them.
        sd: standard deviation between them, from two on.
        best: the best of them; None where neither way is better.
        low, high: 95 % interval of the mean.
    """

    n: int = 0
    mean: float | None = None
    sd: float | None = None
    best: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        key: its name in the suite.
        title: for people.
        kind: what its runs are.
        planned: runs that the suite asks for.
        runs: in order of their seeds, those not run included.
        group: heading it stands under; empty for none.
        note: what a reader should know, such as a deviation from a paper.
        comparisons: column key -> against the reference row.
        intervals: column key -> a 95 % interval that takes more than the replicates into account.
    """

    key: str
    title: str
    kind: Kind
    planned: int
    runs: tuple[Run, ...]
    group: str = ""
    note: str = ""
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def count(self, state: State) -> int:
        """Runs in that state."""
        return sum(run.state == state for run in self.runs)

    @property
    def done(self) -> tuple[Run, ...]:
        """The finished runs."""
        return tuple(run for run in self.runs if run.state == "done")

    @property
    def state(self) -> str:
        """`done`, or all that is missing: `not run`, `2 of 6 not run`, `1 of 3 failed; 1 of 3 collapsed`."""
        whole = len(self.runs)
        parts = []
        for state in _MISSING:
            number = self.count(state)
            if number:
                plain = whole == 1 or (state == "not run" and number == whole)
                parts.append(state if plain else f"{number} of {whole} {state}")
        return "; ".join(parts) or "done"

    @property
    def reasons(self) -> str:
        """Why runs are missing, each reason once: `out of memory`; empty where nothing is known."""
        return "; ".join(dict.fromkeys(run.reason for run in self.runs if run.state != "done" and run.reason))

    def summary(self, column: Column) -> Summary:
        """Mean, spread, best and interval of one column."""
        values = [run.values[column.key] for run in self.done if column.key in run.values]
        return summarise(values, column.better, self.intervals.get(column.key))

    def averaged(self, column: Column) -> frozenset[str]:
        """Classes that a column is a mean of in every finished run, as far as that is known."""
        found = [frozenset(run.averaged[column.key]) for run in self.done if column.key in run.averaged]
        return found[0].intersection(*found) if found else frozenset()

    def best_run(self, column: Column) -> Run | None:
        """The finished run that is best in a column."""
        known = [run for run in self.done if column.key in run.values]
        sign = -1.0 if column.better == "lower" else 1.0
        return max(known, key=lambda run: sign * run.values[column.key], default=None)


def summarise(
    values: Iterable[float], better: str = "higher", interval: tuple[float, float] | None = None
) -> Summary:
    """Mean, standard deviation (n - 1), best, and 95 % interval of the mean, by Student's t if not given."""
    known = list(values)
    if not known:
        return Summary()
    mean = math.fsum(known) / len(known)
    sd = statistics.stdev(known) if len(known) > 1 else None
    best = {"higher": max, "lower": min}.get(better, lambda _: None)(known)
    if interval is None and sd is not None:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, len(known) - 1)) * sd / math.sqrt(len(known))
        interval = (mean - half, mean + half)
    low, high = interval or (None, None)
    return Summary(len(known), mean, sd, best, low, high)


@dataclass(frozen=True)
class ClassFacts:
    """A class of the study: its name, colour (`#rrggbb`), and whether it is an organelle."""

    name: str
    color: str
    organelle: bool


@dataclass(frozen=True)
class ResultsTable:
    """A whole table.

    Attributes:
        name: of the benchmark.
        study: name of the study.
        rows: in the suite's order.
        columns: those that any row has a value of.
        headline: keys of the columns that matter most, the eval score first.
        reference: key of the row that the others are compared with; empty for none.
        classes: of the study, in channel order.
        facts: for the methods: data, split, protocols, budget, statistics, and what made it.
    """

    name: str
    study: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    headline: tuple[str, ...]
    reference: str = ""
    classes: tuple[ClassFacts, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def column(self, key: str) -> Column:
        """The column of that key."""
        return next(c for c in self.columns if c.key == key)

    @property
    def headlines(self) -> tuple[Column, ...]:
        """The columns that matter most."""
        return tuple(self.column(key) for key in self.headline)

    @property
    def score(self) -> Column | None:
        """The column that rows are judged by: the last headline, of the test volumes where there are some."""
        return self.headlines[-1] if self.headline else None

    @property
    def reference_row(self) -> Row | None:
        """The row that the others are compared with."""
        return next((row for row in self.rows if row.key == self.reference), None)

    def best(self, column: Column) -> frozenset[str]:
        """Keys of the networks and ensembles whose mean, as it is shown, is the best of the column.

        Annotators are no contestants, nor is a row whose mean leaves out a class that another row's holds: it
        may have missed the hardest one. Where nothing is better or worse, or all are equal, none is.
        """
        rows = [row for row in self.rows if row.kind != "annotators"]
        classes = frozenset[str]().union(*(row.averaged(column) for row in rows))
        means = {row.key: row.summary(column).mean for row in rows if row.averaged(column) == classes}
        known = {key: mean for key, mean in means.items() if mean is not None}
        if not column.better or len(known) < 2:
            return frozenset()
        top = (max if column.better == "higher" else min)(known.values())
        found = frozenset(key for key, mean in known.items() if column.text(mean) == column.text(top))
        return found if len(found) < len(known) else frozenset()

    @property
    def troubled(self) -> tuple[tuple[Row, Run], ...]:
        """Runs that failed or collapsed."""
        return tuple(
            (row, run) for row in self.rows for run in row.runs if run.state in ("failed", "collapsed")
        )

    def counted(self, state: State) -> int:
        """Runs of the whole table in that state."""
        return sum(row.count(state) for row in self.rows)
