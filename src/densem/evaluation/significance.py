"""Significance: whether a difference between two rows of trained networks is more than their spread.

A row is one design trained several times (replicates that differ in their seed), each scored on the same
test volumes. Two things vary: the training, and the tissue that happened to be labelled. `compare` draws
both anew:

    1. the scores of every network for resampled evaluation blocks; the same blocks for all networks, since
       all were tested on the same volumes: a block that is hard is hard for both rows (paired)
    2. in every round, replicates of each row drawn anew; the spread of the difference of the means is its
       standard error
    3. Student's t with Satterthwaite's degrees of freedom turns it into an interval and a p: from three
       replicates a spread is known badly, and percentiles of the draws alone are far too narrow

From six replicates a side on, a permutation of the replicates between the rows is the second witness: exact,
without any assumption on the distribution, but about these test volumes only. The larger p counts.

Sources: Davison and Hinkley, Bootstrap Methods and their Application, 1997 (chapter 3.8, hierarchical data);
Saravanan, Berman and Sober, Application of the hierarchical bootstrap, 2020; Owen, The pigeonhole bootstrap,
2007 (replicates crossed with blocks: somewhat too wide, never too narrow); Hesterberg, What teachers should
know about the bootstrap, 2015 (how narrow it is in small samples); Satterthwaite, An approximate
distribution of estimates of variance components, 1946.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from densem.errors import ConfigError, InputError, nearest
from densem.evaluation.block_tables import BlockTables, check_comparable
from densem.evaluation.contingency import Protocol
from densem.evaluation.resampling import (
    class_sums,
    mean_iou,
    permutation_p,
    resampled_means,
    resampled_scores,
)

ScoreName = Literal["miou", "miou_organelles"]

ROUNDS = 10_000
"""Rounds of resampling: the standard error is then known to one percent."""

PERMUTED_FROM = 6
"""Replicates a side from which on they are permuted: fewer can hardly reach a small p."""

ROUNDING = 1e-12
"""Scores lie between 0 and 1: less is the same number, summed in another order."""

LEVEL = 0.95
"""Share of experiments whose interval shall hold the true difference."""


@dataclass(frozen=True, eq=False)
class Replicate:
    """One trained network (or one ensemble) and its block tables.

    Attributes:
        tables: one for each test volume; the same volumes in the same order for every replicate.
        name: for messages.
    """

    tables: tuple[BlockTables, ...]
    name: str = ""

    @classmethod
    def of(cls, *tables: BlockTables, name: str = "") -> Replicate:
        """From the block tables of its test volumes."""
        return cls(tables, name)

    def score(self, score: ScoreName = "miou") -> float:
        """Its score over all test volumes together; equal to `scores` of the summed tables.

        Raises:
            ConfigError: for another score, or one that the protocol does not give.
            InputError: if no class is there to be scored.
        """
        channels = _channels(self, score)
        sums = sum(class_sums(table.counts, channels).sum(axis=0) for table in self.tables)
        value = float(mean_iou(np.asarray(sums)))
        if math.isnan(value):
            raise InputError(f"{self.name or 'replicate'}: no class of {score} is in its test volumes")
        return value


@dataclass(frozen=True)
class Comparison:
    """A row against the reference row.

    Attributes:
        score: what is compared.
        reference_mean, other_mean: of the replicates.
        difference: of the means, other less reference.
        low, high: 95 % interval of the difference; None if nothing could be drawn anew.
        error: standard error of the difference.
        degrees: degrees of freedom of that.
        p_bootstrap: two-sided, from both levels; None if nothing could be drawn anew.
        p_permutation: two-sided, over replicates; None below six a side.
        replicates: of reference and other.
        blocks: evaluation blocks that hold scored voxels, of all test volumes.
        spread_known: whether both rows have two replicates or more. If not, the interval knows nothing of
            how differently another training of the same design might have ended.
        notes: what limits the result, as sentences.
    """

    score: str
    reference_mean: float
    other_mean: float
    difference: float
    low: float | None
    high: float | None
    error: float | None
    degrees: float | None
    p_bootstrap: float | None
    p_permutation: float | None
    replicates: tuple[int, int]
    blocks: int
    spread_known: bool
    notes: tuple[str, ...] = ()

    @property
    def p(self) -> float | None:
        """The p that counts: the larger of both; None where the spread between trainings is unknown."""
        if not self.spread_known or self.p_bootstrap is None:
            return None
        return max(self.p_bootstrap, self.p_permutation or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "replicates": list(self.replicates), "notes": list(self.notes), "p": self.p}


def compare(
    reference: Sequence[Replicate],
    other: Sequence[Replicate],
    score: ScoreName = "miou",
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Comparison:
    """Whether the mean score of a row differs from that of the reference row.

    Args:
        reference: replicates of one design, scored on the same test volumes as the others.
        other: replicates of the other design.
        score: `miou` or `miou_organelles`.
        rounds: of resampling.
        seed: of resampling; the same seed draws the same blocks whatever the rows.

    Raises:
        InputError: for an empty row, or a score that is not available.
        ConfigError: for an unknown score, or one that the protocol does not give.
        SchemaError, FormatError: for tables of other classes, volumes, annotations or blocks.
    """
    if rounds < 100:
        raise ConfigError(f"rounds: expected at least 100 rounds of resampling, found {rounds}")
    check_rows(reference, other)
    first, second = (np.array([r.score(score) for r in row]) for row in (reference, other))
    spread_known = min(len(first), len(second)) > 1
    draws = _draw([*reference, *other], len(first), score, rounds, seed)
    difference = _unrounded(second.mean() - first.mean())
    spread = _Spread.of(first, second, draws)
    permuted = min(len(first), len(second)) >= PERMUTED_FROM
    return Comparison(
        score=score,
        reference_mean=float(first.mean()),
        other_mean=float(second.mean()),
        difference=difference,
        low=None if spread is None else difference - spread.reach,
        high=None if spread is None else difference + spread.reach,
        error=None if spread is None else spread.error,
        degrees=None if spread is None else spread.degrees,
        p_bootstrap=None if spread is None else spread.p(difference),
        p_permutation=permutation_p(first, second, rounds, seed) if permuted else None,
        replicates=(len(first), len(second)),
        blocks=sum(draws.blocks),
        spread_known=spread_known,
        notes=_notes(len(first), len(second), draws),
    )


# ---- drawing anew ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Draws:
    """What the rounds gave.

    Attributes:
        blocks_only: difference of the means with blocks drawn anew and all replicates kept, float64 (R,).
        both: with blocks and replicates drawn anew, float64 (R,).
        blocks: number of blocks with scored voxels, of each test volume.
    """

    blocks_only: np.ndarray
    both: np.ndarray
    blocks: tuple[int, ...]


def _draw(networks: Sequence[Replicate], first: int, score: ScoreName, rounds: int, seed: int) -> _Draws:
    """Draw blocks and replicates anew; the first `first` networks are the reference row."""
    channels = _channels(networks[0], score)
    volumes = []
    for tables in zip(*(network.tables for network in networks), strict=True):
        filled = tables[0].counts.sum(axis=(1, 2)) > 0
        volumes.append(np.stack([class_sums(table.counts[filled], channels) for table in tables]))
    random = np.random.default_rng(seed)
    drawn = resampled_scores(volumes, rounds, random)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    rows = drawn[:, :first], drawn[:, first:]
    both = resampled_means(rows[1], random) - resampled_means(rows[0], random)
    blocks = tuple(volume.shape[1] for volume in volumes)
    return _Draws(rows[1].mean(axis=1) - rows[0].mean(axis=1), both, blocks)


def _unrounded(value: float) -> float:
    """0 for what is nothing but rounding: networks that are the same voxel by voxel do not differ."""
    return 0.0 if abs(value) < ROUNDING else float(value)


@dataclass(frozen=True)
class _Spread:
    """A standard error and its degrees of freedom."""

    error: float
    degrees: float

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, draws: _Draws) -> _Spread | None:
        """From the draws; None if neither level could be drawn anew."""
        parts = [(float(row.var(ddof=1)) / len(row), len(row) - 1) for row in (first, second) if len(row) > 1]
        freedom = sum(n - 1 for n in draws.blocks)
        if freedom > 0 and len(draws.blocks_only) > 1:
            parts.append((float(draws.blocks_only.var(ddof=1)), freedom))
        if not parts or len(draws.both) < 2:
            return None
        error = _unrounded(draws.both.std(ddof=1))
        below = sum(variance**2 / degrees for variance, degrees in parts)
        degrees = sum(variance for variance, _ in parts) ** 2 / below if below > 0 else float(freedom or 1)
        return cls(error, degrees)

    @property
    def reach(self) -> float:
        """Half the width of the interval."""
        return float(stdtrit(self.degrees, (1 + LEVEL) / 2)) * self.error

    def p(self, difference: float) -> float:
        """Two-sided p of a difference."""
        if self.error == 0:
            return 1.0 if difference == 0 else 0.0
        return float(2 * stdtr(self.degrees, -abs(difference) / self.error))


def _notes(first: int, second: int, draws: _Draws) -> tuple[str, ...]:
    found = []
    single = [what for what, n in (("the reference", first), ("the row", second)) if n < 2]
    if single:
        found.append(
            f"{' and '.join(single)} with one replicate: "
            "how differently another training would end is unknown"
        )
    few = min(draws.blocks)
    if few < 2:
        found.append(
            "a test volume has one block with scored voxels: what other tissue would give is unknown"
        )
    elif few < 12:
        found.append(f"a test volume has only {few} blocks with scored voxels: the interval is rough")
    return tuple(found)


# ---- checks ----------------------------------------------------------------------------------


def _channels(replicate: Replicate, score: str) -> list[int]:
    """Channels of the classes that a score is a mean of."""
    if score not in ("miou", "miou_organelles"):
        known = ["miou", "miou_organelles"]
        raise ConfigError(f"score: expected miou or miou_organelles, found {score!r}.{nearest(score, known)}")
    if not replicate.tables:
        raise InputError(f"{replicate.name or 'replicate'}: expected the tables of a test volume, found none")
    table = replicate.tables[0]
    if score == "miou":
        if table.protocol is Protocol.CELLS:
            raise ConfigError("score miou: the protocol cells judges organelles only; use miou_organelles")
        return list(range(len(table.schema)))
    organelles = [channel for channel, c in enumerate(table.schema.classes) if c.organelle]
    if not organelles:
        raise ConfigError(
            f"score miou_organelles: no class of the schema is an organelle (found "
            f"{', '.join(table.schema.names)}); use miou"
        )
    return organelles


def check_rows(reference: Sequence[Replicate], other: Sequence[Replicate]) -> None:
    """Refuse two rows that were not scored on the same annotations, in the same blocks.

    Raises:
        InputError: for an empty row, or other numbers of volumes.
        SchemaError, FormatError: for tables of other classes, volumes, annotations or blocks.
    """
    if not reference or not other:
        which = "reference" if not reference else "other"
        raise InputError(f"compare: the {which} row has no replicate; a crashed row cannot be compared")
    expected = reference[0].tables
    for replicate in (*reference, *other):
        if len(replicate.tables) != len(expected):
            raise InputError(
                f"compare: {replicate.name or 'a replicate'} was scored on {len(replicate.tables)} "
                f"test volumes and {reference[0].name or 'another'} on {len(expected)}; score all on the same"
            )
        for tables, others in zip(expected, replicate.tables, strict=True):
            check_comparable(tables, others)
