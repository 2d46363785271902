"""Engines: where the blocks of a run are done. This one: threads of this process.

An engine takes blocks and gives futures; what a finished block leaves behind is its journal record, so a
future carries nothing. Which block is next, what is tried again and when it is over is not its business.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from densem.blocks.box import Box
from densem.blocks.journal import Journal
from densem.blocks.worker import Task, Worker


class EngineLostError(Exception):
    """Set on a future whose engine is gone: no further block can be done there."""


class Engine(Protocol):
    """Where blocks are done."""

    @property
    def slots(self) -> int:
        """How many blocks to keep handed out; may change during a run."""

    def submit(self, index: int, box: Box) -> Future[None]:
        """Hand out a block. The future is done when its record is on disk, or has its error."""

    def describe(self) -> dict[str, Any]:
        """What `densem status` shows: `engine`, and where there are any, `dashboard`, `workers`."""

    def close(self, hurry: bool = False) -> None:
        """End it; in a hurry, without the blocks that are handed out but not begun."""


class Threads:
    """Blocks in threads of this process: tasks spend their time in code that releases the interpreter lock.

    A single one works in the calling thread (where the C library gives large memory back and takes it again
    fastest), so `submit` returns when the block is done but for its rest: a second thread writes one block
    while the next is computed.

    Args:
        task: does one block; looks at a stop flag itself where blocks take long.
        journal: begun.
        workers: blocks in work at the same time.
        name: first part of the workers' names; unique among processes that share a journal.
    """

    def __init__(self, task: Task, journal: Journal, workers: int = 1, name: str = "worker") -> None:
        self._task, self._journal, self._name = task, journal, name
        self._single = workers <= 1
        self.slots = 2 if self._single else workers
        self._pool = ThreadPoolExecutor(1 if self._single else workers)
        self._own = threading.local()
        self._workers: list[Worker] = []
        self._numbers = itertools.count()

    def submit(self, index: int, box: Box) -> Future[None]:
        """Do the block in a thread, or here and now and its rest in a thread."""
        if not self._single:
            return self._pool.submit(self._do, index, box)
        future: Future[None] = Future()
        try:
            finish = self._worker().begin(index, box)
        except Exception as error:
            future.set_exception(error)
            return future
        if finish is not None:
            return self._pool.submit(finish)
        future.set_result(None)
        return future

    def describe(self) -> dict[str, Any]:
        """Its name and its number of threads."""
        return {"engine": "local", "workers": 1 if self._single else self.slots}

    def close(self, hurry: bool = False) -> None:
        """Wait for the blocks in work."""
        self._pool.shutdown(wait=True, cancel_futures=hurry and not self._single)
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def _do(self, index: int, box: Box) -> None:
        self._worker().do(index, box)

    def _worker(self) -> Worker:
        """The worker of this thread."""
        if not hasattr(self._own, "worker"):
            self._own.worker = Worker(self._task, self._journal, f"{self._name}-{next(self._numbers)}")
            self._workers.append(self._own.worker)
        worker: Worker = self._own.worker
        return worker
