"""Found: objects as a picture needs them: which there are, where they are, and what lies in what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from densem.errors import NotFoundError
from densem.object_table import read_rows
from densem.volumes import Volume
from densem.volumes.ome_zarr import AXES

_SHOWN = 8
_COLUMNS = (
    "id",
    "class",
    "level",
    "parent",
    *(f"box_{a}_{end}_nm" for end in ("start", "stop") for a in AXES),
)


@dataclass(frozen=True, eq=False)
class Item:
    """An object.

    Attributes:
        id: of the object.
        name: of its class.
        level: of nesting, 0 for the outermost.
        parent: id of the object it lies in, 0 for none.
        box_nm: float (2, 3), first and last corner in (z, y, x).
    """

    id: int
    name: str
    level: int
    parent: int
    box_nm: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """The objects of one run.

    Attributes:
        name: of the run.
        volumes: ids uint32 (Z, Y, X) of each level, outermost first.
        items: by id.
    """

    name: str
    volumes: tuple[Volume, ...]
    items: dict[int, Item]

    @classmethod
    def read(cls, name: str, table: Path, volumes: Sequence[Volume]) -> Found:
        """From the table that `densem objects` writes.

        Raises:
            NotFoundError, FormatError: as `read_rows`.
        """
        items = {}
        for identity, kind, level, parent, *box in read_rows(table, _COLUMNS):
            items[identity] = Item(identity, kind, level, parent, np.reshape(box, (2, 3)))
        return cls(name, tuple(volumes), items)

    @cached_property
    def _held(self) -> dict[int, list[int]]:
        held = defaultdict(list)
        for item in self.items.values():
            held[item.parent].append(item.id)
        return held

    @property
    def outermost(self) -> list[int]:
        """Ids of level 0."""
        return [item.id for item in self.items.values() if item.level == 0]

    def with_content(self, ids: Iterable[int]) -> list[int]:
        """These objects and all that lies in them."""
        found, left = [], list(ids)
        while left:
            here = left.pop()
            found.append(here)
            left.extend(self._held.get(here, ()))
        return sorted(set(found))

    def box_nm(self, ids: Iterable[int]) -> np.ndarray:
        """The box that holds these objects, float (2, 3)."""
        boxes = np.stack([self.items[i].box_nm for i in ids])
        return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])

    def check(self, ids: Sequence[int], flag: str, known: Sequence[int] | None = None) -> None:
        """Refuse ids that are not there.

        Raises:
            NotFoundError: with the nearest ids and what they are.
        """
        there = list(self.items) if known is None else list(known)
        for wanted in ids:
            if wanted in there:
                continue
            near = sorted(sorted(there, key=lambda i: abs(i - wanted))[:_SHOWN])
            hint = ", ".join(f"{i} ({self.items[i].name})" for i in near) or "none at all"
            item = self.items.get(wanted)
            is_inner = (
                f" {wanted} is of class {item.name}, in object {item.parent}; show it with --ids."
                if item
                else ""
            )
            raise NotFoundError(
                f"{flag} {wanted}: objects {self.name!r} have no such one.{is_inner} Of the {len(there)} "
                f"there are, the nearest are {hint}"
            )
