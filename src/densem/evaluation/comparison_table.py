"""The results table: every row compared with one reference row, and what cannot be told apart from it.

Each row more is one more chance to be wrong. Holm's correction keeps the chance of any false claim in the
whole table below the level, whatever the rows have to do with each other.

Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from densem.errors import ConfigError, InputError, NotFoundError, nearest
from densem.evaluation.significance import ROUNDS, Comparison, Replicate, ScoreName, compare


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values that control the chance of any false claim among all (Holm, 1979).

    Returns:
        In the order given; each is to be compared with the level itself.

    Raises:
        InputError: for a value that is no probability.
    """
    wrong = [p for p in p_values if not 0 <= p <= 1]
    if wrong:
        raise InputError(f"holm: expected probabilities from 0 to 1, found {wrong[0]}")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted


class Verdict(StrEnum):
    """What can be said of a row against the reference."""

    REFERENCE = "reference"
    HIGHER = "higher"
    LOWER = "lower"
    NOT_TOLD_APART = "not told apart"
    SPREAD_UNKNOWN = "spread unknown"


@dataclass(frozen=True)
class ComparedRow:
    """A row of the results table.

    Attributes:
        name: of the row.
        replicates: number of them.
        mean, best: of their scores.
        std: standard deviation of them (n - 1); None for one replicate.
        comparison: with the reference; None for the reference itself.
        p_holm: adjusted for all rows that have a p; None where there is none.
        verdict: what can be said.
    """

    name: str
    replicates: int
    mean: float
    best: float
    std: float | None
    comparison: Comparison | None
    p_holm: float | None
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        compared = None if self.comparison is None else self.comparison.to_dict()
        return {**vars(self), "comparison": compared, "verdict": self.verdict.value}


@dataclass(frozen=True)
class ComparisonTable:
    """All rows against one, in the order given.

    Attributes:
        reference: name of the reference row.
        score: what was compared.
        alpha: chance of any false "higher" or "lower" in the whole table, if no row differs.
        rows: the reference among them.
    """

    reference: str
    score: str
    alpha: float
    rows: tuple[ComparedRow, ...]

    def __getitem__(self, name: str) -> ComparedRow:
        """The row of that name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise NotFoundError(f"no row {name!r} in the table.{nearest(name, [r.name for r in self.rows])}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "rows": [row.to_dict() for row in self.rows]}


def compare_table(
    rows: Mapping[str, Sequence[Replicate]],
    reference: str,
    score: ScoreName = "miou",
    rounds: int = ROUNDS,
    seed: int = 0,
    alpha: float = 0.05,
) -> ComparisonTable:
    """Compare every row with the reference, and say which cannot be told apart from it.

    Rows of one replicate, such as an ensemble, are compared as well, but get no p and are never called
    higher or lower; they do not count in Holm's correction.

    Args:
        rows: names and replicates, in the order of the table.
        reference: name of the row that all others are compared with.
        score: `miou` or `miou_organelles`.
        rounds: of resampling.
        seed: of resampling.
        alpha: level of the whole table.

    Raises:
        NotFoundError: if there is no such reference, with the nearest name.
        ConfigError: for a level that is none.
        InputError and its kin: as `compare`.
    """
    if reference not in rows:
        raise NotFoundError(
            f"reference row {reference!r} is not in the table.{nearest(reference, list(rows))}"
        )
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha: expected a level between 0 and 1, such as 0.05, found {alpha:g}")
    found = {
        name: compare(rows[reference], row, score, rounds, seed)
        for name, row in rows.items()
        if name != reference
    }
    ps = {name: c.p for name, c in found.items() if c.p is not None}
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    made = (_row(name, row, score, found.get(name), adjusted.get(name), alpha) for name, row in rows.items())
    return ComparisonTable(reference, score, alpha, tuple(made))


def _row(
    name: str,
    row: Sequence[Replicate],
    score: ScoreName,
    comparison: Comparison | None,
    p_holm: float | None,
    alpha: float,
) -> ComparedRow:
    values = np.array([replicate.score(score) for replicate in row])
    return ComparedRow(
        name=name,
        replicates=len(values),
        mean=float(values.mean()),
        best=float(values.max()),
        std=float(values.std(ddof=1)) if len(values) > 1 else None,
        comparison=comparison,
        p_holm=p_holm,
        verdict=_verdict(comparison, p_holm, alpha),
    )


def _verdict(comparison: Comparison | None, p_holm: float | None, alpha: float) -> Verdict:
    if comparison is None:
        return Verdict.REFERENCE
    if not comparison.spread_known:
        return Verdict.SPREAD_UNKNOWN
    if p_holm is None or p_holm > alpha:
        return Verdict.NOT_TOLD_APART
    return Verdict.HIGHER if comparison.difference > 0 else Verdict.LOWER
