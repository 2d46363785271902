"""Distributions of size: a row of bars for each class, objects that the volume's border cuts below the line.

What the border cuts is smaller than it really is, so it stands apart and counts in no median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from densem.report.figures import ACCENT, INK, MUTED, STYLE, Figure, as_svg, canvas

_BINS = 32
_UP, _DOWN = 0.62, 0.3  # heights of the tallest bars above and below a class's line, in rows


@dataclass(frozen=True, eq=False)
class SizeRow:
    """What was measured of one class.

    Attributes:
        name: of the class, in words.
        color: `#rrggbb`.
        whole: values of objects that lie inside the volume whole, float64 (N,).
        cut: of those that its border cuts, float64 (M,).
    """

    name: str
    color: str
    whole: np.ndarray
    cut: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """All of them."""
        return np.concatenate([self.whole, self.cut])

    @property
    def median(self) -> float | None:
        """Of what is whole."""
        return float(np.median(self.whole)) if len(self.whole) else None


@dataclass(frozen=True)
class Measure:
    """What an axis shows.

    Attributes:
        name: a short file name.
        label: of the axis, with its unit.
        kind: how its bins lie: powers, equal steps from 0, or one for each whole number.
        what: what is counted, in the plural.
        end: where a linear axis ends, which then begins a little below the smallest value; by default it
            runs from 0 to the largest.
    """

    name: str
    label: str
    kind: str = "log"
    what: str = "objects"
    end: float | None = None


def unit_of(values_nm: np.ndarray, power: int) -> tuple[float, str]:
    """Factor and unit in which areas (power 2) or volumes (3) in nm are told: of µm where they are large.

    `(1e-9, "µm³")` for volumes whose largest is a thousandth of a cubic micrometre or more.
    """
    sign = "²" if power == 2 else "³"
    large = len(values_nm) > 0 and float(values_nm.max()) >= 1e-3 * 1000.0**power
    return (1000.0**-power, f"µm{sign}") if large else (1.0, f"nm{sign}")


def distribution(measure: Measure, rows: Sequence[SizeRow]) -> Figure | None:
    """Bars of the values of every class; None where there are none."""
    rows = [row for row in rows if len(row.values)]
    if not rows:
        return None
    edges = _edges(measure, np.concatenate([row.values for row in rows]))
    with mpl.rc_context(STYLE):
        drawing = canvas(4.5, 0.45 + 0.72 * len(rows))
        ax = drawing.add_axes((0, 0, 1, 1))
        for place, row in enumerate(rows):
            _draw_row(ax, place, row, edges)
        _dress(ax, measure, rows, edges)
    told = "; ".join(_told(row) for row in rows)
    return as_svg(drawing, measure.name, f"{measure.label}, number of {measure.what}: {told}.")


def _told(row: SizeRow) -> str:
    middle = "" if row.median is None else f", median {short(row.median)}"
    return f"{row.name} {len(row.whole)} whole{middle}, {len(row.cut)} cut by the border"


def _edges(measure: Measure, values: np.ndarray) -> np.ndarray:
    """Edges of the bins, the same for all classes of a chart."""
    high = measure.end or float(values.max())
    if measure.kind == "count":
        step = max(1, math.ceil((high + 1) / 40))
        return np.arange(0, high + 1 + step, step) - 0.5
    if measure.kind == "linear":
        low = math.floor(10 * float(values.min())) / 10 if measure.end else 0.0
        return np.linspace(min(low, 0.9 * high), high * (1 if measure.end else 1.02) or 1.0, _BINS + 1)
    positive = values[values > 0]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (1.0, 1.0)
    middle, span = math.log10(low * high) / 2, max(math.log10(high / low) * 1.04, 0.6)
    return np.logspace(middle - span / 2, middle + span / 2, _BINS + 1)


def _draw_row(ax: Axes, place: int, row: SizeRow, edges: np.ndarray) -> None:
    whole, cut = (np.histogram(values, edges)[0] for values in (row.whole, row.cut))
    left, width = edges[:-1], np.diff(edges)
    tallest = max(int(whole.max()), int(cut.max()), 1)
    filled: dict[str, Any] = {"color": row.color, "edgecolor": INK, "linewidth": 0.4}
    hatched: dict[str, Any] = {"color": "none", "edgecolor": MUTED, "linewidth": 0.8, "hatch": "////"}
    for counts, height, look in ((whole, -_UP, filled), (cut, _DOWN, hatched)):
        there = counts > 0
        ax.bar(
            left[there], height * counts[there] / tallest, width[there], place, align="edge", zorder=3, **look
        )
    ax.axhline(place, color=MUTED, linewidth=0.8, zorder=4)
    if row.median is not None:
        ax.plot([row.median] * 2, [place, place - _UP - 0.06], color=ACCENT, linewidth=1.4, zorder=5)
    _note(ax, place - 0.3, f"{len(row.whole):,} whole", INK)
    if row.median is not None:
        _note(ax, place - 0.05, f"median {short(row.median)}", ACCENT)
    if len(row.cut):
        _note(ax, place + 0.2, f"{len(row.cut):,} cut", MUTED)


def _note(ax: Axes, y: float, text: str, color: str) -> None:
    ax.annotate(
        text,
        (1.03, y),
        xycoords=("axes fraction", "data"),
        color=color,
        va="center",
        fontsize=8,
        annotation_clip=False,
    )


def _dress(ax: Axes, measure: Measure, rows: Sequence[SizeRow], edges: np.ndarray) -> None:
    if measure.kind == "log":
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=8))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=measure.kind == "count"))
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(len(rows) - 0.6, -0.78)
    ax.set_yticks(range(len(rows)), [row.name for row in rows])
    ax.tick_params(axis="y", length=0, labelcolor=INK, pad=6)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="x")
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.set_xlabel(measure.label, labelpad=6)


def _power(value: float) -> str:
    """A power of ten written out: `0.00001`, `10`, `1,000,000`."""
    return f"{value:,.0f}" if value >= 1 else f"{value:.9f}".rstrip("0")


def short(value: float) -> str:
    """In three digits: `0.00312`, `12.4`, `1,250`."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.1e}"
