"""Strip plot: every run as a dot, the mean of its row and the interval of that mean, column by column."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from densem.evaluation import Verdict
from densem.report.figures import ACCENT, INK, MUTED, RULE, STYLE, Figure, as_svg, canvas
from densem.report.results.columns import Column
from densem.report.results.table import MARKS, ResultsTable, Row

MARKERS = {"network": "o", "distilled": "s", "ensemble": "D", "annotators": "P"}
"""The shape of a dot says what was run; no colour is needed for it."""

NAME_WIDTH = 34
"""Letters in a line of a row's name."""


def strip_plot(table: ResultsTable, columns: tuple[Column, ...]) -> Figure | None:
    """One panel a column with a line for each row of the table; None where no row has a value."""
    columns = tuple(c for c in columns if any(row.summary(c).n for row in table.rows))
    if not columns:
        return None
    names = [wrapped(row.title) for row in table.rows]
    height = row_height(names, 0.27) * len(names) + 0.5
    with mpl.rc_context(STYLE):
        drawing = canvas(2.7 + 3.5 * len(columns), height)
        axes = drawing.subplots(1, len(columns), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.16})[0]
        for ax, column in zip(axes, columns, strict=True):
            _draw_reference(ax, table, column)
            for place, row in enumerate(table.rows):
                _draw_row(ax, place, row, column)
            _dress(ax, column, len(names))
            _scale(
                ax,
                [
                    run.values[column.key]
                    for row in table.rows
                    for run in row.done
                    if column.key in run.values
                ],
            )
        axes[0].set_yticks(range(len(names)), names)
        for label, row in zip(axes[0].get_yticklabels(), table.rows, strict=True):
            label.set_color(INK if row.done else MUTED)
            label.set_fontweight("bold" if row.key == table.reference else "normal")
    return as_svg(drawing, "replicates", _spoken(table, columns))


def wrapped(name: str, width: int = NAME_WIDTH) -> str:
    """A name in lines of at most so many letters."""
    return "\n".join(textwrap.wrap(name, width)) or name


def row_height(names: Sequence[str], single: float) -> float:
    """Inches a row takes where names of one line take `single`; the same for all rows."""
    return single + 0.13 * max((name.count("\n") for name in names), default=0)


def _draw_reference(ax: Axes, table: ResultsTable, column: Column) -> None:
    row = table.reference_row
    values = [run.values[column.key] for run in row.done if column.key in run.values] if row else []
    if not values:
        return
    ax.axvspan(min(values), max(values), color=RULE, alpha=0.55, linewidth=0, zorder=0)
    ax.axvline(float(np.mean(values)), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)


def _draw_row(ax: Axes, place: int, row: Row, column: Column) -> None:
    found = row.summary(column)
    if found.mean is None:
        ax.annotate(
            "not measured" if row.done else row.state, (0.02, place), xycoords=("axes fraction", "data"),
            va="center", color=MUTED, fontsize=8, style="italic",
        )  # fmt: skip
        return
    values = np.array([run.values[column.key] for run in row.done if column.key in run.values])
    ax.scatter(
        values, place + _offsets(len(values)), s=17, marker=MARKERS[row.kind],
        facecolor=ACCENT, edgecolor="none", alpha=0.6, zorder=3,
    )  # fmt: skip
    if found.low is not None and found.high is not None:
        ax.plot([found.low, found.high], [place, place], color=INK, linewidth=1.1, zorder=4)
    ax.plot([found.mean] * 2, [place - 0.27, place + 0.27], color=INK, linewidth=1.8, zorder=5)
    comparison = row.comparisons.get(column.key)
    if comparison is not None and comparison.verdict is not Verdict.REFERENCE:
        ax.annotate(
            MARKS[comparison.verdict], (1.02, place), xycoords=("axes fraction", "data"),
            va="center", ha="left", color=INK, annotation_clip=False,
        )  # fmt: skip


def _offsets(count: int) -> np.ndarray:
    """Heights of the dots of a row, so that equal values stay apart: float64 (N,)."""
    return np.linspace(-0.17, 0.17, count) if count > 1 else np.zeros(1)


def _dress(ax: Axes, column: Column, rows: int) -> None:
    ax.set_ylim(rows - 0.4, -0.6)
    ax.set_xlabel(column.heading, color=INK)
    ax.tick_params(length=0)
    ax.grid(axis="x")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.spines["left"].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)


def _scale(ax: Axes, values: Sequence[float]) -> None:
    """As wide as the dots: the interval of two runs may be longer than everything else and is cut off."""
    room = 0.08 * (max(values) - min(values)) or 0.05
    ax.set_xlim(min(values) - room, max(values) + room)


def _spoken(table: ResultsTable, columns: tuple[Column, ...]) -> str:
    parts = []
    for column in columns:
        rows = [(row, row.summary(column)) for row in table.rows]
        said = [f"{row.title} {column.text(s.mean)} (mean of {s.n})" for row, s in rows if s.n]
        parts.append(f"{column.title}: {', '.join(said)}")
    return f"Every run as a dot, by row. {'. '.join(parts)}."
