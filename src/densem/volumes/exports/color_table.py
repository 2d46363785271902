"""Colour tables of 3D Slicer (.ctbl): a line for each id with name and colour, background transparent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densem.volumes.exports.source import Entry


def write_color_table(entries: Sequence[Entry], path: Path, name: str) -> None:
    """Write a colour table.

    Args:
        entries: ids with names and colours.
        path: the file to make.
        name: of the file once it is in place.
    """
    rows = [f"# Color table file {name}", f"# {len(entries)} values"]
    for entry in entries:
        red, green, blue = entry.rgb
        rows.append(
            f"{entry.id} {entry.name.replace(' ', '_')} {red} {green} {blue} {0 if entry.id == 0 else 255}"
        )
    path.write_text("\n".join(rows) + "\n")
