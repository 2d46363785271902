"""The table as JSON: every run with all its values, what follows from them, and what made it.

`rows[].summary` is there for readers; `from_dict` computes it anew from the runs. Units are those of
`columns[].stored`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from densem.errors import FormatError, NotFoundError
from densem.evaluation import Verdict
from densem.report.results.columns import Column
from densem.report.results.table import ClassFacts, Comparison, ResultsTable, Row, Run

FORMAT = 1


def to_dict(table: ResultsTable) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "format": FORMAT,
        "name": table.name,
        "study": table.study,
        "reference": table.reference,
        "headline": list(table.headline),
        "columns": [asdict(column) for column in table.columns],
        "classes": [asdict(entry) for entry in table.classes],
        "rows": [_row(row, table) for row in table.rows],
        "facts": dict(table.facts),
    }


def from_dict(data: dict[str, Any], where: str = "results") -> ResultsTable:
    """From what `to_dict` gave.

    Raises:
        FormatError: naming `where` and what is wrong.
    """
    try:
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}")
        return ResultsTable(
            name=data["name"],
            study=data["study"],
            rows=tuple(_parsed_row(row) for row in data["rows"]),
            columns=tuple(Column(**column) for column in data["columns"]),
            headline=tuple(data["headline"]),
            reference=data["reference"],
            classes=tuple(ClassFacts(**entry) for entry in data["classes"]),
            facts=data["facts"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            f"{where}: expected the results that densem writes (format {FORMAT}), but {error} is missing "
            "or wrong; make them anew with  densem results FOLDER"
        ) from None


def read(path: Path) -> ResultsTable:
    """Read a `results.json`.

    Raises:
        NotFoundError: none there.
        FormatError: naming what is wrong.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no results there; make them with  densem results FOLDER") from None
    except ValueError as error:
        raise FormatError(
            f"{path}: not a JSON file ({error}); make it anew with  densem results FOLDER"
        ) from None
    return from_dict(data, str(path))


def to_json(table: ResultsTable) -> str:
    """The whole file."""
    return json.dumps(to_dict(table), indent=1, ensure_ascii=False) + "\n"


def _row(row: Row, table: ResultsTable) -> dict[str, Any]:
    summaries = {c.key: asdict(found) for c in table.columns if (found := row.summary(c)).n}
    return {
        "key": row.key,
        "title": row.title,
        "kind": row.kind,
        "group": row.group,
        "note": row.note,
        "planned": row.planned,
        "state": row.state,
        "summary": summaries,
        "comparisons": {key: asdict(c) for key, c in row.comparisons.items()},
        "intervals": {key: list(ends) for key, ends in row.intervals.items()},
        "runs": [_run(run) for run in row.runs],
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "state": run.state,
        "reason": run.reason,
        "restarts": run.restarts,
        "values": dict(run.values),
        "ious": {where: dict(ious) for where, ious in run.ious.items()},
        "curve": [list(point) for point in run.curve],
        "averaged": {key: list(names) for key, names in run.averaged.items()},
        "details": dict(run.details),
    }


def _parsed_row(data: dict[str, Any]) -> Row:
    return Row(
        key=data["key"],
        title=data["title"],
        kind=data["kind"],
        planned=data["planned"],
        runs=tuple(_parsed_run(run) for run in data["runs"]),
        group=data["group"],
        note=data["note"],
        comparisons={key: _parsed_comparison(c) for key, c in data["comparisons"].items()},
        intervals={key: (low, high) for key, (low, high) in data["intervals"].items()},
    )


def _parsed_comparison(data: dict[str, Any]) -> Comparison:
    return Comparison(**{**data, "verdict": Verdict(data["verdict"])})


def _parsed_run(data: dict[str, Any]) -> Run:
    points = tuple((float(seconds), float(score)) for seconds, score in data["curve"])
    averaged = {key: tuple(names) for key, names in data.get("averaged", {}).items()}
    return Run(**{**data, "curve": points, "averaged": averaged})
