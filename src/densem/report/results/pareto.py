"""The Pareto front: accuracy against cost, and the rows that no other row beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from densem.report.figures import ACCENT, INK, MUTED, STYLE, Figure, as_svg, canvas
from densem.report.results.columns import Column
from densem.report.results.labels import Name, place_names
from densem.report.results.strip import MARKERS
from densem.report.results.table import ResultsTable, Row

Point = tuple[float, float]


def front(points: Sequence[Point], cheaper: str = "lower") -> list[int]:
    """Indices of the points that none beats, cheapest first.

    A point is beaten by another that costs no more and scores no less, and is better in one of the two.

    Args:
        points: (cost, score); a higher score is better.
        cheaper: whether a lower or a higher cost is better.
    """
    sign = 1.0 if cheaper == "lower" else -1.0
    order = sorted(range(len(points)), key=lambda i: (sign * points[i][0], -points[i][1]))
    kept: list[int] = []
    for i in order:
        if not kept or points[i][1] > points[kept[-1]][1] or points[i] == points[kept[-1]]:
            kept.append(i)
    return kept


def pareto_plot(table: ResultsTable, cost: Column, score: Column) -> Figure | None:
    """Every row as a point, the front drawn; None if fewer than two rows have both numbers."""
    rows = [row for row in table.rows if row.kind != "annotators" and _point(row, cost, score) is not None]
    if len(rows) < 2:
        return None
    points = [point for row in rows if (point := _point(row, cost, score)) is not None]
    best = front(points, "lower" if cost.better == "lower" else "higher")
    with mpl.rc_context(STYLE):
        drawing = canvas(9.6, min(6.4, 3.4 + 0.12 * len(rows)))
        ax = drawing.add_axes((0, 0, 1, 1))
        _dress(ax, points, cost, score)
        bars = _draw_points(ax, rows, points, best, score)
        steps = _draw_front(ax, [points[i] for i in best], cost)
        order = [*best, *(i for i in range(len(rows)) if i not in best)]
        names = [Name(rows[i].title, *points[i], INK if i in best else MUTED) for i in order]
        place_names(ax, names, [*bars, *steps])
    return as_svg(drawing, f"pareto-{cost.key.replace('/', '-')}", _spoken(rows, points, best, cost, score))


def _point(row: Row, cost: Column, score: Column) -> Point | None:
    spent, found = row.summary(cost).mean, row.summary(score).mean
    return None if spent is None or found is None or spent <= 0 else (spent / cost.divide, found)


def _dress(ax: Axes, points: Sequence[Point], cost: Column, score: Column) -> None:
    costs, scores = zip(*points, strict=True)
    low, high = math.log10(min(costs)), math.log10(max(costs))
    room = max(0.3, 0.18 * (high - low))
    ax.set_xscale("log")
    ax.set_xlim(10 ** (low - room), 10 ** (high + room))
    span = max(max(scores) - min(scores), 0.02)
    ax.set_ylim(min(scores) - 0.22 * span, max(scores) + 0.22 * span)
    wide = high - low + 2 * room > 1.5
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide and high - low > 3 else (1.0, 2.0, 5.0)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.tick_params(which="both", length=0)
    ax.grid(axis="both")
    better = {"lower": "cheaper to the left", "higher": "faster to the right"}[cost.better or "lower"]
    ax.set_xlabel(f"{cost.heading} ({better})")
    ax.set_ylabel(score.heading)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)


def _draw_points(
    ax: Axes, rows: Sequence[Row], points: Sequence[Point], best: Sequence[int], score: Column
) -> list[Bbox]:
    """Points with the spread between runs; the boxes of these bars in pixels."""
    boxes = []
    for i, (row, (x, y)) in enumerate(zip(rows, points, strict=True)):
        sd = row.summary(score).sd or 0.0
        on = i in best
        ax.plot([x, x], [y - sd, y + sd], color=MUTED, linewidth=0.8, zorder=2, scaley=False)
        ax.plot(
            [x], [y], MARKERS[row.kind], markersize=6.5, zorder=4, markeredgewidth=1.2,
            markerfacecolor=ACCENT if on else "none", markeredgecolor=ACCENT if on else MUTED,
        )  # fmt: skip
        (px, low), (_, high) = ax.transData.transform([(x, y - sd), (x, y + sd)])
        boxes.append(Bbox.from_extents(px - 1, low, px + 1, high))
    return boxes


def _draw_front(ax: Axes, best: Sequence[Point], cost: Column) -> list[Bbox]:
    """Steps: what is the best score to be had at a cost; their boxes in pixels."""
    low, high = ax.get_xlim()
    bottom, _ = ax.get_ylim()
    end = high if cost.better == "lower" else low
    xs, ys = [best[0][0]], [bottom]
    for place, (x, y) in enumerate(best):
        xs += [x, best[place + 1][0] if place + 1 < len(best) else end]
        ys += [y, y]
    ax.plot(xs, ys, color=ACCENT, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1)
    corners = ax.transData.transform(list(zip(xs, ys, strict=True)))
    return [
        Bbox.from_extents(min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)
        for a, b in pairwise(corners)
    ]


def _spoken(
    rows: Sequence[Row], points: Sequence[Point], best: Sequence[int], cost: Column, score: Column
) -> str:
    on = "; ".join(f"{rows[i].title}: {points[i][0]:.3g}, {points[i][1]:.3f}" for i in best)
    return (
        f"{score.title} against {cost.heading} of {len(rows)} rows. No row is both cheaper and better than "
        f"these, cost and score: {on}."
    )
