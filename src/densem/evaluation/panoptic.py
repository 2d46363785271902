"""Panoptic quality and average precision: true and predicted objects matched by their overlap.

    1. a true and a predicted object match if their IoU is above 0.5 (exactly 0.5 is no match); then no other
       object can match either of them, so that there is nothing to choose
    2. a match of two objects of one class is a true positive (TP); other true objects are missed (FN), other
       predicted objects are false (FP)
    3. RQ = TP / (TP + FP/2 + FN/2), SQ = mean IoU of the true positives, PQ = SQ * RQ
    4. AP at a threshold = TP / (TP + FP + FN), of matches with an IoU above it; predicted objects have no
       confidence to be sorted by, so this is no area under a curve

Ignored voxels are taken from all objects first. A predicted object without a match that lies mostly (by more
than half) on ignored voxels is not counted. With `inner` true objects that touch the border or ignored
voxels are not counted, nor predicted objects that match one of them, or match none and either lie mostly on
them and ignored voxels, or touch the border or ignored voxels themselves.

All comparisons of IoU are made in whole numbers.

Sources: Kirillov et al., Panoptic segmentation, 2019; Schmidt et al., Cell detection with star-convex
polygons, 2018, and Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science
Bowl, 2019, for the average precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from densem.errors import InputError
from densem.evaluation.object_classes import NO_CLASS, object_classes
from densem.evaluation.overlaps import Overlaps, totals
from densem.schema import LabelSchema

THRESHOLDS = tuple(Fraction(k, 20) for k in range(10, 20))
"""0.5, 0.55 ... 0.95: the IoU of average precision."""


@dataclass(frozen=True)
class ObjectQuality:
    """How well the objects of one class, or all, were found; None where it is not available.

    Attributes:
        truth: true objects that count.
        predicted: predicted objects that count.
        matched: pairs of the two with an IoU above 0.5.
        pq: panoptic quality, SQ * RQ; None without any object.
        sq: segmentation quality, mean IoU of the matched; None if nothing matched.
        rq: recognition quality, the F1 of objects; None without any object.
        ap: average precision at IoU 0.5, 0.55 ... 0.95, in this order.
        mean_ap: mean of these.
    """

    truth: int
    predicted: int
    matched: int
    pq: float | None
    sq: float | None
    rq: float | None
    ap: tuple[float | None, ...]
    mean_ap: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a score that is not available is None (null)."""
        return {**asdict(self), "ap": list(self.ap)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ObjectQuality:
        """From what `to_dict` gave; KeyError and its kin if it is anything else."""
        return cls(**{**data, "ap": tuple(data["ap"])})


@dataclass(frozen=True)
class Panoptic:
    """The quality of all objects, whatever their class, and by class.

    Attributes:
        every: all objects; a match need not be of one class.
        classes: by name of the class, those with objects in the truth or the prediction.
        true_left_out: true objects that were not counted, with `inner`.
        predicted_left_out: predicted objects that were not counted.
        true_classless, predicted_classless: objects that were counted, but in no class: most of their voxels
            are background, or have no class.
    """

    every: ObjectQuality
    classes: dict[str, ObjectQuality]
    true_left_out: int
    predicted_left_out: int
    true_classless: int = 0
    predicted_classless: int = 0


def panoptic(overlaps: Overlaps, schema: LabelSchema | None = None, inner: bool = False) -> Panoptic:
    """Match the objects and score them.

    The class of an object is found from the classes of its voxels (`object_classes`): of a true one in the
    annotation, of a predicted one in the prediction. Without predicted classes a predicted object is of the
    class of the true object that it matches, else of that of the annotation beneath it.

    Args:
        overlaps: of the objects.
        schema: their classes; without it, or without true classes, there are no scores by class.
        inner: whether to leave out objects that touch the border or ignored voxels.

    Raises:
        InputError: for `inner` with overlaps in which nobody looked for such objects.
    """
    objects = _Objects.of(overlaps, inner)
    every = _quality(objects.matches, objects.true_counts, objects.predicted_counts)
    left_out = int((~objects.true_counts).sum()), int((~objects.predicted_counts).sum())
    if schema is None or not overlaps.classed[0]:
        return Panoptic(every, {}, *left_out)
    true, predicted = _classes(objects, overlaps, schema)
    by_class = dict(_by_class(objects, true, predicted, schema))
    classless = (
        int((objects.true_counts & (true == NO_CLASS)).sum()),
        int((objects.predicted_counts & (predicted == NO_CLASS)).sum()),
    )
    return Panoptic(every, by_class, *left_out, *classless)


def left_out_ids(overlaps: Overlaps, inner: bool) -> np.ndarray:
    """True objects that are not counted, uint64, ascending.

    Raises:
        InputError: as `panoptic`.
    """
    if not inner:
        return np.zeros(0, np.uint64)
    if overlaps.true_touching is None:
        raise InputError("inner objects: expected overlaps with touching=True; count them so")
    return overlaps.true_touching


# ---- matching --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Matches:
    """Pairs of objects with an IoU above 0.5: places among true and predicted objects, and voxels."""

    true: np.ndarray
    predicted: np.ndarray
    shared: np.ndarray
    union: np.ndarray

    def of(self, kept: np.ndarray) -> _Matches:
        """Some of them, by a bool for each."""
        return _Matches(self.true[kept], self.predicted[kept], self.shared[kept], self.union[kept])


@dataclass(frozen=True, eq=False)
class _Objects:
    """All objects with scored voxels, their matches, and whether they count (bool for each)."""

    true_ids: np.ndarray
    predicted_ids: np.ndarray
    matches: _Matches
    true_counts: np.ndarray
    predicted_counts: np.ndarray

    @classmethod
    def of(cls, overlaps: Overlaps, inner: bool) -> _Objects:
        truth, predicted, voxels = overlaps.pairs()
        true_ids, true_voxels = _sizes(truth, voxels)
        predicted_ids, predicted_voxels = _sizes(predicted, voxels)
        both = (truth > 0) & (predicted > 0)
        i, j = np.searchsorted(true_ids, truth[both]), np.searchsorted(predicted_ids, predicted[both])
        shared = voxels[both]
        pairs = _Matches(i, j, shared, true_voxels[i] + predicted_voxels[j] - shared)
        matches = pairs.of(2 * pairs.shared > pairs.union)
        true_counts = ~np.isin(true_ids, left_out_ids(overlaps, inner))
        excused = _excused(overlaps, predicted_ids, true_ids[~true_counts], inner)
        excused[matches.predicted] = ~true_counts[matches.true]
        counted = matches.of(true_counts[matches.true])
        return cls(true_ids, predicted_ids, counted, true_counts, ~excused)


def _sizes(ids: np.ndarray, voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known, sizes = totals(ids, voxels)
    return known[known > 0], sizes[known > 0]


def _excused(
    overlaps: Overlaps, predicted_ids: np.ndarray, true_left_out: np.ndarray, inner: bool
) -> np.ndarray:
    """Bool (M,), predicted objects that are not false where they match nothing."""
    void = overlaps.ignored | np.isin(overlaps.true_ids, true_left_out)
    known, whole = totals(overlaps.predicted_ids, overlaps.voxels)
    _, on_void = totals(overlaps.predicted_ids, np.where(void, overlaps.voxels, 0))
    place = np.searchsorted(known, predicted_ids)
    excused: np.ndarray = 2 * on_void[place] > whole[place]
    if inner:
        assert overlaps.predicted_touching is not None
        excused |= np.isin(predicted_ids, overlaps.predicted_touching)
    return excused


# ---- scoring ---------------------------------------------------------------------------------


def _classes(objects: _Objects, overlaps: Overlaps, schema: LabelSchema) -> tuple[np.ndarray, np.ndarray]:
    """Channels of true and predicted objects."""
    votes = overlaps.true_ids, overlaps.true_classes, overlaps.voxels, schema
    true = object_classes(objects.true_ids, *votes)
    if overlaps.classed[1]:
        kinds = overlaps.predicted_classes
        votes = overlaps.predicted_ids, kinds, overlaps.voxels, schema
        predicted = object_classes(objects.predicted_ids, *votes)
    else:
        votes = overlaps.predicted_ids, overlaps.true_classes, overlaps.voxels, schema
        predicted = object_classes(objects.predicted_ids, *votes)
        predicted[objects.matches.predicted] = true[objects.matches.true]
    return true, predicted


def _by_class(
    objects: _Objects, true: np.ndarray, predicted: np.ndarray, schema: LabelSchema
) -> Iterator[tuple[str, ObjectQuality]]:
    """The quality of each class that has objects."""
    matches = objects.matches
    for channel, name in enumerate(schema.names):
        of_class = (true[matches.true] == channel) & (predicted[matches.predicted] == channel)
        found = _quality(
            matches.of(of_class),
            objects.true_counts & (true == channel),
            objects.predicted_counts & (predicted == channel),
        )
        if found.truth or found.predicted:
            yield name, found


def _quality(matches: _Matches, true_counts: np.ndarray, predicted_counts: np.ndarray) -> ObjectQuality:
    """The quality of objects; all matches are of objects that count."""
    truth, predicted, matched = int(true_counts.sum()), int(predicted_counts.sum()), len(matches.true)
    sq = math.fsum(matches.shared / matches.union) / matched if matched else None
    rq = 2 * matched / (truth + predicted) if truth + predicted else None
    ap = tuple(_ap(_above(matches, threshold), truth, predicted) for threshold in THRESHOLDS)
    return ObjectQuality(
        truth=truth,
        predicted=predicted,
        matched=matched,
        pq=None if rq is None else (sq or 0.0) * rq,
        sq=sq,
        rq=rq,
        ap=ap,
        mean_ap=mean(ap),
    )


def _above(matches: _Matches, threshold: Fraction) -> int:
    """Number of matches with an IoU above a threshold."""
    above = matches.shared * threshold.denominator > matches.union * threshold.numerator
    return int(above.sum())


def _ap(hits: int, truth: int, predicted: int) -> float | None:
    return hits / (truth + predicted - hits) if truth + predicted else None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None if none is."""
    present = [v for v in values if v is not None]
    return math.fsum(present) / len(present) if present else None
