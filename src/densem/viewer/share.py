"""Share: a folder of which a viewer may read the files it needs, and nothing else.

A path is refused (`None`) if a part of it is hidden, empty or leads up, if its file is not of the share's
kind, if there is none, and if it lies, links followed, outside the folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

Kind = Literal["zarr", "meshes"]
_FILES = {
    # metadata; chunks and shards of version 3 (c/0/0/0), of version 2 (0.0.0 or 0/0/0)
    "zarr": re.compile(r"zarr\.json|\.z(array|group|attrs|metadata)|(c\.)?\d+(\.\d+)*"),
    # info; 1:0 and fragments of legacy meshes; 1 and 1.index of multi-resolution ones; their shards
    "meshes": re.compile(r"info|[A-Za-z0-9_][A-Za-z0-9_.:~-]*"),
}


@dataclass(frozen=True)
class Share:
    """A folder that is served; `kind` says what lies in it."""

    folder: Path
    kind: Kind = "zarr"

    @cached_property
    def _root(self) -> Path:
        return self.folder.resolve()

    def find(self, parts: Sequence[str]) -> Path | None:
        """The file that a path of decoded parts leads to, or None where it is refused."""
        if not parts or not _FILES[self.kind].fullmatch(parts[-1]):
            return None
        if not all(_is_plain(part) for part in parts[:-1]):
            return None
        path = self._root.joinpath(*parts)
        try:
            real = path.resolve()
            return real if real.is_relative_to(self._root) and real.is_file() else None
        except (OSError, ValueError, RuntimeError):  # too long a name, a loop of links
            return None


def _is_plain(part: str) -> bool:
    return bool(part) and not part.startswith(".") and not set(part) & set("/\\:\0")
