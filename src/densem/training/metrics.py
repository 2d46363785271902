"""Metrics of a run: JSON lines a person can read, and the same numbers for TensorBoard.

{"step": 120, "time": 61.5, "loss": 0.412, "lr": 0.002, "kvox_s": 431.0}
{"step": 200, "time": 98.0, "eval/miou": 0.48}
{"step": 200, "time": 98.0, "event": "restarted", "reason": "..."}
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

FILE = "metrics.jsonl"


class Metrics:
    """Appends to the metrics of a run folder.

    A checkpoint remembers `position`; a run resumed from it forgets what was written after it.
    """

    def __init__(self, folder: Path, position: int, step: int) -> None:
        path = folder / FILE
        path.touch()
        os.truncate(path, min(position, path.stat().st_size))
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def add(self, step: int, seconds: float, **values: Any) -> None:
        """One line; numbers go to TensorBoard as well."""
        self._file.write(json.dumps({"step": step, "time": round(seconds, 2), **values}) + "\n")
        for name, value in values.items():
            if isinstance(value, int | float):
                tag = name if "/" in name else f"train/{name}"
                self._board.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write out everything."""
        self._file.close()
        self._board.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics; a torn last line is left out."""
    path = folder / FILE
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
