"""The table as CSV: a line a row of the suite, plain numbers in the stored units, nothing rounded.

For each column with the key K the line has `K mean`, `K sd`, `K best`, `K low`, `K high` (95 % interval of
the mean) and `K n`; where rows are compared, `K difference`, `K difference low`, `K difference high`, `K p`,
`K p holm` and `K verdict` as well. A number that there is not is an empty field.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from densem.report.results.columns import Column
from densem.report.results.table import ResultsTable, Row

FIRST = (
    "row",
    "title",
    "kind",
    "group",
    "planned",
    "done",
    "failed",
    "collapsed",
    "not run",
    "restarts",
    "state",
)
SUMMARY = ("mean", "sd", "best", "low", "high", "n")
COMPARED = ("difference", "difference low", "difference high", "p", "p holm", "verdict")


def to_csv(table: ResultsTable) -> str:
    """The whole file, with `\\n` as line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    compared = {key for row in table.rows for key in row.comparisons}
    writer.writerow([*FIRST, *(name for c in table.columns for name in _names(c, c.key in compared))])
    for row in table.rows:
        values = [value for c in table.columns for value in _values(row, c, c.key in compared)]
        writer.writerow([*_first(row), *("" if v is None else v for v in values)])
    return out.getvalue()


def _names(column: Column, compared: bool) -> Iterator[str]:
    for name in (*SUMMARY, *(COMPARED if compared else ())):
        yield f"{column.key} {name}"


def _first(row: Row) -> list[Any]:
    states = [row.count(state) for state in ("done", "failed", "collapsed", "not run")]
    restarts = sum(run.restarts for run in row.runs)
    return [row.key, row.title, row.kind, row.group, row.planned, *states, restarts, row.state]


def _values(row: Row, column: Column, compared: bool) -> list[Any]:
    found = row.summary(column)
    values: list[Any] = [found.mean, found.sd, found.best, found.low, found.high, found.n]
    if compared:
        c = row.comparisons.get(column.key)
        values += [None] * 6 if c is None else [c.difference, c.low, c.high, c.p, c.p_holm, c.verdict.value]
    return values
