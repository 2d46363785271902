"""The reliability diagram: how often a prediction is right at each confidence, and for how many voxels."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from densem.evaluation import Calibration
from densem.report.figures import ACCENT, INK, MUTED, STYLE, Figure, as_svg, canvas


def reliability_diagram(calibration: Calibration) -> Figure:
    """Accuracy over confidence against the diagonal of perfect calibration; below, the shares of voxels."""
    with mpl.rc_context(STYLE):
        drawing = canvas(4.1, 4.5)
        above, below = drawing.subplots(2, 1, sharex=True, height_ratios=[4, 1], gridspec_kw={"hspace": 0.12})
        _draw_accuracy(above, calibration)
        _draw_voxels(below, calibration)
    said = "sure" if calibration.confidence > calibration.accuracy else "doubtful"
    alt = (
        f"Reliability diagram: expected calibration error {calibration.ece:.3f}; mean confidence "
        f"{calibration.confidence:.3f}, accuracy {calibration.accuracy:.3f}: too {said} on the whole."
    )
    return as_svg(drawing, "reliability", alt)


def _draw_accuracy(ax: Axes, calibration: Calibration) -> None:
    edges = np.linspace(0, 1, len(calibration.bins) + 1)
    width = float(edges[1])
    for left, row in zip(edges, calibration.bins, strict=False):
        if row.accuracy is None or row.confidence is None:
            continue
        place = (left + width / 2, row.accuracy)
        ax.bar(place[0], row.accuracy, width * 0.92, color=ACCENT, alpha=0.35, zorder=2)
        ax.plot(
            [place[0] - 0.46 * width, place[0] + 0.46 * width], [row.accuracy] * 2, color=ACCENT, zorder=3
        )
        ax.plot([row.confidence] * 2, [row.confidence, row.accuracy], color=INK, linewidth=1, zorder=4)
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.set_ylabel("share of voxels that are right")
    _dress(ax)


def _draw_voxels(ax: Axes, calibration: Calibration) -> None:
    shares = [row.voxels / calibration.voxels for row in calibration.bins]
    width = 1 / len(shares)
    ax.bar((np.arange(len(shares)) + 0.5) * width, shares, width * 0.92, color=MUTED, alpha=0.6, zorder=2)
    _dress(ax)
    ax.set_yticks([0, 0.5, 1])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f} %"))
    ax.set_ylabel("of voxels")
    ax.set_xlabel("confidence")


def _dress(ax: Axes) -> None:
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.grid(axis="y")
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)
