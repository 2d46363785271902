"""File names of pictures and pages, which say what of a study they show."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 4
"""Ids that stand in a name; that there are more is said."""


def with_ids(name: str, word: str, ids: Sequence[int]) -> str:
    """`first-cell-3-7` of objects `first`, or their name alone without ids."""
    if not ids:
        return name
    return "-".join([name, word, *map(str, ids[:NAMED]), *(["etc"] if ids[NAMED:] else [])])
