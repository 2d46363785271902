"""Soft targets: what a teacher, such as an ensemble, takes a volume for, stored once and read by patches.

Stored rather than computed for every patch: a step would otherwise cost a forward pass of each member more,
and training sees a volume many times over; the teacher also labels with its whole context, which a patch cuts
off. In memory they are uint8, round(255 * p): C bytes a voxel, and nearer to the truth than any teacher is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from densem.blocks import Box
from densem.errors import ShapeError
from densem.volumes import Volume


@dataclass(frozen=True)
class SoftTargets:
    """Class probabilities of a volume.

    Attributes:
        classes: most likely class ids (Z, Y, X); where to look for classes in an unlabelled volume.
        probabilities: array (C, Z, Y, X) in channel order, float32 in [0, 1] or uint8 of 255ths.
        id: identity, such as of the models that made them.
    """

    classes: Volume
    probabilities: Any
    id: str

    def __post_init__(self) -> None:
        if tuple(self.probabilities.shape[1:]) != self.classes.shape:
            raise ShapeError(
                f"soft targets: expected probabilities (C, Z, Y, X) over {self.classes.shape}, found "
                f"{tuple(self.probabilities.shape)}"
            )

    def read(self, box: Box) -> np.ndarray:
        """Probabilities of a box in 255ths, uint8 (C, Z, Y, X)."""
        found = np.asarray(self.probabilities[(slice(None), *box.slices)])
        return found if found.dtype == np.uint8 else np.rint(255 * found).astype(np.uint8)

    @property
    def bytes_held(self) -> int:
        """What they take in memory."""
        return int(self.probabilities.shape[0]) * self.classes.box.size

    def held(self) -> SoftTargets:
        """The same in memory."""
        found = np.empty(self.probabilities.shape, np.uint8)
        depth, height, width = self.classes.shape
        for z in range(depth):
            box = Box((z, 0, 0), (z + 1, height, width))
            found[:, z : z + 1] = self.read(box)
        return SoftTargets(self.classes, found, self.id)
