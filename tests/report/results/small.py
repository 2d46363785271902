"""A table small enough to check by eye: three rows of the eval score and two costs."""

from __future__ import annotations

from dataclasses import replace

from densem.report.results.columns import COLUMNS
from densem.report.results.table import ClassFacts, ResultsTable, Row, Run

MIOU, FLOP, SPEED = "eval/labelled/miou", "mflop_per_voxel", "eval/voxels_per_s"
CLASSES = (ClassFacts("cell", "#0101e0", False), ClassFacts("dense_granule", "#ff00aa", True))


def run(name: str, miou: float | None = None, **more) -> Run:
    """A run that is done, with its score."""
    values = {} if miou is None else {MIOU: miou}
    return Run(name, more.pop("state", "done"), values={**values, **more.pop("values", {})}, **more)


def row(key: str, *scores: float, **more) -> Row:
    """A row of finished networks with these scores."""
    runs = more.pop("runs", tuple(run(f"{key}/s{n}", score) for n, score in enumerate(scores, 1)))
    title = more.pop("title", key.title())
    return Row(key, title, more.pop("kind", "network"), len(runs), runs, **more)


def table(*rows: Row, **more) -> ResultsTable:
    """A table of these rows; the columns are those that a run has a value of."""
    present = {key for r in rows for one in r.runs for key in one.values}
    columns = tuple(c for c in COLUMNS if c.key in present)
    headline = tuple(key for key in (MIOU, "test/cells/miou_organelles") if key in present)
    made = ResultsTable("small", "study", rows, columns, headline, classes=CLASSES)
    return replace(made, **more)
