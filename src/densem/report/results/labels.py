"""Names beside the points of a chart, none over another, over a point or over the edge.

1. every name is measured in pixels
2. in the order given, each tries places around its point, near ones first, to the right before others
3. the first place is taken whose box and leader meet nothing that is there; if there is none, the emptiest
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.transforms import Bbox

from densem.report.figures import MUTED

_RADII = (7.0, 11.0, 16.0, 23.0, 32.0, 44.0, 60.0, 80.0, 105.0, 135.0, 170.0)  # points
_ANGLES = (0, 30, -30, 60, -60, 180, 150, -150, 90, -90, 120, -120, 15, -15, 45, -45, 75, -75, 165, -165)
_GAP = 1.5  # points kept free around a name


@dataclass(frozen=True)
class Name:
    """A name to be written: its text, its point in data coordinates, and its colour."""

    text: str
    x: float
    y: float
    color: str


def place_names(
    ax: Axes, names: Sequence[Name], around: Sequence[Bbox] = (), size: float = 8.0
) -> list[Bbox]:
    """Write names beside their points, with a thin leader where one stands off; the boxes, in pixels.

    Args:
        ax: with its final limits and size.
        names: those that matter most first.
        around: further boxes in pixels that stay free.
        size: of the letters, in points.
    """
    figure = cast(Canvas, ax.figure)
    scale = figure.dpi / 72
    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    points = [tuple(map(float, ax.transData.transform((n.x, n.y)))) for n in names]
    taken = [*around, *(Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in points)]
    inside = ax.get_window_extent(renderer)
    boxes = []
    for name, (x, y) in zip(names, points, strict=True):
        width, height = _measured(ax, name.text, size, renderer)
        places = [
            _box(x, y, width + 2 * _GAP, height + 2 * _GAP, radius * scale, angle)
            for radius in _RADII
            for angle in _ANGLES
        ]
        costs = (_cost(box, (x, y), taken, inside) for box in places)
        chosen, least = places[0], math.inf
        for box, cost in zip(places, costs, strict=True):
            if cost < least:
                chosen, least = box, cost
            if cost == 0:
                break
        taken.append(chosen)
        boxes.append(chosen)
        _write(ax, name, (x, y), chosen, size, scale)
    return boxes


def _measured(ax: Axes, text: str, size: float, renderer: Any) -> tuple[float, float]:
    written = ax.text(0, 0, text, fontsize=size)
    box = written.get_window_extent(renderer)
    written.remove()
    return box.width, box.height


def _box(x: float, y: float, width: float, height: float, radius: float, angle: float) -> Bbox:
    """The box whose side towards the point is `radius` away from it, in that direction."""
    across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    left = x + radius * across - width * (1 - across) / 2
    low = y + radius * up - height * (1 - up) / 2
    return Bbox.from_bounds(left, low, width, height)


def _cost(box: Bbox, point: tuple[float, float], taken: Sequence[Bbox], inside: Bbox) -> float:
    """Area in pixels that would be covered twice or lie outside, and the length of leader over others."""
    covered = sum(_shared(box, other) for other in taken)
    outside = box.width * box.height - _shared(box, inside)
    leader = _leader(point, box)
    crossed = sum(
        1.0
        for other in taken
        for x, y in leader
        if other.x0 <= x <= other.x1 and other.y0 <= y <= other.y1 and not _holds(other, point)
    )
    return covered + outside + crossed if covered + outside > 1e-6 or crossed else 0.0


def _holds(box: Bbox, point: tuple[float, float]) -> bool:
    return bool(box.x0 <= point[0] <= box.x1 and box.y0 <= point[1] <= box.y1)


def _shared(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _nearest(point: tuple[float, float], box: Bbox) -> tuple[float, float]:
    """The point of a box that is nearest."""
    return (min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1))


def _leader(point: tuple[float, float], box: Bbox) -> np.ndarray:
    """Points along the line from a point to its box, float64 (N, 2), both ends left out."""
    end = _nearest(point, box)
    steps = max(2, int(math.dist(point, end) / 3))
    return np.linspace(point, end, steps + 1)[1:-1]


def _write(ax: Axes, name: Name, point: tuple[float, float], box: Bbox, size: float, scale: float) -> None:
    back = ax.transData.inverted()
    x, y = back.transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    ax.text(x, y, name.text, fontsize=size, color=name.color, ha="center", va="center", zorder=6)
    end = _nearest(point, box)
    if math.dist(point, end) > 12 * scale:
        (x0, y0), (x1, y1) = back.transform([point, end])
        ax.plot([x0, x1], [y0, y1], color=MUTED, linewidth=0.5, zorder=2, scalex=False, scaley=False)
