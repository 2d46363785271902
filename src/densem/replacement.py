"""Replacement: what was made anew takes the place of what was there, by renaming; never both are gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def take_place(made: Path, place: Path) -> None:
    """Rename a finished file or folder to where it belongs; one that is there goes.

    A file is replaced in one step. A folder takes two: killed between them, the old one lies beside its
    place, where `put_back` finds it.
    """
    old = _aside(place)
    shutil.rmtree(old, ignore_errors=True)
    if place.is_dir():
        place.rename(old)
    os.replace(made, place)
    shutil.rmtree(old, ignore_errors=True)


def put_back(place: Path) -> None:
    """Undo what a kill in the middle of `take_place` has left."""
    old = _aside(place)
    if old.exists() and not place.exists():
        old.rename(place)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")
