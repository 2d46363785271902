"""Disk: how fast a folder is written and read, and whether file locks hold there.

What is written for it has no name in the folder, so that nothing stays behind however the process ends.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PIECE = 16_000_000
WRITE_SECONDS, READ_SECONDS = 2.0, 1.0


@dataclass(frozen=True)
class DiskSpeed:
    """Bytes a second, written up to the disk itself and read from it."""

    write: float
    read: float

    @classmethod
    def measure(cls, folder: Path, size: int) -> DiskSpeed:
        """Write a file and read it, in pieces; a slow disk is given up on after some seconds.

        Args:
            folder: where the file lies; it has no name, or loses it at once.
            size: bytes.
        """
        piece = os.urandom(min(size, PIECE))
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            write = _rate(lambda: _write(file, piece), size, WRITE_SECONDS)
            _forget(file)
            file.seek(0)
            read = _rate(lambda: len(file.read(PIECE)), size, READ_SECONDS)
        return cls(write, read)


def _rate(step: Callable[[], int], size: int, seconds: float) -> float:
    """Bytes a second of steps that say how many bytes they moved, until all is moved or time is up."""
    start, moved = time.perf_counter(), 0
    while moved < size and time.perf_counter() - start < seconds:
        count = step()
        if not count:
            break
        moved += count
    return moved / max(time.perf_counter() - start, 1e-9)


def _write(file: IO[bytes], piece: bytes) -> int:
    count = file.write(piece)
    os.fsync(file.fileno())
    return count


def _forget(file: IO[bytes]) -> None:
    """Ask the system to drop its copy in memory; some file systems keep it all the same."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def locks_hold(folder: Path) -> bool | None:
    """Whether a file locked once cannot be locked a second time there; None on systems without such locks.

    Raises:
        OSError: if nothing can be written or locked there.
    """
    try:
        import fcntl
    except ImportError:
        return None
    first, name = tempfile.mkstemp(prefix=".densem-", dir=folder)
    try:
        second = os.open(name, os.O_RDWR)
    finally:
        os.unlink(name)
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(first)
        os.close(second)
    return False
