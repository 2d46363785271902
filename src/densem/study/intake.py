"""Bringing files into a study: image, labels and instances together, all of them or nothing.

Everything is written to a hidden folder inside the study first, and moved into place when it is
whole. What is replaced stays until then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densem.errors import InputError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportRequest:
    """What is to be imported, as the command line gives it."""

    image: Path | None = None
    labels: Path | None = None
    instances: Path | None = None
    role: Any = None
    voxel_size_nm: tuple[float, float, float] | None = None
    slices: slice | None = None
    palette: str | None = None
    unlabelled_value: int | None = None
    dataset: str | None = None
    labels_dataset: str | None = None
    copy: bool = False
    overwrite: bool = False


def parse_slices(text: str | None) -> slice | None:
    """`0:13` as a slice.

    Raises:
        InputError: if it is anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d*):(\d*)", text)
    span = slice(*(int(part) if part else None for part in match.groups())) if match else slice(0, 0)
    if span.stop is not None and span.stop <= (span.start or 0):
        raise InputError(
            f"--slices {text}: expected FIRST:END with END above FIRST, such as 0:13 for slices 0 to 12"
        )
    return span
