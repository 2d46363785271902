"""The page of a benchmark: its table, every run as a dot, learning curves, cost, classes, one cut.

Figures that a table has nothing for are left out; rows that were not run, failed or collapsed stay visible.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from densem.evaluation import Verdict
from densem.report.content import (
    Block,
    Cell,
    Chart,
    Gallery,
    Notice,
    Paragraph,
    ReportContent,
    Section,
    Table,
    Tile,
)
from densem.report.figures import Figure
from densem.report.results.class_scores import class_figure
from densem.report.results.columns import Column, Group
from densem.report.results.learning import budget_words, learning_curves
from densem.report.results.methods import methods, recipes_table
from densem.report.results.pareto import pareto_plot
from densem.report.results.strip import strip_plot
from densem.report.results.table import LEVEL, MARKS, READING, Comparison, ResultsTable, Row

_GROUPS: tuple[tuple[Group, str, str], ...] = (
    ("accuracy", "Further scores", "Mean ± standard deviation of the finished runs; bold: the best mean."),
    (
        "boundary",
        "Boundaries and calibration",
        "Distances between true and predicted boundaries, and calibration. A class that a run never predicts "
        "has no distance: a row that lacks a class which others have is not set in bold there.",
    ),
    (
        "cost",
        "Cost",
        "What a row costs. Times hold for the machines named under Methods and for nothing else.",
    ),
)
_NO_TEST = "There are no scores on test volumes. "
_ACROSS = 6  # columns of a further table, at most


def results_page(
    table: ResultsTable, cut: Gallery | None = None, cell: Gallery | None = None
) -> ReportContent:
    """The content of the page.

    Args:
        table: the results.
        cut: all rows on one cut, from `cut.cut_gallery`; None to leave it out.
        cell: one cell in 3D as all rows have it, from `cell.cell_gallery`; None to leave it out.
    """
    sections = [
        Section(
            "Results",
            (Paragraph(how_to_read(table)), *_uncompared(table), main_table(table), *_differences(table)),
        ),
        *_section("Every run", strip_plot(table, table.headlines), _STRIP),
        *_learning(table),
        *_pareto(table),
        *_classes(table),
        *([Section("One cut", (cut,))] if cut is not None else []),
        *([Section("One cell", (cell,))] if cell is not None else []),
        *_further(table),
        *_troubles(table),
        Section("Methods", (*(Paragraph(text) for text in methods(table)), *_recipes(table))),
    ]
    return ReportContent(
        title=str(table.facts.get("title") or table.name),
        subtitle=f"Benchmark {table.name} of study {table.study}, {len(table.rows)} rows",
        date=str(table.facts.get("date", "")),
        kicker="densem benchmark",
        tiles=_tiles(table),
        warnings=warnings(table),
        sections=tuple(sections),
        footer=" · ".join(str(f) for f in table.facts.get("footer", ())),
    )


# ---- words -----------------------------------------------------------------------------------


def how_to_read(table: ResultsTable) -> str:
    """The sentences above the table."""
    words = [
        "Each row but an ensemble is one network trained several times, with nothing changed but the seed. "
        "Its score is the mean of these runs, ± their standard deviation.",
        "A difference between two rows that is no larger than the spread between the trainings of one row "
        "means nothing.",
    ]
    row = table.reference_row
    if row is not None and _verdicts(table):
        words.append(f"The marks say which rows can be told apart from {row.title}: {legend(table)}.")
    if any(r.kind == "ensemble" for r in table.rows):
        words.append(
            "Members of ensembles were chosen by their scores on the eval volumes, never by the test."
        )
    return " ".join(words)


def legend(table: ResultsTable) -> str:
    """The marks that the table holds and what they say."""
    present = _verdicts(table)
    return ", ".join(f"{MARKS[v]} {READING[v]}" for v in MARKS if v in present and v is not Verdict.REFERENCE)


def _uncompared(table: ResultsTable) -> tuple[Block, ...]:
    """Why a row, or a column, has no mark."""
    refused = table.facts.get("not_compared", {})
    return tuple(
        Notice(f"Not compared in {table.column(key).title}: {why}")
        for key, reasons in refused.items()
        if key in table.headline
        for why in reasons
    )


def _verdicts(table: ResultsTable) -> set[Verdict]:
    return {
        row.comparisons[key].verdict for row in table.rows for key in table.headline if key in row.comparisons
    } - {Verdict.REFERENCE}


def warnings(table: ResultsTable) -> tuple[str, ...]:
    """What a reader must know first."""
    found = []
    missing = table.counted("not run")
    if missing:
        rows = [row.title for row in table.rows if row.count("not run")]
        found.append(
            f"Not complete: {missing} runs are missing, of {_listed(rows)}. What is here may still change."
        )
    if not any(c.key.startswith("test/") for c in table.headlines):
        scored = any(c.key.startswith("test/") and c.is_score for c in table.columns)
        found.append(
            ("The table has no column of the test volumes. " if scored else _NO_TEST)
            + "The eval volumes chose the weights of every run and the members of ensembles, so scores on "
            "them are optimistic."
        )
    if table.reference_row is not None and not table.reference_row.done:
        found.append(
            f"The reference row {table.reference_row.title} has no finished run: nothing can be compared."
        )
    return tuple(found)


def _tiles(table: ResultsTable) -> tuple[Tile, ...]:
    planned = sum(len(row.runs) for row in table.rows)
    troubled = table.counted("failed"), table.counted("collapsed")
    tiles = [Tile("Runs finished", f"{table.counted('done')} of {planned}", f"{len(table.rows)} rows")]
    for column in table.headlines:
        rows = [
            row for row in table.rows if row.kind != "annotators" and row.summary(column).mean is not None
        ]
        sign = -1.0 if column.better == "lower" else 1.0
        top = max(rows, key=lambda row: sign * (row.summary(column).mean or 0.0), default=None)
        if top is not None:
            tiles.append(Tile(f"Highest {column.title}", column.text(top.summary(column).mean), top.title))
    tiles.append(Tile("Failed, collapsed", f"{troubled[0]}, {troubled[1]}", "runs, in no mean"))
    return tuple(tiles)


# ---- tables ----------------------------------------------------------------------------------


def main_table(table: ResultsTable) -> Table:
    """Rows with the headline columns: mean and spread, best, interval, and the marks."""
    marked = bool(_verdicts(table))
    columns = ["", "Runs"]
    for column in table.headlines:
        columns += [
            column.heading,
            "best",
            f"{LEVEL:.0%} interval".replace("%", " %"),
            *([""] if marked else []),
        ]
    return Table(tuple(columns), tuple(_main_rows(table, len(columns), marked)), _main_caption(table))


def _main_rows(table: ResultsTable, width: int, marked: bool) -> list[tuple[Cell, ...]]:
    found: list[tuple[Cell, ...]] = []
    best = {column.key: table.best(column) for column in table.headlines}
    group = ""
    for row in table.rows:
        if row.group and row.group != group:
            found.append((Cell(row.group, strong=True, span=width),))
        group = row.group
        cells = [Cell(row.title, note=what_is_missing(row)), Cell(runs(row), number=True)]
        for column in table.headlines:
            cells += _headline_cells(row, column, row.key in best[column.key])
            cells += [_mark(row.comparisons.get(column.key))] if marked else []
        found.append(tuple(cells))
    return found


def what_is_missing(row: Row) -> str:
    """`2 of 3 failed: why`, in at most 160 letters; empty for a row that is complete."""
    if row.state == "done":
        return ""
    return textwrap.shorten(
        f"{row.state}: {row.reasons}" if row.reasons else row.state, 160, placeholder=" ..."
    )


def _headline_cells(row: Row, column: Column, best: bool) -> list[Cell]:
    found = row.summary(column)
    return [
        Cell(spread(row, column), number=True, strong=best),
        Cell(column.text(found.best) if found.n > 1 else "", number=True),
        Cell(column.interval(found.low, found.high), number=True),
    ]


def spread(row: Row, column: Column) -> str:
    """`0.547 ± 0.021`, `0.553` of a single run, a dash of none."""
    found = row.summary(column)
    text = column.text(found.mean)
    return text if found.sd is None else f"{text} ± {column.text(found.sd)}"


def runs(row: Row) -> str:
    """`6`, or `4 of 6` where some are missing or were in vain."""
    done = row.count("done")
    return str(done) if done == len(row.runs) else f"{done} of {len(row.runs)}"


def _mark(comparison: Comparison | None) -> Cell:
    return Cell("" if comparison is None else MARKS[comparison.verdict])


def _main_caption(table: ResultsTable) -> str:
    row = table.reference_row
    words = [
        "Mean ± standard deviation of the finished runs; bold: the best mean of a column; best: the best "
        "single run, which by chance alone is the better the more runs there are.",
        f"Reference: {row.title}; {legend(table)}." if row is not None and _verdicts(table) else "",
    ]
    return " ".join(w for w in words if w)


def _differences(table: ResultsTable) -> tuple[Block, ...]:
    """Row by row against the reference, in the column that rows are judged by."""
    column, reference = table.score, table.reference_row
    if column is None or reference is None or not _verdicts(table):
        return ()
    rows = [
        (row, row.comparisons[column.key])
        for row in table.rows
        if column.key in row.comparisons and row is not reference
    ]
    cells = tuple(
        (
            Cell(row.title),
            Cell("–" if c.difference is None else f"{c.difference:+.3f}", number=True),
            Cell("" if c.low is None or c.high is None else f"{c.low:+.3f} to {c.high:+.3f}", number=True),
            Cell("–" if c.p_holm is None else p_text(c.p_holm), number=True),
            Cell(f"{MARKS[c.verdict]} {READING[c.verdict].partition(',')[0]}", note=c.reason),
        )
        for row, c in rows
    )
    caption = (
        f"{column.title} less that of {reference.title}, with its 95 % interval, and the probability of so "
        "large a difference by chance alone, corrected for the number of rows (Holm)."
    )
    return (Table(("", "Difference", "95 % interval", "p", ""), cells, caption),) if cells else ()


def p_text(p: float) -> str:
    """`0.031`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _further(table: ResultsTable) -> list[Section]:
    """Everything else that was measured, in tables narrow enough to read."""
    found = []
    for group, title, caption in _GROUPS:
        columns = [c for c in table.columns if c.group == group and _is_shown(c, table)]
        if columns:
            across = -(-len(columns) // -(-len(columns) // _ACROSS))
            parts = [columns[at : at + across] for at in range(0, len(columns), across)]
            found.append(Section(title, tuple(_plain_table(table, part, caption) for part in parts)))
    return found


def _is_shown(column: Column, table: ResultsTable) -> bool:
    """Of the volumes that rows are judged by; what they cost; the rest is in the CSV."""
    if column.key in table.headline:
        return False
    role, _, rest = column.key.partition("/")
    if not rest or table.score is None:
        return True
    wanted, _, metric = table.score.key.partition("/")
    if role != wanted:
        return False
    return column.group != "boundary" or "/" not in rest or rest.partition("/")[0] == metric.partition("/")[0]


def _plain_table(table: ResultsTable, columns: Sequence[Column], caption: str) -> Table:
    best = {column.key: table.best(column) for column in columns}
    rows = tuple(
        (
            Cell(row.title),
            *(Cell(_short(row, c), number=True, strong=row.key in best[c.key]) for c in columns),
        )
        for row in table.rows
    )
    meanings = "; ".join(f"{c.title}: {c.meaning}" for c in columns)
    return Table(
        ("", *(c.heading for c in columns)), rows, f"{caption} {meanings[:1].upper()}{meanings[1:]}."
    )


def _short(row: Row, column: Column) -> str:
    """With its spread where it has one: parameters have none."""
    found = row.summary(column)
    return spread(row, column) if found.sd else column.text(found.mean)


def _troubles(table: ResultsTable) -> list[Section]:
    restarted = [(row, run) for row in table.rows for run in row.runs if run.restarts and run.state == "done"]
    if not table.troubled and not restarted:
        return []
    rows = [(Cell(run.name), Cell(run.state), Cell("", note=run.reason)) for _, run in table.troubled]
    rows += [
        (Cell(run.name), Cell("done"), Cell("", note=f"after {run.restarts} attempts that had collapsed"))
        for _, run in restarted
    ]
    caption = "Runs that failed or collapsed. They enter no mean, no ensemble and no test of significance."
    return [Section("Failed and collapsed runs", (Table(("Run", "Ended", "Why"), tuple(rows), caption),))]


def _recipes(table: ResultsTable) -> tuple[Block, ...]:
    found = recipes_table(table)
    return (found,) if found is not None else ()


# ---- figures ---------------------------------------------------------------------------------

_STRIP = (
    "Every finished run is a dot (circle: network, square: distilled network, diamond: ensemble, plus: "
    "annotators); thick tick: mean of the row; line: 95 % interval of the mean. Grey band: the runs of the "
    "reference row, its mean dashed. A row whose mean lies in the band differs from it by less than one "
    "training from the next."
)

_PARETO = (
    "Filled, and joined by the dashed steps: rows that no other row beats in both. Bars: standard deviation "
    "between runs."
)


def _section(title: str, figure: Figure | None, caption: str, *before: Block) -> list[Section]:
    return [] if figure is None else [Section(title, (*before, Chart(figure, caption)))]


def _learning(table: ResultsTable) -> list[Section]:
    words = budget_words(table)
    caption = (
        "MIoU on the eval volumes against training time (the median of a row's runs, which take the same "
        "steps). Thin: each run; thick: their mean; dashed: the mean of the reference row. Still rising: by "
        "how much another fifth of the time would raise the score at the slope of the last fifth."
    )
    return _section(
        "What the budget allows", learning_curves(table), caption, *([Notice(words)] if words else [])
    )


def _pareto(table: ResultsTable) -> list[Section]:
    """Accuracy against the work a voxel takes and against speed, as far as they were measured."""
    if table.score is None:
        return []
    role = table.score.key.partition("/")[0]
    costs = [c for key in ("mflop_per_voxel", f"{role}/voxels_per_s") for c in table.columns if c.key == key]
    figures = [(cost, pareto_plot(table, cost, table.score)) for cost in costs]
    charts = tuple(
        Chart(figure, f"{table.score.title} against {cost.title}. {_PARETO}")
        for cost, figure in figures
        if figure is not None
    )  # fmt: skip
    return [Section("Accuracy and cost", charts)] if charts else []


def _classes(table: ResultsTable) -> list[Section]:
    if table.score is None:
        return []
    where, _, _ = table.score.key.rpartition("/")
    role, _, protocol = where.partition("/")
    inside = ", inside labelled cells" if protocol == "cells" else ""
    caption = (
        f"Mean IoU of each class on the {role} volumes{inside}; lines: 95 % interval over the runs; bold: "
        "the best. A row with a single run has no interval."
    )
    return _section("Classes", class_figure(table, where), caption)


def _listed(words: Sequence[str]) -> str:
    """As `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
