"""Agreement of two annotations of one volume: the scores that people reach against each other.

Only voxels that both have labelled are compared: where one of them said nothing, nobody is wrong. One of the
two, the reference, takes the place of the truth. IoU, F1, accuracy, adjusted Rand index and boundary
distances are the same whichever it is; precision and recall change places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from densem.blocks import Triple
from densem.evaluation.counting import check_grids
from densem.schema import UNLABELLED
from densem.volumes import Volume


@dataclass(frozen=True)
class _Both:
    """The labels of one volume where another one has labels too, elsewhere 255; read lazily."""

    labels: Any
    other: Any

    @property
    def shape(self) -> Triple:
        return self.labels.shape

    @property
    def dtype(self) -> Any:
        return self.labels.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        labels = np.asarray(self.labels[key])
        return np.where(np.asarray(self.other[key]) == UNLABELLED, labels.dtype.type(UNLABELLED), labels)


def labelled_by_both(reference: Volume, other: Volume) -> Volume:
    """The reference annotation without the voxels that the other one leaves unlabelled.

    In the place of the truth it makes every score of `densem.evaluation` one of agreement:
    `contingency(labelled_by_both(a, b), b, schema)`.

    Raises:
        ShapeError, VoxelSizeError, InputError: if they do not lie on one grid or hold no class ids.
    """
    check_grids(reference, other)
    record = {"id": f"{reference.id}&{other.id}"}
    array = _Both(reference.array, other.array)
    return Volume(array, reference.voxel_size_nm, reference.offset_nm, reference.path, record)
