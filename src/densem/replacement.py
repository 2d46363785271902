"""Replacement: what was made anew takes the place of what was there, by renaming; never both are gone.

What cannot be made, because its input is refused, leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from densem.errors import FormatError, InputError


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


@contextmanager
def nothing_if_refused(folder: Path, work: str, remove: Callable[[Path], None]) -> Iterator[None]:
    """Leave nothing behind of a run whose input is refused: no further attempt can mend it.

    A file that cannot be read (`FormatError`) may be readable the next time: what was made so far is kept.

    Args:
        folder: what is made goes there; a folder that holds something else as well stays.
        work: name of the folder in it for what is only needed on the way.
        remove: removes from the folder what was made so far.
    """
    try:
        yield
    except FormatError:
        raise
    except InputError:
        remove(folder)
        shutil.rmtree(folder / work, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()
        raise


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")
