"""Object table: what was measured of objects, as CSV, and as Parquet with pyarrow; CSV is read back.

It lies below all that works with objects: what finds them, makes meshes of them, draws and shows them.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from densem.errors import FormatError, NotFoundError

Table = dict[str, list[Any]]
"""Columns of equal length, in order."""
_REMEDY = "find the objects again with  densem objects ... --overwrite"
_WHOLE = ("id", "level", "parent", "cell", "voxels", "euler_number")


def write_csv(table: Table, path: Path) -> None:
    """As CSV; nothing where there is no value."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, path)


def write_parquet(table: Table, path: Path) -> bool:
    """As Parquet, with the same types however few rows there are; whether pyarrow is there."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return False
    part = path.with_name(f".{path.name}.part")
    types = {int: pyarrow.int64(), bool: pyarrow.bool_(), str: pyarrow.string(), float: pyarrow.float64()}
    columns = {name: pyarrow.array(values, types[_type(name)]) for name, values in table.items()}
    parquet.write_table(pyarrow.table(columns), part)
    os.replace(part, path)
    return True


def read_table(path: Path, rows: int | None = None) -> Table:
    """A table that `densem objects` wrote, `objects.csv` or `cells.csv`, in memory.

    Args:
        path: of the file.
        rows: how many it must have, where that is known.

    Returns:
        Columns in order, those of an older table as it has them: whole numbers, truths, words, and lengths in
        nm; None where there is no value.

    Raises:
        NotFoundError, FormatError: as `read_rows`; FormatError also for another number of rows.
    """
    table: Table = {name: [] for name in _header(path)}
    columns = list(table.values())
    for row in read_rows(path):
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    found = len(columns[0])
    if rows is not None and found != rows:
        raise FormatError(f"{path}: damaged or cut off, expected {rows} rows, found {found}; {_REMEDY}")
    return table


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[list[Any]]:
    """The rows of such a table one by one, however many there are.

    Args:
        path: of the file.
        columns: those wanted, in order; all without them.

    Raises:
        NotFoundError: there is no such file.
        FormatError: a column is missing, or it is damaged, with the line.
    """
    header = _header(path)
    wanted = header if columns is None else list(columns)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise FormatError(f"{path}: expected a column {missing[0]!r}, as densem objects writes it; {_REMEDY}")
    places = [(header.index(name), name) for name in wanted]
    number, row = 1, list[str]()
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            lines = csv.reader(handle)
            next(lines)
            for row in lines:
                number += 1
                if len(row) != len(header):
                    raise ValueError("cut off")
                yield [_read(name, row[at]) for at, name in places]
        if not _ends_with_a_line(path):
            raise ValueError("cut off within the last number")
    except (ValueError, KeyError, csv.Error):
        raise FormatError(
            f"{path}, line {number}: damaged or cut off, expected {len(header)} values, "
            f"found {','.join(row)[:60]!r}; {_REMEDY}"
        ) from None


def level_paths(folder: Path) -> list[Path]:
    """The volumes of finished objects, `objects-0.zarr` and on, outermost first.

    Raises:
        NotFoundError: there is none, or not that of a level the table has objects of.
        FormatError: as `read_rows`.
    """
    paths = sorted(folder.glob("objects-*.zarr"), key=lambda p: (len(p.name), p.name))
    levels = {0, *(level for (level,) in read_rows(folder / "objects.csv", ("level",)))}
    for level in range(max(levels) + 1):
        path = folder / f"objects-{level}.zarr"
        if path not in paths:
            raise NotFoundError(
                f"{path}: this volume is gone, though objects.csv has objects of that level; put it back, or "
                f"{_REMEDY}"
            )
    return paths


def _header(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            header = next(csv.reader(handle), [])
    except FileNotFoundError:
        raise NotFoundError(f"{path}: there is no such table; make it with  densem objects") from None
    except (UnicodeDecodeError, csv.Error):
        raise FormatError(f"{path}: damaged, no table of objects; {_REMEDY}") from None
    if header[:2] != ["id", "class"]:
        raise FormatError(f"{path}: damaged, expected a table with the columns id, class, ...; {_REMEDY}")
    return header


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read() == b"\n"


def _type(name: str) -> type:
    """What the values of a column are."""
    if name in _WHOLE or name.startswith("count_"):
        return int
    return {"class": str, "touches_border": bool}.get(name, float)


def _read(name: str, text: str) -> Any:
    kind = _type(name)
    if kind is bool:
        return {"True": True, "False": False}[text]
    if kind is float and not text:
        return None
    return kind(text)
