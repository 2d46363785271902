"""Calibration: whether a network that says "80 % sure" is right in 80 % of the cases.

The confidence of a voxel is its largest class probability, stored in 8 bits as round(255 p). One blockwise
pass counts, for each of the 256 levels, the voxels and those of them that are right; everything else follows
from these counts exactly. Rounding moves an error of calibration by at most 0.002 (half a level).

Sources: Guo et al., On calibration of modern neural networks, 2017 (expected calibration error, reliability
diagram); Nixon et al., Measuring calibration in deep learning, 2019 (bins of equal numbers of voxels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from densem.blocks import Box, Grid, Triple
from densem.errors import FormatError, InputError, ShapeError
from densem.evaluation.contingency import Protocol, check_protocol
from densem.evaluation.counting import check_grids
from densem.evaluation.passes import BLOCK, Passes, Progress, ThreadPasses
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume
from densem.volumes.shared import Shared

BINS = 15
"""As in Guo et al.; 255 / 15 = 17, so that every level lies in one bin."""

_LEVELS = np.arange(256) / 255


@dataclass(frozen=True)
class ConfidenceBin:
    """The voxels between two confidences.

    Attributes:
        voxels: how many.
        confidence: mean of theirs, 0 to 1; None without voxels.
        accuracy: share of them that is right; None without voxels.
    """

    voxels: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How well confidence tells how often a prediction is right.

    Attributes:
        ece: expected calibration error: mean gap between confidence and accuracy over 15 bins of equal
            width, weighted by voxels; 0 is perfect.
        ece_adaptive: the same over 15 bins of equal numbers of voxels.
        confidence: mean over all voxels.
        accuracy: share of them that is right.
        voxels: how many were looked at: scored, and something was predicted for them.
        bins: the 15 of equal width, from low to high: the reliability diagram.
    """

    ece: float
    ece_adaptive: float
    confidence: float
    accuracy: float
    voxels: int
    bins: tuple[ConfidenceBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "bins": [vars(b) for b in self.bins]}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "scores") -> Calibration:
        """From what `to_dict` gave.

        Raises:
            FormatError: naming `where` and what is missing or wrong.
        """
        try:
            return cls(**{**data, "bins": tuple(ConfidenceBin(**b) for b in data["bins"])})
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{where}: expected the calibration that densem evaluate writes, but entry {error} is "
                "missing or wrong; evaluate again"
            ) from None

    @classmethod
    def of_levels(cls, voxels: np.ndarray, right: np.ndarray) -> Calibration:
        """From counts by level.

        Args:
            voxels: int64 (256,), voxels of each confidence.
            right: int64 (256,), those of them that are right.

        Raises:
            InputError: if there is no voxel at all.
        """
        total = int(voxels.sum())
        if total == 0:
            raise InputError("calibration: no voxel is both scored and predicted")
        bins = _equal_width(voxels, right)
        return cls(
            ece=_error(bins),
            ece_adaptive=_error(_equal_mass(voxels, right)),
            confidence=float(_LEVELS @ voxels) / total,
            accuracy=int(right.sum()) / total,
            voxels=total,
            bins=tuple(_record(row) for row in bins),
        )


def calibration(
    truth: Volume,
    prediction: Volume,
    confidence: Volume,
    schema: LabelSchema,
    protocol: Protocol = Protocol.LABELLED,
    *,
    block: Triple = BLOCK,
    workers: int = 1,
    passes: Passes | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Count how often a prediction is right at each confidence, in one blockwise pass.

    Voxels that are not scored are left out, and those for which nothing was predicted.

    Args:
        truth: class ids, 255 where unlabelled.
        prediction: class ids, 255 where nothing was predicted.
        confidence: uint8, round(255 * largest class probability).
        schema: the classes.
        protocol: which voxels are scored.
        block: voxels read at once, (z, y, x).
        workers: threads.
        passes: who looks at the blocks instead of threads.
        progress: told how much is done, and of how much.

    Raises:
        ShapeError, VoxelSizeError, InputError: for volumes that cannot be compared.
        SchemaError: for a protocol that the schema cannot serve.
    """
    check_grids(truth, prediction)
    check_protocol(schema, protocol)
    _check_confidence(confidence, prediction)
    background = schema.background_id if protocol is Protocol.CELLS else None
    task = LevelTask(Shared(truth), Shared(prediction), Shared(confidence), background)
    counts = np.zeros((2, 256), np.int64)
    for part in (passes or ThreadPasses(workers)).over(task, Grid(truth.shape, block), progress):
        counts += part
    return Calibration.of_levels(*counts)


@dataclass(frozen=True)
class LevelTask:
    """Counts the voxels of each confidence in a block, and those of them that are right, int64 (2, 256).

    Attributes:
        truth: a volume of class ids.
        prediction: another on the same grid.
        confidence: of the prediction, uint8.
        background: a true class that is not scored.
    """

    truth: Shared
    prediction: Shared
    confidence: Shared
    background: int | None
    name = "calibration"

    def __call__(self, box: Box) -> np.ndarray:
        """Count a box."""
        volumes = self.truth, self.prediction, self.confidence
        true_ids, predicted_ids, levels = (shared.get().read(box) for shared in volumes)
        seen = (true_ids != UNLABELLED) & (predicted_ids != UNLABELLED)
        if self.background is not None:
            seen &= true_ids != self.background
        right = seen & (true_ids == predicted_ids)
        return np.stack([np.bincount(levels[mask], minlength=256) for mask in (seen, right)])

    def plan(self) -> dict[str, Any]:
        """What decides the counts: volumes, and what is not scored."""
        return {
            "truth": self.truth.get().id, "prediction": self.prediction.get().id,
            "confidence": self.confidence.get().id, "background": self.background,
        }  # fmt: skip

    def encode(self, result: np.ndarray) -> dict[str, Any]:
        """Both rows."""
        return {"levels": result.tolist()}

    def decode(self, record: dict[str, Any]) -> np.ndarray:
        """From what `encode` gave."""
        return np.array(record["levels"], np.int64)


def _check_confidence(confidence: Volume, prediction: Volume) -> None:
    if confidence.shape != prediction.shape:
        raise ShapeError(
            f"confidence {confidence.name} has shape {confidence.shape} and prediction {prediction.name} has "
            f"{prediction.shape} (z, y, x); both must be of one prediction"
        )
    if confidence.dtype != np.uint8:
        raise InputError(
            f"confidence {confidence.name}: expected uint8, round(255 * probability), "
            f"found {confidence.dtype}"
        )


# ---- bins: rows of voxels, sum of confidences, right voxels, float64 (bins, 3) --------------------


def _equal_width(voxels: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Bin m holds confidences in (m / 15, (m + 1) / 15], the first one 0 as well, as in Guo et al."""
    bin_of = np.maximum(-(-np.arange(256) * BINS // 255) - 1, 0)
    columns = (voxels, _LEVELS * voxels, right)
    return np.stack([np.bincount(bin_of, column, minlength=BINS) for column in columns], axis=1)


def _equal_mass(voxels: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Bins of equal numbers of voxels; a level that an edge falls into is shared out between both bins."""
    edges = np.linspace(0, voxels.sum(), BINS + 1)
    above = np.cumsum(voxels)
    columns = (voxels, _LEVELS * voxels, right)
    sums = [np.diff(np.interp(edges, np.r_[0, above], np.r_[0, np.cumsum(c)])) for c in columns]
    return np.stack(sums, axis=1)


def _error(bins: np.ndarray) -> float:
    """The mean gap of confidence and accuracy, weighted by voxels."""
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / bins[:, 0].sum())


def _record(row: np.ndarray) -> ConfidenceBin:
    voxels, confidence, right = row
    if voxels == 0:
        return ConfidenceBin(0, None, None)
    return ConfidenceBin(int(voxels), float(confidence / voxels), float(right / voxels))
