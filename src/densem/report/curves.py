"""Training curves: loss, learning rate and validation score by step, from `metrics.jsonl`.

A line is one JSON object with `step` and some of `loss`, `lr`, `eval/miou`. A line with the event
`restarted` ends an attempt that had collapsed; what follows is another one. A step that comes twice
belongs to a resumed run: the later line holds. A line torn by a kill is passed over.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from densem.errors import NotFoundError
from densem.report.figures import ACCENT, INK, MUTED, STYLE, Figure, as_svg, canvas

LOG = logging.getLogger(__name__)
_ROWS = (("loss", "loss", 2.2), ("lr", "learning rate", 0.8), ("eval/miou", "MIoU on the eval volume", 1.6))
_KEYS = tuple(key for key, *_ in _ROWS)


@dataclass(frozen=True)
class Attempt:
    """One training session from step 0: by the name of a quantity, its value at each step."""

    values: dict[str, dict[int, float]]

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (int64, ascending) and values (float64) of one quantity."""
        rows = sorted(self.values.get(key, {}).items())
        return np.array([s for s, _ in rows], np.int64), np.array([v for _, v in rows], np.float64)

    @property
    def last_step(self) -> int:
        """The last step anything is known of."""
        return max((step for rows in self.values.values() for step in rows), default=0)

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and value of the best validation."""
        steps, values = self.series("eval/miou")
        return (int(steps[values.argmax()]), float(values.max())) if len(steps) else None


def read_attempts(path: Path) -> tuple[Attempt, ...]:
    """The attempts recorded in a metrics file, in order.

    Raises:
        NotFoundError: if there is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise NotFoundError(f"{path}: no metrics of a training run there ({error.strerror})") from None
    return attempts_of(_parsed(lines, path))


def attempts_of(records: Iterable[dict[str, Any]]) -> tuple[Attempt, ...]:
    """The attempts in a sequence of metric records."""
    found: list[Attempt] = [Attempt({})]
    for record in records:
        if record.get("event") == "restarted" and found[-1].values:
            found.append(Attempt({}))
            continue
        for key, value in record.items():
            if key in _KEYS and isinstance(value, int | float) and "step" in record:
                found[-1].values.setdefault(key, {})[int(record["step"])] = float(value)
    return tuple(a for a in found if a.values)


def _parsed(lines: list[str], path: Path) -> Iterable[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            LOG.info("%s: line %d is torn and was passed over", path, number)
            continue
        if isinstance(record, dict):
            yield record


# ---- drawing ---------------------------------------------------------------------------------


def training_curves(attempts: tuple[Attempt, ...]) -> Figure | None:
    """The curves of all attempts, the last one in colour; None if nothing was recorded."""
    rows = [row for row in _ROWS if any(len(a.series(row[0])[0]) for a in attempts)]
    if not rows:
        return None
    with mpl.rc_context(STYLE):
        drawing = canvas(7.2, sum(height for *_, height in rows) + 0.4)
        axes = drawing.subplots(
            len(rows),
            1,
            sharex=True,
            squeeze=False,
            height_ratios=[r[2] for r in rows],
            gridspec_kw={"hspace": 0.28},
        )[:, 0]
        for ax, (key, label, height) in zip(axes, rows, strict=True):
            _draw_series(ax, attempts, key)
            _dress(ax, label, low=height < 1)
        _mark_restarts(axes[0], attempts)
        axes[-1].set_xlabel("training step")
        axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    return as_svg(drawing, "training", _spoken(attempts))


def _draw_series(ax: Axes, attempts: tuple[Attempt, ...], key: str) -> None:
    for attempt in attempts:
        steps, values = attempt.series(key)
        if not len(steps):
            continue
        color = ACCENT if attempt is attempts[-1] else MUTED
        if key == "loss" and len(steps) > 40:
            ax.plot(steps, values, color=color, linewidth=0.6, alpha=0.3)
            ax.plot(steps, smoothed(values, len(values) // 25), color=color, linewidth=1.5)
        else:
            ax.plot(
                steps,
                values,
                color=color,
                linewidth=1.5,
                marker="o" if key == "eval/miou" else "",
                markersize=3,
            )
    if key == "eval/miou":
        _mark_best(ax, attempts[-1])
    if key == "loss":
        _scale_loss(ax, attempts)
    if key == "lr":
        ax.set_ylim(bottom=0)


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Centred running mean of float64 (N,) over `width` values, shorter at the ends."""
    half = max(1, width) // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _scale_loss(ax: Axes, attempts: tuple[Attempt, ...]) -> None:
    """From zero, and no higher than all but one in a hundred values."""
    values = np.concatenate([a.series("loss")[1] for a in attempts])
    values = values[np.isfinite(values)]
    if len(values):
        ax.set_ylim(0, 1.1 * float(np.quantile(values, 0.99)) or 1.0)


def _mark_best(ax: Axes, attempt: Attempt) -> None:
    if attempt.best is None:
        return
    step, value = attempt.best
    ax.plot([step], [value], marker="o", markersize=7, markerfacecolor="none", markeredgecolor=INK)
    ax.set_title(f"best {value:.3f} at step {step:,}", loc="right", fontsize=9, color=INK, pad=5)
    ax.margins(y=0.18)


def _mark_restarts(ax: Axes, attempts: tuple[Attempt, ...]) -> None:
    for number, attempt in enumerate(attempts[:-1], 1):
        ax.axvline(attempt.last_step, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        ax.annotate(
            f"attempt {number} collapsed at step {attempt.last_step:,}, restarted",
            (attempt.last_step, 1.0 - 0.1 * number),
            xycoords=("data", "axes fraction"),
            xytext=(5, 0),
            textcoords="offset points",
            color=MUTED,
        )


def _dress(ax: Axes, label: str, low: bool) -> None:
    ax.set_title(label, loc="left", fontsize=9, color=MUTED, pad=5)
    ax.grid(axis="y")
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)
    ax.margins(x=0.01)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=2 if low else 4, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def _spoken(attempts: tuple[Attempt, ...]) -> str:
    last = attempts[-1]
    words = [f"Training curves over {last.last_step:,} steps"]
    if last.best is not None:
        words.append(f"the best MIoU on the eval volume is {last.best[1]:.3f} at step {last.best[0]:,}")
    if len(attempts) > 1:
        earlier = len(attempts) - 1
        words.append(f"{earlier} earlier attempt{'s' if earlier > 1 else ''} had collapsed")
    return "; ".join(words) + "."
