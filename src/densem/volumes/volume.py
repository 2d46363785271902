"""Volume: a lazily read array in (z, y, x) with voxel size and offset in nanometres.

Reading a box touches the chunks it needs and nothing else. Everything that is known of a volume
beside its voxels (intensity statistics, provenance, id) lies in the attributes of its group.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box, Triple, triple
from densem.errors import DensemError, FormatError, ShapeError, VoxelSizeError

Nanometres = tuple[float, float, float]

IMAGE_DTYPES = ("uint8", "uint16", "int16", "float32")


@dataclass(frozen=True)
class Intensity:
    """Grey-value statistics of an image volume, from a seeded sample without constant borders.

    `histogram` holds shares of 64 equal bins between `low` and `high` (0.1 and 99.9 percentile), the
    ends included in the outer bins; `sharpness` is the spread of the in-plane Laplacian over `std`.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    low: float
    high: float
    sharpness: float
    histogram: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML."""
        return {**asdict(self), "histogram": [round(h, 6) for h in self.histogram]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Intensity:
        """From what `to_dict` gave."""
        return cls(**{**data, "histogram": tuple(data.get("histogram", ()))})


def check_voxel_size(values: object, where: str) -> Nanometres:
    """Three finite positive lengths in nm.

    Raises:
        VoxelSizeError: naming `where`, if any is missing, zero, negative or not a number.
    """
    try:
        z, y, x = (float(v) for v in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise VoxelSizeError(
            f"{where}: expected a voxel size of three lengths in nm (z y x), found {values!r}; "
            "give it with --voxel-size Z Y X"
        ) from None
    if not all(np.isfinite(v) and v > 0 for v in (z, y, x)):
        raise VoxelSizeError(
            f"{where}: voxel sizes must be above zero, found {z:g} {y:g} {x:g} nm; give --voxel-size Z Y X"
        )
    return z, y, x


class _Part:
    """A box of an array, read through to the array."""

    def __init__(self, array: Any, box: Box) -> None:
        self._array = array
        self._box = box
        self.shape = box.shape
        self.dtype = array.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Any:
        spans = (k.indices(n) for k, n in zip(key, self.shape, strict=True))
        inner = tuple(
            slice(a + o, b + o, step) for (a, b, step), o in zip(spans, self._box.start, strict=True)
        )
        return self._array[inner]


@dataclass(frozen=True)
class Volume:
    """An array in (z, y, x) with its place in the world.

    Attributes:
        array: anything indexable by three slices that has `shape` and `dtype` (zarr, numpy).
        voxel_size_nm: side lengths of a voxel, (z, y, x).
        offset_nm: where the corner of voxel (0, 0, 0) lies, (z, y, x).
        path: the folder or file it was opened from, if any.
        attributes: densem's own record: `provenance`, `intensity`, `id`.
    """

    array: Any
    voxel_size_nm: Nanometres
    offset_nm: Nanometres = (0.0, 0.0, 0.0)
    path: Path | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.array.shape) != 3:
            raise ShapeError(
                f"{self.path or 'array'}: expected three axes (z, y, x), "
                f"found shape {tuple(self.array.shape)}"
            )

    @property
    def shape(self) -> Triple:
        """Side lengths in voxels."""
        return triple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels, in the machine's byte order."""
        return np.dtype(self.array.dtype).newbyteorder("=")

    @property
    def box(self) -> Box:
        """The whole volume."""
        return Box.of_shape(self.shape)

    @property
    def name(self) -> str:
        """A short name for messages."""
        return self.path.name.removesuffix(".zarr") if self.path else "volume"

    def read(self, box: Box | None = None) -> np.ndarray:
        """The voxels of a box (the whole volume without one), as a numpy array (Z, Y, X).

        Raises:
            ShapeError: if the box reaches outside the volume.
            FormatError: if what is on disk cannot be read.
        """
        box = self.box if box is None else box
        if not self.box.contains(box):
            raise ShapeError(f"{self.name}: box {box} reaches outside the volume of shape {self.shape}")
        try:
            block = np.asarray(self.array[box.slices])
        except (DensemError, MemoryError):
            raise
        except Exception as error:
            raise FormatError(
                f"{self.path or self.name}: box {box} cannot be read ({error}); the volume is corrupt, "
                "make or copy it again"
            ) from error
        return block.astype(self.dtype, copy=False)

    def part(self, box: Box) -> Volume:
        """A view on a box: same voxel size and record, offset moved; nothing is copied."""
        if not self.box.contains(box):
            raise ShapeError(f"{self.name}: box {box} reaches outside the volume of shape {self.shape}")
        z, y, x = (o + a * v for o, a, v in zip(self.offset_nm, box.start, self.voxel_size_nm, strict=True))
        record = {**self.attributes, "id": f"{self.id}[{box}]"}
        return Volume(_Part(self.array, box), self.voxel_size_nm, (z, y, x), self.path, record)

    @property
    def provenance(self) -> dict[str, Any]:
        """How it was made: command, version, inputs, model."""
        return dict(self.attributes.get("provenance", {}))

    @property
    def intensity(self) -> Intensity | None:
        """Grey-value statistics stored at import; None for labels and foreign volumes."""
        data = self.attributes.get("intensity")
        return Intensity.from_dict(data) if data else None

    @property
    def id(self) -> str:
        """Identity of the content: stored at import; else a hash of metadata and a sample."""
        stored = self.attributes.get("id")
        return str(stored) if stored else _fingerprint(self)


def _fingerprint(volume: Volume) -> str:
    """16 hex digits over shape, type, voxel size and up to 27 small boxes spread over the volume."""
    digest = hashlib.sha256(
        json.dumps([volume.shape, str(volume.dtype), volume.voxel_size_nm, volume.offset_nm]).encode()
    )
    edge = 16
    starts = [sorted({0, max(0, (s - edge) // 2), max(0, s - edge)}) for s in volume.shape]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                box = Box((z, y, x), (z + edge, y + edge, x + edge)).clip(volume.box)
                digest.update(np.ascontiguousarray(volume.read(box)).tobytes())
    return digest.hexdigest()[:16]
