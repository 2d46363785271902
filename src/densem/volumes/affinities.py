"""Affinities on disk: for each voxel and each of some offsets, whether both ends are of one object.

    predictions/<name>/affinities.zarr    uint8 (K, Z, Y, X), round(255 * a): channel k at voxel p is about
                                          voxels p and p + offsets[k]

Offsets, and the classes whose objects they were learnt from, stand in the attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from densem.blocks import Box, Triple, triple
from densem.errors import IntegrityError

FILE = "affinities.zarr"


@dataclass(frozen=True)
class Affinities:
    """The affinities of a volume. Can be sent to other machines that see the folder.

    Attributes:
        path: where they lie.
        offsets: K of them, in voxels, (z, y, x).
        classes: names of the thing classes they are about.
        shape: of the volume, (z, y, x).
        id: over all voxels.
    """

    path: Path
    offsets: tuple[Triple, ...]
    classes: tuple[str, ...]
    shape: Triple
    id: str

    @classmethod
    def beside(cls, classes: Path | None) -> Affinities | None:
        """Those of a prediction, beside its class ids; None where there are none.

        Raises:
            IntegrityError: if they do not say what they are, or are not finished.
        """
        path = None if classes is None else classes.with_name(FILE)
        if path is None or not path.is_dir():
            return None
        record: Any = zarr.open_group(path, mode="r").attrs.asdict().get("densem")
        said = record.get("affinities") if isinstance(record, dict) else None
        if not isinstance(said, dict) or not record.get("complete"):
            raise IntegrityError(
                f"{path}: expected finished affinities with their offsets in the attributes, found neither; "
                "predict anew with --overwrite"
            )
        array = zarr.open_group(path, mode="r")["s0"]
        assert isinstance(array, zarr.Array)
        offsets = tuple(triple(o) for o in said["offsets"])
        return cls(path.resolve(), offsets, tuple(said["classes"]), triple(array.shape[1:]), record["id"])

    def read(self, box: Box) -> np.ndarray:
        """uint8 (K, Z, Y, X) of a box."""
        array = zarr.open_group(self.path, mode="r")["s0"]
        assert isinstance(array, zarr.Array)
        return np.asarray(array[(slice(None), *box.slices)])
