"""Bars of every class: the mean IoU of each row with its interval, a panel for each class."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from densem.report.figures import INK, MUTED, STYLE, Figure, as_svg, canvas
from densem.report.results.strip import row_height, wrapped
from densem.report.results.table import ClassFacts, ResultsTable, Row, Summary, summarise

_MOST = 5  # panels beside each other
_GAP = 0.6  # inches between two lines of panels, for ticks and titles


def class_summaries(table: ResultsTable, where: str) -> dict[str, dict[str, Summary]]:
    """Class name -> row key -> mean IoU, spread and interval, for the classes that any row has an IoU of.

    Args:
        table: the results.
        where: role and protocol, as `test/cells`.
    """
    found = {c.name: {row.key: _summary(row, where, c.name) for row in table.rows} for c in table.classes}
    return {name: rows for name, rows in found.items() if any(s.n for s in rows.values())}


def _summary(row: Row, where: str, name: str) -> Summary:
    values = [run.ious.get(where, {}).get(name) for run in row.done]
    return summarise(v for v in values if v is not None)


def class_figure(table: ResultsTable, where: str) -> Figure | None:
    """The bars, in the colours of the classes; None where no row has an IoU."""
    found = class_summaries(table, where)
    rows = [row for row in table.rows if any(rows[row.key].n for rows in found.values())]
    if not rows:
        return None
    shown = [c for c in table.classes if c.name in found]
    bands = -(-len(shown) // _MOST)
    across = -(-len(shown) // bands)
    names = [wrapped(row.title) for row in rows]
    height = row_height(names, 0.23) * len(names)
    with mpl.rc_context(STYLE):
        drawing = canvas(2.4 + 1.48 * across, height * bands + _GAP * (bands - 1))
        grid = drawing.subplots(
            bands, across, sharex=True, sharey=True, squeeze=False,
            gridspec_kw={"wspace": 0.36, "hspace": _GAP / height, "top": 1, "bottom": 0},
        )  # fmt: skip
        for ax, entry in zip(grid.flat, shown, strict=False):
            _draw_class(ax, entry, [(row, found[entry.name][row.key]) for row in rows])
        for ax in list(grid.flat)[len(shown) :]:
            ax.set_visible(False)
        for line in grid:
            line[0].set_yticks(range(len(names)), names)
            line[0].tick_params(axis="y", labelcolor=INK)
    return as_svg(drawing, "classes", _spoken(rows, shown, found))


def _draw_class(ax: Axes, entry: ClassFacts, summaries: list[tuple[Row, Summary]]) -> None:
    known = [s.mean for row, s in summaries if s.mean is not None and row.kind != "annotators"]
    top = f"{max(known):.2f}" if len({f"{mean:.2f}" for mean in known}) > 1 else ""
    for place, (row, found) in enumerate(summaries):
        if found.mean is None:
            ax.annotate("–", (1.05, place), va="center", color=MUTED, fontsize=8, annotation_clip=False)
            continue
        _draw_bar(ax, place, found.mean, entry.color)
        if found.low is not None and found.high is not None:
            _draw_interval(ax, place, found.low, found.high)
        text = f"{found.mean:.2f}"
        ax.annotate(
            text, (1.05, place), va="center", color=INK, fontsize=8, annotation_clip=False,
            fontweight="bold" if text == top and row.kind != "annotators" else "normal",
        )  # fmt: skip
    ax.set_title(entry.name.replace("_", " "), loc="left", fontsize=9, color=INK, pad=5)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(summaries) - 0.45, -0.55)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.tick_params(length=0, labelbottom=True)
    ax.grid(axis="x")
    ax.spines["left"].set_color(MUTED)
    ax.spines["bottom"].set_visible(False)


def _draw_bar(ax: Axes, place: int, length: float, color: str) -> None:
    """In the colour of the class, with an edge that shows a black or white one as well."""
    ax.barh(place, length, height=0.66, color=color, zorder=2)
    ax.barh(place, length, height=0.66, color="none", edgecolor=INK, linewidth=0.7, alpha=0.45, zorder=3)


def _draw_interval(ax: Axes, place: int, low: float, high: float) -> None:
    """A line over a lighter one, so that it is seen on any colour."""
    ends, line = np.clip([low, high], 0, 1), [place, place]
    ax.plot(ends, line, color="white", linewidth=2.6, alpha=0.7, zorder=4)
    ax.plot(ends, line, color=INK, linewidth=1.2, zorder=5)


def _spoken(rows: list[Row], classes: list[ClassFacts], found: dict[str, dict[str, Summary]]) -> str:
    parts = []
    for entry in classes:
        summaries = [(row, found[entry.name][row.key].mean) for row in rows]
        said = ", ".join(f"{row.title} {mean:.2f}" for row, mean in summaries if mean is not None)
        parts.append(f"{entry.name.replace('_', ' ')}: {said}")
    return f"Mean IoU of each class by row. {'; '.join(parts)}."
