"""Table file: tables of objects as CSV, and as Parquet where pyarrow is there; CSV is read back.

Nothing here needs what finds objects: a report can read the tables of a study without it.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from densem.errors import FormatError, NotFoundError

Table = dict[str, list[Any]]
"""Columns of equal length, in order."""
_REMEDY = "find the objects again with  densem objects ... --overwrite"
_WHOLE = ("id", "level", "parent", "voxels", "euler_number")


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
    """A table that `densem objects` wrote: `objects.csv` or `cells.csv`.

    Args:
        path: of the file.
        rows: how many it must have, where that is known.

    Returns:
        Columns in order: whole numbers, truths, words, and lengths in nm; None where there is no value.

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is damaged, with the line.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise NotFoundError(f"{path}: there is no such table; make it with  densem objects") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path}: damaged, no table of objects; {_REMEDY}") from None
    lines = list(csv.reader(text.splitlines()))
    if not lines or lines[0][:2] != ["id", "class"]:
        raise FormatError(f"{path}: damaged, expected a table with the columns id, class, ...; {_REMEDY}")
    header, found = lines[0], lines[1:]
    table: Table = {name: [] for name in header}
    for number, row in enumerate(found, start=2):
        try:
            if number == len(lines) and not text.endswith("\n"):
                raise ValueError("cut off")
            for name, value in zip(header, row, strict=True):
                table[name].append(_read(name, value))
        except (ValueError, KeyError):
            raise FormatError(
                f"{path}, line {number}: damaged or cut off, expected {len(header)} values, "
                f"found {','.join(row)[:60]!r}; {_REMEDY}"
            ) from None
    if rows is not None and len(found) != rows:
        raise FormatError(f"{path}: damaged or cut off, expected {rows} rows, found {len(found)}; {_REMEDY}")
    return table


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
