"""Source: a Zarr volume as Neuroglancer is told to place it.

densem's offset is the corner of the first voxel. Neuroglancer takes the translation of OME-Zarr for the
centre of it, and knows nothing of a bare array. So every source carries the shift, in voxels, that brings the
corner from where Neuroglancer would put it to where densem has it:

    Neuroglancer's corner = translation / scale - 1/2          (0 for a bare array)
    shift                 = offset_nm / voxel_size_nm - that
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densem.errors import InputError
from densem.volumes import Volume
from densem.volumes.ome_zarr import AXES, read_attributes
from densem.volumes.volume import Nanometres


@dataclass(frozen=True)
class Source:
    """A Zarr volume among what is served.

    Attributes:
        key: of the share that holds it.
        zarr: version of the format, 2 or 3.
        voxel_size_nm: (z, y, x).
        shift: added to Neuroglancer's coordinates of the source, (z, y, x) in voxels.
        leading: names of the axes before z, y, x.
    """

    key: str
    zarr: int
    voxel_size_nm: Nanometres
    shift: Nanometres
    leading: tuple[str, ...] = ()

    @classmethod
    def of(cls, key: str, volume: Volume) -> Source:
        """The source of a volume that was opened from a folder.

        Raises:
            InputError: if it has no folder.
        """
        if volume.path is None:
            raise InputError(f"{volume.name}: only volumes on disk can be looked at; write it first")
        attributes = read_attributes(volume.path)
        ome = attributes.get("ome", attributes)
        scales = ome.get("multiscales") if isinstance(ome, dict) else None
        leading = _leading(scales[0]) if scales else ()
        corner = _corner(scales[0]) if scales else np.zeros(3)
        place = np.array(volume.offset_nm) / np.array(volume.voxel_size_nm)
        z, y, x = (float(v) for v in np.round(place - corner, 6))
        version = 3 if (volume.path / "zarr.json").is_file() else 2
        return cls(key, version, volume.voxel_size_nm, (z, y, x), leading)

    def transform(self) -> dict[str, Any]:
        """Neuroglancer's transform of the source: output dimensions in metres, and a matrix in voxels.

        Axes before z, y, x stay the layer's own (their names end with an apostrophe).
        """
        rank = len(self.leading) + 3
        shift = (0.0,) * len(self.leading) + self.shift
        dimensions: dict[str, list[Any]] = {f"{name}'": [1, ""] for name in self.leading}
        dimensions |= dimensions_of(self.voxel_size_nm)
        matrix = [[float(i == j) for j in range(rank)] + [shift[i]] for i in range(rank)]
        return {"outputDimensions": dimensions, "matrix": matrix}


def dimensions_of(voxel_size_nm: Nanometres, order: Sequence[str] = AXES) -> dict[str, list[Any]]:
    """Neuroglancer's dimensions: name -> length of a voxel in metres."""
    size = dict(zip(AXES, voxel_size_nm, strict=True))
    return {name: [float(f"{size[name] * 1e-9:.12g}"), "m"] for name in order}


def _leading(scale: Any) -> tuple[str, ...]:
    axes = [a if isinstance(a, dict) else {"name": a} for a in scale.get("axes", [])]
    return tuple(str(a.get("name")) for a in axes[:-3])


def _corner(scale: Any) -> np.ndarray:
    """Where Neuroglancer puts the corner of the first voxel, (z, y, x) in voxels."""
    factor, shift = np.ones(3), np.zeros(3)
    first = scale["datasets"][0].get("coordinateTransformations", [])
    for step in [*first, *scale.get("coordinateTransformations", [])]:
        if step.get("type") == "scale":
            by = np.array(step["scale"][-3:], np.float64)
            factor, shift = factor * by, shift * by
        elif step.get("type") == "translation":
            shift = shift + np.array(step["translation"][-3:], np.float64)
    return shift / factor - 0.5
