"""Figures of a report: bars of the class scores, the confusion matrix, and how any chart becomes SVG.

A chart is drawn with matplotlib in the four theme colours below and kept as plain SVG bytes that any
program opens. The page swaps those colours for its own variables, so that charts follow light and dark;
text stays text, in the page's font.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from densem.evaluation import ClassScores, Scores
from densem.schema import LabelSchema

INK, MUTED, RULE, ACCENT, ON_ACCENT = "#1c2430", "#5f6b7a", "#d9dee5", "#2563a8", "#fffffe"
THEME = {INK: "--ink", MUTED: "--muted", RULE: "--rule", ACCENT: "--accent", ON_ACCENT: "--on-accent"}
"""Colours of the charts, and the page variables they follow."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "svg.fonttype": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
}


@dataclass(frozen=True)
class Figure:
    """A finished figure.

    Attributes:
        name: a short file name without ending.
        alt: what it shows, in words, for those who cannot see it.
        data: the file.
        kind: its format.
    """

    name: str
    alt: str
    data: bytes
    kind: Literal["svg", "png"] = "svg"


def canvas(width: float, height: float) -> Canvas:
    """An empty chart in the style of the report; sizes in inches."""
    with mpl.rc_context(STYLE):
        return Canvas(figsize=(width, height), facecolor="none")


def as_svg(drawing: Canvas, name: str, alt: str) -> Figure:
    """The chart as SVG: the same bytes for the same content, ids that differ between figures."""
    out = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        drawing.savefig(out, format="svg", bbox_inches="tight", pad_inches=0.03, metadata=nothing)
    return Figure(name, alt, out.getvalue())


# ---- class bars ------------------------------------------------------------------------------


def class_bars(scores: Scores, schema: LabelSchema) -> Figure:
    """The IoU of every class as a bar in its colour, a dashed line at the mean."""
    rows = scores.classes
    with mpl.rc_context(STYLE):
        drawing = canvas(4.3, 0.45 + 0.36 * len(rows))
        ax = drawing.add_axes((0, 0, 1, 1))
        for place, row in enumerate(rows):
            _draw_bar(ax, place, row, schema[row.name].color)
        _draw_mean(ax, scores)
        _dress_bars(ax, rows)
    values = ", ".join(f"{r.name} {_number(r.iou)}" for r in rows)
    return as_svg(drawing, "class-iou", f"Intersection over union per class: {values}.")


def _draw_bar(ax: Axes, place: int, row: ClassScores, color: str) -> None:
    ax.barh(place, row.iou or 0.0, height=0.62, color=color, zorder=2)
    ax.barh(
        place, row.iou or 0.0, height=0.62, color="none", edgecolor=INK, linewidth=0.8, alpha=0.45, zorder=3
    )
    absent = row.truth == 0 and row.predicted == 0
    text = _number(row.iou) if row.iou is not None else ("not in this volume" if absent else "not judged")
    ax.annotate(
        text,
        (1.035, place),
        va="center",
        ha="left",
        color=INK if row.iou is not None else MUTED,
        annotation_clip=False,
    )


def _draw_mean(ax: Axes, scores: Scores) -> None:
    mean = scores.miou if scores.miou is not None else scores.miou_organelles
    if mean is not None:
        ax.axvline(mean, color=ACCENT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        word = "MIoU" if scores.miou is not None else "organelle MIoU"
        ax.annotate(
            f"{word} {mean:.3f}", (mean, -0.62), color=ACCENT, ha="center", va="bottom", annotation_clip=False
        )


def _dress_bars(ax: Axes, rows: tuple[ClassScores, ...]) -> None:
    ax.set_yticks(range(len(rows)), [_readable(r.name) for r in rows])
    ax.tick_params(axis="y", length=0, labelcolor=INK, pad=6)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(rows) - 0.45, -0.6)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.grid(axis="x")
    ax.spines["left"].set_color(MUTED)
    ax.spines["bottom"].set_visible(False)


# ---- confusion matrix ------------------------------------------------------------------------


def confusion_matrix(scores: Scores) -> Figure:
    """The row-normalised confusion matrix, in percent of the true class; readable up to 20 classes."""
    shares = scores.normalized_confusion()
    columns = list(scores.names)
    if np.nansum(shares[:, -1]) > 0:
        columns.append("unpredicted")
    shares = shares[:, : len(columns)]
    many = len(columns) > 10
    cell = 0.43 if many else 0.56
    with mpl.rc_context(STYLE):
        drawing = canvas(cell * len(columns), cell * len(shares) * 0.82)
        ax = drawing.add_axes((0, 0, 1, 1))
        for row, column in np.ndindex(shares.shape):
            _draw_cell(ax, row, column, float(shares[row, column]), 7.0 if many else 9.0)
        _dress_matrix(ax, [_readable(n) for n in scores.names], [_readable(n) for n in columns])
    alt = "Confusion matrix: for each true class, the percentage of its voxels predicted as each class."
    return as_svg(drawing, "confusion", alt)


def _draw_cell(ax: Axes, row: int, column: int, share: float, size: float) -> None:
    known = not np.isnan(share)
    ax.add_patch(
        Rectangle((column, row), 1, 1, facecolor=ACCENT, alpha=share**0.7 if known else 0.0, linewidth=0)
    )
    if row == column:
        ax.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=MUTED, linewidth=0.8, zorder=3))
    text = percent(share) if known else "–"
    color = ON_ACCENT if known and share > 0.45 else (INK if known and share >= 0.005 else MUTED)
    ax.text(column + 0.5, row + 0.53, text, ha="center", va="center", fontsize=size, color=color)


def percent(share: float) -> str:
    """A share as a short percentage: `97`, `3.2`, `<0.1`, `0`."""
    value = 100 * share
    if value == 0:
        return "0"
    if value < 0.1:
        return "<0.1"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _dress_matrix(ax: Axes, rows: list[str], columns: list[str]) -> None:
    ax.set_xlim(0, len(columns))
    ax.set_ylim(len(rows), 0)
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=40, ha="left", rotation_mode="anchor")
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, labelcolor=INK)
    for spine in ax.spines.values():
        spine.set_visible(True)
    ax.set_ylabel("true class", labelpad=8)
    ax.set_xlabel("predicted as, % of the true class", labelpad=8)


def _number(value: float | None) -> str:
    return "not available" if value is None else f"{value:.3f}"


def _readable(name: str) -> str:
    return name.replace("_", " ")
