"""Region: the part of volumes that a picture shows, read at a level of their pyramids that fits memory.

Volumes on one grid are read alike: at the finest level that all of them have and at which the region holds at
most `MOST_VOXELS`. Boxes in nm are (z, y, x) here, with the volume's offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from densem.blocks import Box, triple
from densem.errors import InputError, NotFoundError
from densem.volumes import Volume, open_volume
from densem.volumes.volume import Nanometres

MOST_VOXELS = 2**26
"""128 x 512 x 1024; two thirds of it, with 7 % mitochondria, were drawn in 1.3 GB."""


@dataclass(frozen=True)
class Region:
    """A box of voxels at a level.

    Attributes:
        level: of the pyramids; 0 is full resolution.
        box: in voxels of that level.
        voxel_size_nm: of that level.
        offset_nm: where the corner of the volume's first voxel lies; the same at all levels.
        whole: shape of the volume at that level.
    """

    level: int
    box: Box
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    whole: tuple[int, int, int]

    @classmethod
    def of(
        cls, volumes: Sequence[Volume], box_nm: np.ndarray | None = None, most: int | None = None
    ) -> Region:
        """The region of volumes on one grid that holds a box in nm, float (2, 3): all of them without one.

        Raises:
            InputError: if it is too large at every level, or a volume lies on another grid.
        """
        most = MOST_VOXELS if most is None else most
        first = volumes[0]
        for volume in volumes[1:]:
            _check_grid(volume, first.shape, first.voxel_size_nm)
        for level in range(64):
            try:
                views = [_at(volume, level) for volume in volumes]
            except NotFoundError:
                break
            if len({view.shape for view in views}) > 1:
                break
            box = views[0].box if box_nm is None else _voxels(box_nm, views[0], first.offset_nm)
            if box.size <= most:
                return cls(level, box, views[0].voxel_size_nm, first.offset_nm, views[0].shape)
        raise InputError(
            f"{first.name}: what is to be drawn spans more than {most} voxels at every level of the pyramid; "
            "choose fewer cells, such as --cell 3, that lie close together"
        )

    def read(self, volume: Volume) -> np.ndarray:
        """The voxels (Z, Y, X) of one of the volumes; errors as `view`."""
        return self.view(volume).read(self.box)

    def view(self, volume: Volume) -> Volume:
        """One of the volumes at the region's level.

        Raises:
            InputError: if it is on another grid.
        """
        view = _at(volume, self.level)
        _check_grid(view, self.whole, self.voxel_size_nm)
        return replace(view, offset_nm=self.offset_nm)

    @property
    def corner_nm(self) -> Nanometres:
        """Where the corner of the box's first voxel lies."""
        z, y, x = (
            o + a * s for o, a, s in zip(self.offset_nm, self.box.start, self.voxel_size_nm, strict=True)
        )
        return z, y, x

    def local(self, box_nm: np.ndarray) -> Box:
        """The voxels of a box in nm with one more around them, within the region and relative to it."""
        size, corner = np.array(self.voxel_size_nm), np.array(self.corner_nm)
        start = np.floor((box_nm[0] - corner) / size + 1e-6) - 1
        stop = np.ceil((box_nm[1] - corner) / size - 1e-6) + 1
        return Box(triple(start), triple(stop)).clip(Box.of_shape(self.box.shape))

    def corner_of(self, box: Box) -> Nanometres:
        """Where the first voxel of a box relative to the region has its corner."""
        z, y, x = (c + a * s for c, a, s in zip(self.corner_nm, box.start, self.voxel_size_nm, strict=True))
        return z, y, x


def grown(box_nm: np.ndarray, share: float) -> np.ndarray:
    """A box in nm, larger on all sides by a share of its longest."""
    by = share * float((box_nm[1] - box_nm[0]).max())
    return np.stack([box_nm[0] - by, box_nm[1] + by])


def _at(volume: Volume, level: int) -> Volume:
    if level == 0:
        return volume
    if volume.path is None:
        raise NotFoundError(f"{volume.name}: in memory, without a pyramid")
    return open_volume(volume.path, level)


def _voxels(box_nm: np.ndarray, view: Volume, offset_nm: Nanometres) -> Box:
    size, offset = np.array(view.voxel_size_nm), np.array(offset_nm)
    start = np.floor((box_nm[0] - offset) / size + 1e-6) - 1
    stop = np.ceil((box_nm[1] - offset) / size - 1e-6) + 1
    return Box(triple(start), triple(stop)).clip(view.box)


def _check_grid(volume: Volume, shape: Sequence[int], size: Nanometres) -> None:
    if volume.shape != shape or not np.allclose(volume.voxel_size_nm, size):
        raise InputError(
            f"{volume.path or volume.name}: expected {_grid(shape, size)}, as the other volumes of the "
            f"picture, found {_grid(volume.shape, volume.voxel_size_nm)}"
        )


def _grid(shape: Sequence[int], size: Sequence[float]) -> str:
    return f"{' x '.join(map(str, shape))} voxels of {' x '.join(f'{s:g}' for s in size)} nm"
