"""Curve: the learning curve of a run, from the metrics that training writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from densem.experiments.record import CurvePoint

MOST = 400
"""Points with a loss; longer curves have means of several in their place."""


def curve_of(path: Path) -> tuple[CurvePoint, ...]:
    """Points of all attempts in order; empty without metrics. A line torn by a kill is passed over."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return tuple(_thinned(list(_points(rows))))


def _points(rows: Iterable[dict[str, Any]]) -> Iterable[CurvePoint]:
    attempt = 0
    for row in rows:
        if row.get("event") == "restarted":
            attempt += 1
        elif "loss" in row or "eval/miou" in row:
            yield CurvePoint(
                seconds=row["time"],
                step=row["step"],
                attempt=attempt,
                loss=row.get("loss"),
                eval_miou=row.get("eval/miou"),
                eval_miou_organelles=row.get("eval/miou_organelles"),
            )


def _thinned(points: list[CurvePoint]) -> list[CurvePoint]:
    """Every validation is kept; runs of points that hold a loss alone are merged where there are many."""
    losses = [p for p in points if p.eval_miou is None]
    size = -(-len(losses) // MOST)
    if size <= 1:
        return points
    found: list[CurvePoint] = []
    group: list[CurvePoint] = []
    for point in points:
        alone = point.eval_miou is None
        if group and (not alone or len(group) == size or point.attempt != group[0].attempt):
            found.append(_mean(group))
            group = []
        if alone:
            group.append(point)
        else:
            found.append(point)
    return found + ([_mean(group)] if group else [])


def _mean(group: list[CurvePoint]) -> CurvePoint:
    losses = [p.loss for p in group if p.loss is not None]
    return group[-1].model_copy(update={"loss": round(sum(losses) / len(losses), 5)})
