"""Colour tables of 3D Slicer (.ctbl): a line for each id with name and colour, background transparent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densem.volumes.exports.source import Entry
from densem.volumes.exports.staging import Staging


def write_color_table(entries: Sequence[Entry], table: Path, area: Staging) -> None:
    """Write a colour table; one that is there and says the same, of an earlier export, stays.

    Args:
        entries: ids with names and colours.
        table: where it belongs.
        area: where it waits until all is whole.

    Raises:
        ExistsError: another one is there and is not to be replaced.
    """
    rows = [f"# Color table file {table.name}", f"# {len(entries)} values"]
    for entry in entries:
        red, green, blue = entry.rgb
        rows.append(
            f"{entry.id} {entry.name.replace(' ', '_')} {red} {green} {blue} {0 if entry.id == 0 else 255}"
        )
    text = "\n".join(rows) + "\n"
    if not (table.is_file() and table.read_bytes() == text.encode()):
        area.beside(table).write_bytes(text.encode())
