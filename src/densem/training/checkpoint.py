"""Checkpoints of a run: written beside the old one, synced, renamed; the one before is kept.

    checkpoint.pt            the last one
    checkpoint-previous.pt   the one before it

Only tensors and plain values are stored, and only such are accepted when reading.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from densem.errors import IntegrityError

LAST = "checkpoint.pt"
PREVIOUS = "checkpoint-previous.pt"


def write(folder: Path, state: dict[str, Any]) -> None:
    """Store a state so that a kill at any moment leaves a whole checkpoint behind."""
    part = folder / f".{LAST}.part"
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    last = folder / LAST
    if last.exists():
        os.replace(last, folder / PREVIOUS)
    os.replace(part, last)
    _sync_folder(folder)


def read(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None if there is none.

    Raises:
        IntegrityError: if there are checkpoints but all are damaged.
    """
    found = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for path in found:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            problem = f"{path}: expected a checkpoint, but it cannot be read ({str(error).splitlines()[0]})"
    if found:
        raise IntegrityError(f"{problem}; remove {folder} to train from the beginning")
    return None


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
