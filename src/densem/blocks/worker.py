"""Worker: does blocks one at a time and notes each in a journal file and a log of its own.

The worker itself writes the record, after the block was verified: whoever handed the block out may be
gone by then, and nothing is lost.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from densem.blocks.box import Box
from densem.blocks.journal import Journal
from densem.errors import DensemError, IntegrityError

Rest = Callable[[], dict[str, Any]]
"""What is left to do of a block beside the next one, such as writing; returns what the journal is to note."""

Task = Callable[[int, Box], dict[str, Any] | Rest]
"""Does one block, given its number and box; returns what the journal is to note of it, or the rest of it."""


class Stopped(DensemError):  # noqa: N818 - a request, not a mistake
    """Raised inside a task that noticed that the run is being stopped."""


class UnfitWorkerError(IntegrityError):
    """A worker that cannot give the bytes that the run was begun with; ends the run."""


class Worker:
    """One worker of a run.

    Args:
        task: does one block.
        journal: begun; the worker's records and log go there.
        name: no two workers may share it at the same time.
    """

    def __init__(self, task: Task, journal: Journal, name: str) -> None:
        self.task = task
        self.name = name
        self._pen = journal.worker(name)
        self._lock = threading.Lock()
        self._log = _open_log(journal, name)
        self._log.info("worker %s begins on %s, process %d", name, socket.gethostname(), os.getpid())

    def do(self, index: int, box: Box) -> None:
        """Do a block and note it, with the seconds it took and the time (s since 1970) it was done."""
        finish = self.begin(index, box)
        if finish is not None:
            finish()

    def begin(self, index: int, box: Box) -> Callable[[], None] | None:
        """Do a block but for what can be done beside the next one; gives that, if anything is left."""
        start = time.monotonic()
        with self._logged(index, box):
            left = self.task(index, box)

        if not callable(left):
            self._note(index, left, start)
            return None

        def finish() -> None:
            with self._logged(index, box):
                self._note(index, left(), start)

        return finish

    def _note(self, index: int, record: dict[str, Any], start: float) -> None:
        facts = {"seconds": round(time.monotonic() - start, 3), "time": round(time.time(), 3)}
        with self._lock:
            self._pen.append(index, {**record, **facts, "worker": self.name})

    @contextmanager
    def _logged(self, index: int, box: Box) -> Iterator[None]:
        try:
            yield
        except Stopped:
            self._log.info("block %d (%s) dropped: the run is being stopped", index, box)
            raise
        except Exception:
            self._log.exception("block %d (%s) failed", index, box)
            raise

    def close(self) -> None:
        """Close the journal file and the log."""
        self._pen.close()
        for handler in list(self._log.handlers):
            self._log.removeHandler(handler)
            handler.close()


def unique_name() -> str:
    """Host, process and a few random digits: no two processes share it, on no machine."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class _LogFile(logging.FileHandler):
    """A log file that is silent about itself: a full disk is told of by the block that found it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging calls it so
        """Say nothing."""

    def close(self) -> None:
        """Leave away what could not be written."""
        with suppress(OSError):
            super().close()


def _open_log(journal: Journal, name: str) -> logging.Logger:
    journal.logs.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger(f"densem.worker.{journal.folder}.{name}".replace("/", "_"))
    handler = _LogFile(journal.logs / f"{name}.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    return log
