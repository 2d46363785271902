"""Source: what is exported, with what its ids mean.

The corner of its first voxel lies at the volume's offset. Formats that say where the *centre* of the first
voxel lies are given the offset and half a voxel: images, labels and meshes then lie on each other in every
tool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from densem.errors import InputError
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes.slabs import slabs
from densem.volumes.volume import Nanometres, Volume

Kind = Literal["image", "classes", "objects"]
Color = tuple[int, int, int]
GREY: Color = (128, 128, 128)


@dataclass(frozen=True)
class Entry:
    """An id, what it is called, and its colour."""

    id: int
    name: str
    rgb: Color


@dataclass(frozen=True, eq=False)
class Source:
    """A volume that is exported.

    Attributes:
        volume: its voxels.
        kind: grey values, class ids (255 is unlabelled) or object ids (0 is no object).
        title: what it is called in the file.
        schema: the classes; None where there are none.
        class_of: of objects, the class of each id that is known.
    """

    volume: Volume
    kind: Kind
    title: str
    schema: LabelSchema | None = None
    class_of: Mapping[int, str] = field(default_factory=dict)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The classes of class ids and unlabelled, ascending by id; none for images and objects."""
        if self.kind != "classes" or self.schema is None:
            return ()
        rows = [Entry(c.id, c.name, c.rgb) for c in self.schema.classes]
        return (*rows, Entry(UNLABELLED, "unlabelled", GREY))

    @property
    def object_entries(self) -> Iterator[Entry]:
        """The objects whose class is known, in the colours of their classes."""
        for number, name in self.class_of.items():
            known = self.schema is not None and name in self.schema.names
            rgb = self.schema[name].rgb if known and self.schema is not None else GREY
            yield Entry(number, f"{name} {number}", rgb)

    @property
    def centre_nm(self) -> Nanometres:
        """Where the centre of the first voxel lies, (z, y, x)."""
        z, y, x = (o + v / 2 for o, v in zip(self.volume.offset_nm, self.volume.voxel_size_nm, strict=True))
        return z, y, x

    @property
    def nbytes(self) -> int:
        """Size of the voxels as they are."""
        return self.volume.box.size * self.volume.dtype.itemsize


def fitted(source: Source, allowed: tuple[str, ...], format_name: str, instead: str) -> np.dtype:
    """The type in which a format holds the voxels unchanged.

    Ids that are stored wider than a format's widest type are looked through for their largest one.

    Args:
        source: what is exported.
        allowed: names of the types that the format has.
        format_name: for messages.
        instead: what to do where nothing fits, for messages.

    Raises:
        InputError: with the largest id found and the largest one that fits.
    """
    dtype = source.volume.dtype
    if dtype.name in allowed:
        return dtype
    same = [np.dtype(n) for n in allowed if np.dtype(n).kind in "ui" or source.kind == "image"]
    wider = [d for d in same if np.can_cast(dtype, d, "safe")]
    if wider:
        return min(wider, key=lambda d: d.itemsize)
    if source.kind == "image":
        raise InputError(
            f"{source.title}: expected grey values of {', '.join(allowed)}, which {format_name} holds, found "
            f"{dtype.name}; {instead}"
        )
    widest = max(same, key=lambda d: int(np.iinfo(d).max))
    largest = max(int(block.max()) for _, block in slabs(source.volume))
    if largest > np.iinfo(widest).max:
        raise InputError(
            f"{source.title}: expected ids up to {np.iinfo(widest).max}, the largest that {format_name} "
            f"holds, found {largest}; {instead}"
        )
    return widest
