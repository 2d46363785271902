"""Scratch: the working folder of a level: arrays that appear whole or not at all, and journals of passes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Journal


@dataclass(frozen=True)
class Scratch:
    """A folder for what passes hand on to each other; removed at the end."""

    folder: Path

    @property
    def labels(self) -> Path:
        """Group of the block components."""
        return self.folder / "labels.zarr"

    def journal(self, name: str) -> Journal:
        """The journal of a pass."""
        return Journal(self.folder / "passes" / name / "journal")

    def path(self, name: str) -> Path:
        """File of a set of arrays."""
        return self.folder / f"{name}.npz"

    def save(self, name: str, **arrays: Any) -> None:
        """Write a set of arrays; on return it is on disk."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as handle:
            np.savez_compressed(handle, **arrays)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """A set of arrays."""
        with np.load(self.path(name)) as found:
            return {key: found[key] for key in found.files}

    def save_array(self, name: str, array: np.ndarray) -> None:
        """Write one array so that parts of it can be read."""
        path = self.folder / f"{name}.npy"
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as handle:
            np.save(handle, array)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)

    def array(self, name: str) -> np.ndarray:
        """One array, mapped into memory."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")
