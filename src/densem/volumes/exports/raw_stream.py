"""Raw voxels, x fastest, little-endian, slab by slab: what most headers are followed by."""

from __future__ import annotations

from typing import BinaryIO, Protocol

import numpy as np

from densem.volumes.exports.source import Source
from densem.volumes.slabs import Progress, slabs


class Writable(Protocol):
    """A file that takes bytes."""

    def write(self, data: memoryview, /) -> object:
        """Take some bytes."""


def write_voxels(
    file: BinaryIO | Writable, source: Source, dtype: np.dtype, progress: Progress | None = None
) -> None:
    """Append all voxels to a file that is open for bytes."""
    kind = dtype.newbyteorder("<")
    for _, slab in slabs(source.volume, progress):
        file.write(np.ascontiguousarray(slab, kind).data.cast("B"))
