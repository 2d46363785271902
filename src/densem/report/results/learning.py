"""Learning curves: a small panel for each row, and whether its score was still rising when the budget ended.

The trend of a run is the least-squares slope of its eval MIoU over the last fifth of its training time, over
at least its last three validations. What a row would gain in another fifth at that slope is its rise; a row
is still rising where the mean rise of its runs is at least `WORTH`, and larger than its own standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from densem.report.figures import ACCENT, INK, MUTED, STYLE, Figure, as_svg, canvas
from densem.report.results.strip import wrapped
from densem.report.results.table import ResultsTable, Row

WORTH = 0.005
"""The least rise over a fifth of the budget that is called one, in MIoU."""

_FEWEST = 4  # validations from which a trend is told
_COLUMNS = 4
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Trend:
    """How a row stood when its trainings ended.

    Attributes:
        rise: what another fifth of the time would add at the last slope, mean of the runs; None if no run has
            enough validations to tell.
        rising: whether that is worth speaking of.
    """

    rise: float | None
    rising: bool


def trend(curves: Sequence[Curve]) -> Trend:
    """The trend of a row's runs: each a sequence of (seconds, eval MIoU), ascending."""
    rises = [rise for curve in curves if (rise := last_rise(curve)) is not None]
    if not rises:
        return Trend(None, False)
    mean = math.fsum(rises) / len(rises)
    error = float(np.std(rises, ddof=1)) / math.sqrt(len(rises)) if len(rises) > 1 else 0.0
    return Trend(mean, mean >= WORTH and mean > error)


def last_rise(curve: Curve) -> float | None:
    """Slope over the last fifth of a curve, as the MIoU gained in such a fifth; None below four points."""
    if len(curve) < _FEWEST:
        return None
    seconds, scores = np.array(curve, np.float64).T
    fifth = seconds[-1] / 5
    first = min(int(np.searchsorted(seconds, seconds[-1] - fifth)), len(curve) - 3)
    times = seconds[first:] - seconds[first:].mean()
    spread = float(times @ times)
    return float(times @ scores[first:]) / spread * fifth if spread > 0 else None


def mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the curves where all have begun and none has ended: seconds and MIoU, float64 (N,).

    Curves that share no moment, of a validation or two, have one mean point: that of their ends.
    """
    known = [np.array(curve, np.float64).T for curve in curves if curve]
    start, stop = max(c[0][0] for c in known), min(c[0][-1] for c in known)
    if start > stop:
        seconds, scores = np.mean([c[:, -1:] for c in known], axis=0)
        return seconds, scores
    seconds = np.unique(np.concatenate([c[0] for c in known]))
    seconds = seconds[(seconds >= start) & (seconds <= stop)]
    return seconds, np.mean([np.interp(seconds, *c) for c in known], axis=0)


def learning_curves(table: ResultsTable) -> Figure | None:
    """A panel for each row with trained networks, the reference's mean dashed in all; None without curves."""
    rows = [row for row in table.rows if _curves(row)]
    if not rows:
        return None
    columns = min(_COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    with mpl.rc_context(STYLE):
        drawing = canvas(2.75 * columns + 0.3, 1.85 * lines + 0.2)
        grid = drawing.subplots(
            lines,
            columns,
            sharex=True,
            sharey=True,
            squeeze=False,
            gridspec_kw={"hspace": 0.52, "wspace": 0.1},
        )
        unit, word = _unit(rows)
        for ax, row in zip(grid.flat, rows, strict=False):
            _draw_panel(ax, row, table, unit)
        _scale(grid[0][0], rows, unit)
        for place, ax in enumerate(grid.flat):
            ax.set_visible(place < len(rows))
            ax.tick_params(labelbottom=place + columns >= len(rows), length=0)
            ax.set_xlabel(f"training time, {word}" if place + columns >= len(rows) else "")
        for line in range(lines):
            grid[line][0].set_ylabel("eval MIoU")
    return as_svg(drawing, "learning", _spoken(rows))


def _curves(row: Row) -> list[Curve]:
    """The curves of the finished runs, as if each had taken the median time of them.

    All took the same steps; one that took longer for them had a busier machine.
    """
    curves = [run.curve for run in row.runs if run.state == "done" and run.curve]
    typical = float(np.median([curve[-1][0] for curve in curves])) if curves else 0.0
    return [[(s * typical / curve[-1][0], miou) for s, miou in curve] for curve in curves]


def _unit(rows: Sequence[Row]) -> tuple[float, str]:
    longest = max(curve[-1][0] for row in rows for curve in _curves(row))
    return next(
        ((size, word) for size, word in ((3600.0, "h"), (60.0, "min")) if longest >= 2 * size), (1.0, "s")
    )


def _draw_panel(ax: Axes, row: Row, table: ResultsTable, unit: float) -> None:
    reference = table.reference_row
    if reference is not None and reference is not row and _curves(reference):
        seconds, scores = mean_curve(_curves(reference))
        ax.plot(seconds / unit, scores, color=MUTED, linewidth=1.0, linestyle=(0, (4, 2)), zorder=2)
    curves = _curves(row)
    for curve in curves:
        seconds, scores = np.array(curve).T
        ax.plot(seconds / unit, scores, color=ACCENT, linewidth=0.7, alpha=0.55, zorder=3)
    seconds, scores = mean_curve(curves)
    ax.plot(seconds / unit, scores, color=ACCENT, linewidth=1.9, zorder=4)
    found = trend(curves)
    ax.set_title(wrapped(row.title, 26), loc="left", fontsize=8.5, color=INK, pad=4)
    if found.rising:
        ax.annotate(
            f"still rising, {found.rise:+.3f}", (0.97, 0.05), xycoords="axes fraction", ha="right",
            fontsize=8, color=INK,
        )  # fmt: skip
    ax.grid(axis="y")
    ax.spines["left"].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def _scale(ax: Axes, rows: Sequence[Row], unit: float) -> None:
    """The limits that all panels share: the longest training, and room for words below the curves."""
    points = np.concatenate([np.array(curve) for row in rows for curve in _curves(row)])
    low, high = points[:, 1].min(), points[:, 1].max()
    span = max(high - low, 0.02)
    ax.set_xlim(0, 1.02 * points[:, 0].max() / unit)
    ax.set_ylim(low - 0.25 * span, high + 0.08 * span)


def budget_words(table: ResultsTable) -> str:
    """What the budget allows: the rows that were still rising when it ended."""
    trends = {row.title: trend(_curves(row)) for row in table.rows if _curves(row)}
    rising = sorted((t for t in trends.items() if t[1].rising), key=lambda t: -(t[1].rise or 0.0))
    flat = [title for title, found in trends.items() if found.rise is not None and not found.rising]
    unknown = [title for title, found in trends.items() if found.rise is None]
    words = []
    if rising:
        named = ", ".join(f"{title} ({found.rise:+.3f})" for title, found in rising)
        words.append(
            "Still rising when the budget ended, with what another fifth of the time would add at the "
            f"last slope: {named}. How these rows compare is a statement about this budget, not about the "
            "networks."
        )
    elif flat:
        words.append("No row was still rising when the budget ended.")
    if rising and flat:
        words.append(f"No longer rising: {', '.join(flat)}.")
    if unknown:
        words.append(f"Too few validations to tell: {', '.join(unknown)}.")
    if flat:
        words.append(
            "A learning rate that falls to zero flattens every curve: a flat end says that the schedule is "
            "over, not that a longer training would be no better."
        )
    return " ".join(words)


def _spoken(rows: Sequence[Row]) -> str:
    ends = ", ".join(f"{row.title} {mean_curve(_curves(row))[1][-1]:.3f}" for row in rows)
    return f"MIoU on the eval volumes against training time, by row; at the end of the mean curve: {ends}."
