"""Voxel scores: IoU, precision, recall, F1, accuracy, adjusted Rand index, from a contingency table.

A class absent from truth and prediction has no IoU ("not available", None) and does not enter a mean;
predicted but absent from the truth, its IoU is 0. A voxel for which nothing was predicted is wrong: it
counts as missed by its true class and as found by none. With the protocol `cells` only organelles have
IoU, precision and F1, and there is no mean over all classes: what is predicted outside the cells is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from densem.errors import FormatError
from densem.evaluation.contingency import ContingencyTable, Protocol
from densem.schema import LabelClass

UNPREDICTED = "unpredicted"
"""Name of the last column of a confusion matrix: voxels for which nothing was predicted."""


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class; None where they are not available.

    Attributes:
        name, id, organelle: from the schema.
        iou: TP / (TP + FP + FN).
        precision: TP / (TP + FP).
        recall: TP / (TP + FN).
        f1: 2 TP / (2 TP + FP + FN), the Dice coefficient.
        truth: voxels of the class in the annotation.
        predicted: voxels of the class in the prediction, among those scored.
    """

    name: str
    id: int
    organelle: bool
    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    truth: int
    predicted: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the name."""
        return {key: value for key, value in vars(self).items() if key != "name"}


@dataclass(frozen=True)
class Scores:
    """How well a prediction agrees with an annotation, voxel by voxel.

    Attributes:
        protocol: which voxels were scored.
        miou: mean IoU over the classes that have one; None with the protocol `cells`.
        miou_organelles: the same over the organelles; None if the schema has none.
        accuracy: share of voxels that are right.
        ari: adjusted Rand index of the class labels.
        classes: one record a class, in channel order.
        confusion: voxels by true class (rows) and predicted class (columns); last column: unpredicted.
        left_out: voxels that were not scored.
    """

    protocol: Protocol
    miou: float | None
    miou_organelles: float | None
    accuracy: float
    ari: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    left_out: int = 0

    @property
    def voxels(self) -> int:
        """Number of voxels scored."""
        return sum(map(sum, self.confusion))

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in channel order."""
        return tuple(c.name for c in self.classes)

    def normalized_confusion(self) -> np.ndarray:
        """Shares of each true class, float64 (C, C + 1); rows sum to 1 or, without voxels, are NaN."""
        counts = np.array(self.confusion, np.float64)
        totals = counts.sum(axis=1, keepdims=True)
        return np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a score that is not available is None (null)."""
        return {
            "protocol": self.protocol.value,
            "miou": self.miou,
            "miou_organelles": self.miou_organelles,
            "accuracy": self.accuracy,
            "ari": self.ari,
            "classes": {c.name: c.to_dict() for c in self.classes},
            "confusion": {
                "rows": list(self.names),
                "columns": [*self.names, UNPREDICTED],
                "counts": [list(row) for row in self.confusion],
            },
            "voxels": {"scored": self.voxels, "left_out": self.left_out},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "scores") -> Scores:
        """From what `to_dict` gave.

        Raises:
            FormatError: naming `where` and what is missing or wrong.
        """
        try:
            return cls(
                protocol=Protocol(data["protocol"]),
                miou=data["miou"],
                miou_organelles=data["miou_organelles"],
                accuracy=data["accuracy"],
                ari=data["ari"],
                classes=tuple(ClassScores(name, **row) for name, row in data["classes"].items()),
                confusion=tuple(tuple(row) for row in data["confusion"]["counts"]),
                left_out=data["voxels"]["left_out"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"{where}: expected the scores that densem evaluate writes, but entry {error} is missing or "
                "wrong; evaluate again"
            ) from None


def scores(table: ContingencyTable) -> Scores:
    """All scores of a contingency table."""
    classes = tuple(_class_scores(table, channel) for channel in range(len(table.schema)))
    hits = int(np.trace(table.counts))
    over_all = _mean(c.iou for c in classes) if table.protocol is Protocol.LABELLED else None
    return Scores(
        protocol=table.protocol,
        miou=over_all,
        miou_organelles=_mean(c.iou for c in classes if c.organelle),
        accuracy=hits / table.voxels,
        ari=adjusted_rand_index(table.counts),
        classes=classes,
        confusion=tuple(tuple(int(n) for n in row) for row in table.counts),
        left_out=table.left_out,
    )


def adjusted_rand_index(counts: np.ndarray) -> float:
    """The adjusted Rand index of two partitions, exact in whole numbers until the last division.

    Args:
        counts: whole numbers (A, B), voxels in part a of the one and part b of the other partition.

    Source: Hubert and Arabie, Comparing partitions, 1985, written with counts of ordered pairs.
    """
    n = sum(map(int, counts.flat))
    both = _squares(counts.flat)
    rows, columns = _squares(counts.sum(axis=1)), _squares(counts.sum(axis=0))
    together = both - n  # pairs that are together in both partitions
    split, joined = rows - both, columns - both  # together in the first only, in the second only
    apart = n * n - rows - columns + both  # apart in both
    if split == 0 and joined == 0:
        return 1.0
    above = 2 * (together * apart - split * joined)
    below = (together + split) * (split + apart) + (together + joined) * (joined + apart)
    return above / below


def _squares(values: Iterable[Any]) -> int:
    """The sum of squares as a Python integer: 10^12 voxels squared do not fit 64 bits."""
    return sum(int(v) ** 2 for v in values)


def _class_scores(table: ContingencyTable, channel: int) -> ClassScores:
    entry = table.schema.classes[channel]
    truth, predicted = int(table.counts[channel].sum()), int(table.counts[:, channel].sum())
    hits = int(table.counts[channel, channel])
    seen = _is_judged(entry, table.protocol)
    return ClassScores(
        name=entry.name,
        id=entry.id,
        organelle=entry.organelle,
        iou=_ratio(hits, truth + predicted - hits) if seen else None,
        precision=_ratio(hits, predicted) if seen else None,
        recall=_ratio(hits, truth),
        f1=_ratio(2 * hits, truth + predicted) if seen else None,
        truth=truth,
        predicted=predicted,
    )


def _is_judged(entry: LabelClass, protocol: Protocol) -> bool:
    """Whether false positives of the class can be seen."""
    return protocol is Protocol.LABELLED or entry.organelle


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Iterable[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return math.fsum(present) / len(present) if present else None
