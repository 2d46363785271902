"""Region: which voxels of a volume are labelled; all others stay unlabelled (255), with confidence 0.

A region is a box, a mask, or both. A mask is a volume over the same field of view, other than 0 where labels
are wanted, in voxels of any size: each voxel of the image asks the mask voxel its centre lies in. Tiles
without a wanted voxel are neither read nor computed, so a mask at a coarse pyramid level costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box
from densem.errors import ShapeError
from densem.volumes import Volume, open_volume
from densem.volumes.cut import Spans, box_of


@dataclass(frozen=True)
class Region:
    """What is wanted of a volume.

    Attributes:
        volume: the image.
        box: voxels of the image.
        mask: other than 0 where labels are wanted; None: everywhere in the box.
    """

    volume: Volume
    box: Box
    mask: Volume | None = None

    @classmethod
    def of(cls, volume: Volume, spans: Spans | None, mask: Path | None) -> Region:
        """The region that options name.

        Raises:
            ConfigError: for a box that is empty or reaches outside the volume.
            ShapeError: for a mask over another field of view.
        """
        box = volume.box if spans is None else box_of(spans, volume)
        if mask is None:
            return cls(volume, box)
        opened = open_volume(mask, voxel_size_nm=None)
        _check_view(opened, volume)
        return cls(volume, box, opened)

    @property
    def whole(self) -> bool:
        """Whether every voxel is wanted."""
        return self.mask is None and self.box == self.volume.box

    def describe(self) -> dict[str, Any]:
        """What decides the bytes; nothing where every voxel is wanted."""
        if self.whole:
            return {}
        mask = None if self.mask is None else self.mask.id
        return {"region": {"box": [list(self.box.start), list(self.box.stop)], "mask": mask}}

    def misses(self, box: Box) -> bool:
        """Whether no voxel of a box is wanted."""
        if not box.clip(self.box).size:
            return True
        return self.mask is not None and not self.wanted(box).any()

    def wanted(self, box: Box) -> np.ndarray:
        """Which voxels of a box are wanted, bool (Z, Y, X), not to be written into."""
        if self.mask is None and box.clip(self.box) == box:
            return np.broadcast_to(np.True_, box.shape)
        found = np.zeros(box.shape, bool)
        inside = box.clip(self.box)
        if inside.size:
            at = inside.relative_to(box).slices
            found[at] = True if self.mask is None else self._masked(inside)
        return found

    def _masked(self, box: Box) -> np.ndarray:
        assert self.mask is not None
        z, y, x = (self._places(box, axis) for axis in range(3))
        read = Box((z[0], y[0], x[0]), (z[-1] + 1, y[-1] + 1, x[-1] + 1))
        values = self.mask.read(read) != 0
        return values[np.ix_(z - z[0], y - y[0], x - x[0])]

    def _places(self, box: Box, axis: int) -> np.ndarray:
        """The mask voxel under the centre of each image voxel along an axis, int (n,)."""
        assert self.mask is not None
        centre = np.arange(box.start[axis], box.stop[axis]) + 0.5
        nm = centre * self.volume.voxel_size_nm[axis] + self.volume.offset_nm[axis]
        place = np.floor((nm - self.mask.offset_nm[axis]) / self.mask.voxel_size_nm[axis] + 1e-6)
        return np.clip(place, 0, self.mask.shape[axis] - 1).astype(np.int64)


def _check_view(mask: Volume, volume: Volume) -> None:
    """Both must begin and end at the same places, within a voxel of the larger kind."""
    views = []
    for v in (mask, volume):
        ends = [o + n * s for o, n, s in zip(v.offset_nm, v.shape, v.voxel_size_nm, strict=True)]
        views.append((v.offset_nm, ends))
    room = [max(a, b) for a, b in zip(mask.voxel_size_nm, volume.voxel_size_nm, strict=True)]
    pairs = zip(views[0], views[1], strict=True)
    if all(abs(a - b) <= r for p, q in pairs for a, b, r in zip(p, q, room, strict=True)):
        return
    found, wanted = (
        " x ".join(f"{a:g} to {b:g}" for a, b in zip(start, end, strict=True)) for start, end in views
    )
    raise ShapeError(
        f"--mask {mask.name}: expected the field of view of {volume.name}, {wanted} nm (z y x), found "
        f"{found} nm; make the mask from that volume, at any of its pyramid levels"
    )
