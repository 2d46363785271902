"""Raw voxels: an array that lies uncompressed at an offset in a file, read with plain file reads.

Not a memory map: what is read is what is held, also under a limit on the address space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densem.errors import FormatError


class RawArray:
    """(Z, Y, X) or (Z, Y, X, S) voxels in C order at an offset; indexable by three slices."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Check that the file is long enough; nothing is read yet.

        Raises:
            FormatError: if the file is shorter than the shape says.
        """
        self.path, self.offset, self.shape = path, int(offset), tuple(int(s) for s in shape)
        self._stored = np.dtype(dtype)
        self.dtype = self._stored.newbyteorder("=")
        self._row = int(np.prod(self.shape[2:], dtype=np.int64)) * self._stored.itemsize
        need = self.offset + self.shape[0] * self.shape[1] * self._row
        found = path.stat().st_size
        if found < need:
            raise FormatError(
                f"{path}: expected {need} bytes for {' x '.join(map(str, self.shape))} voxels of "
                f"{self.dtype}, found {found}; the file is truncated, copy it again"
            )

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """The voxels of a box; reads whole rows of the slices it touches."""
        (z0, z1, _), (y0, y1, _) = (k.indices(n) for k, n in zip(key[:2], self.shape[:2], strict=True))
        planes = np.empty((max(0, z1 - z0), max(0, y1 - y0), *self.shape[2:]), self._stored)
        with self.path.open("rb") as file:
            for plane, z in zip(planes, range(z0, z1), strict=True):
                file.seek(self.offset + (z * self.shape[1] + y0) * self._row)
                self._fill(file, plane)
        return planes[:, :, key[2]].astype(self.dtype, copy=False)

    def _fill(self, file: Any, plane: np.ndarray) -> None:
        target = memoryview(plane.reshape(-1).view(np.uint8).data)
        if file.readinto(target) != len(target):
            raise FormatError(
                f"{self.path}: ended while it was read; the file is truncated or still written to"
            )
