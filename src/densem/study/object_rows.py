"""Object rows: what `objects.csv` says of the objects of a study, column by column."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densem.object_table import read_rows
from densem.volumes.ome_zarr import AXES

_NUMBERS = (
    "id", "level", "parent", "volume_nm3",
    *(f"centroid_{a}_nm" for a in AXES),
    *(f"box_{a}_start_nm" for a in AXES), *(f"box_{a}_stop_nm" for a in AXES),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ObjectRows:
    """Objects in order of id.

    Attributes:
        id, level, parent: int64 (N,).
        kind: int64 (N,), place of the class in `classes`.
        classes: names of classes that there are objects of.
        volume_nm3: float64 (N,).
        centre_nm: float64 (N, 3), (z, y, x).
        box_nm: float64 (N, 2, 3), start and stop, (z, y, x).
    """

    id: np.ndarray
    level: np.ndarray
    parent: np.ndarray
    kind: np.ndarray
    classes: tuple[str, ...]
    volume_nm3: np.ndarray
    centre_nm: np.ndarray
    box_nm: np.ndarray

    @classmethod
    def read(cls, path: Path) -> ObjectRows:
        """From an objects.csv.

        Raises:
            NotFoundError, FormatError: as `read_rows`.
        """
        columns: dict[str, array[float]] = {name: array("d") for name in _NUMBERS}
        kinds: dict[str, int] = {}
        kind: array[int] = array("q")
        for name, *numbers in read_rows(path, ("class", *_NUMBERS)):
            kind.append(kinds.setdefault(name, len(kinds)))
            for column, number in zip(columns.values(), numbers, strict=True):
                column.append(number)
        return cls._of({n: np.array(c) for n, c in columns.items()}, np.array(kind, np.int64), tuple(kinds))

    @classmethod
    def _of(cls, columns: dict[str, np.ndarray], kind: np.ndarray, classes: tuple[str, ...]) -> ObjectRows:
        order = np.argsort(columns["id"], kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
        whole = {name: columns[name].astype(np.int64) for name in ("id", "level", "parent")}
        centre = np.stack([columns[f"centroid_{a}_nm"] for a in AXES], axis=1)
        ends = [np.stack([columns[f"box_{a}_{end}_nm"] for a in AXES], axis=1) for end in ("start", "stop")]
        return cls(**whole, kind=kind[order], classes=classes, volume_nm3=columns["volume_nm3"],
                   centre_nm=centre, box_nm=np.stack(ends, axis=1))  # fmt: skip

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.id)

    def place(self, identity: int) -> int | None:
        """Which row an object is, or None."""
        found = int(np.searchsorted(self.id, identity))
        return found if found < len(self) and self.id[found] == identity else None

    @property
    def cell(self) -> np.ndarray:
        """The object of level 0 that each lies in, through its parents, int64 (N,); 0 for none.

        As the column `cell`, which older tables lack.
        """
        found = self.parent
        for _ in range(int(self.level.max(initial=0))):
            places = np.minimum(np.searchsorted(self.id, found), len(self) - 1)
            above = np.where(self.id[places] == found, self.parent[places], 0)
            found = np.where(above > 0, above, found)
        return np.where(np.isin(found, self.id[self.level == 0]), found, 0)

    def relatives(self, identity: int) -> np.ndarray:
        """Rows of an object, of all it lies in, and of all that lies in it; bool (N,)."""
        chosen = self.id == identity
        inner = chosen.copy()
        while True:
            more = np.isin(self.parent, self.id[inner]) & ~inner
            if not more.any():
                break
            inner |= more
        outer = chosen.copy()
        while (parents := self.parent[outer])[parents > 0].size:
            outer = np.isin(self.id, parents)
            if not (outer & ~chosen).any():
                break
            chosen |= outer
        return chosen | inner

    def largest(self, among: np.ndarray, most: int) -> np.ndarray:
        """Of the rows that are marked, the ids of the largest, at most so many, in order of id."""
        rows = np.flatnonzero(among)
        if len(rows) > most:
            rows = np.sort(rows[np.argsort(-self.volume_nm3[rows], kind="stable")[:most]])
        return self.id[rows]
