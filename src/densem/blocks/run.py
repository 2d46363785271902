"""Running a task over the blocks of a grid: resumable, with retries, quarantine and a completion audit.

1. Blocks that the journal knows are left out.
2. Workers take blocks from one queue; each notes what it finished in a journal file of its own.
3. A block that fails goes to the end of the queue; after the last attempt it is quarantined and the
   rest goes on. A full disk stops the run at once.
4. At the end planned and finished blocks are compared; any that is missing is an error.

Workers are threads: tasks here spend their time in code that releases the interpreter lock.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from densem.blocks.box import Box
from densem.blocks.grid import Grid
from densem.blocks.journal import Journal, Pen
from densem.errors import DensemError, IncompleteError, ResourceError

Task = Callable[[int, Box], dict[str, Any]]
"""Does one block, given its number and box; returns what the journal is to note of it."""

Progress = Callable[[int, int], None]
"""Told how many voxels of how many are done."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger(__name__)


class Stopped(DensemError):  # noqa: N818 - a request, not a mistake
    """Raised inside a task that noticed that the run is being stopped."""


@dataclass(frozen=True)
class RunOptions:
    """How a task is run over a grid.

    Attributes:
        workers: blocks in work at the same time.
        retries: further attempts on a block that failed.
        order: numbers of the blocks to run, in this order (one job's share); all by default.
        name: first part of the journal files' names; unique among jobs that share a journal.
        stop: set by `run` when it is stopped; long tasks may look at it.
    """

    workers: int = 1
    retries: int = 2
    order: Sequence[int] | None = None
    name: str = "worker"
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Report:
    """What a run did: blocks planned, blocks done before and by it."""

    planned: int
    resumed: int
    done: int


@dataclass
class _Work:
    """Shared by the workers of one run; every change happens under the lock."""

    queue: deque[tuple[int, int]]
    total: int
    finished: int
    quarantined: dict[int, str] = field(default_factory=dict)
    fatal: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def run(
    task: Task,
    grid: Grid,
    journal: Journal,
    options: RunOptions | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Do every block that the journal does not know, in any order.

    Args:
        task: called as task(number, box); must be safe to call again after a failure.
        grid: the blocks; their numbers stand in the journal.
        journal: begun with its plan.
        options: workers, retries, share of blocks.
        on_progress: called after every block with voxels done and voxels in all.

    Raises:
        IncompleteError: if blocks are missing at the end; names them and the first failure.
        ResourceError: if the disk is full. Finished blocks are kept in both cases, and on Ctrl-C.
    """
    options = options or RunOptions()
    planned = list(range(len(grid)) if options.order is None else options.order)
    known = journal.done() & set(planned)
    sizes = {i: grid.box(i).size for i in planned}
    missing = [i for i in planned if i not in known]
    work = _Work(deque((i, 0) for i in missing), sum(sizes.values()), sum(sizes[i] for i in known))
    _notify(on_progress, work)
    workers = max(1, min(options.workers, len(missing)))
    loops = [_Worker(task, grid, work, options, on_progress, f"{options.name}-{n}") for n in range(workers)]
    _drive(loops, journal, options.stop)
    if work.fatal is not None:
        raise work.fatal
    _audit(grid, planned, journal.done(), work.quarantined, options.retries + 1)
    return Report(len(planned), len(known), len(missing))


@dataclass
class _Worker:
    """One worker's loop over the common queue."""

    task: Task
    grid: Grid
    work: _Work
    options: RunOptions
    on_progress: Progress | None
    name: str

    def loop(self, journal: Journal) -> None:
        """Take blocks until there are none or the run is stopped."""
        with journal.worker(self.name) as pen:
            while not self.options.stop.is_set():
                with self.work.lock:
                    if not self.work.queue:
                        return
                    index, attempt = self.work.queue.popleft()
                self._attempt(index, attempt, pen)

    def _attempt(self, index: int, attempt: int, pen: Pen) -> None:
        box = self.grid.box(index)
        try:
            record = self.task(index, box)
        except Stopped:
            return
        except Exception as error:
            self._failed(index, attempt, error)
            return
        pen.append(index, record)
        with self.work.lock:
            self.work.finished += box.size
            _notify(self.on_progress, self.work)

    def _failed(self, index: int, attempt: int, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.errno in _FULL:
            self.work.fatal = ResourceError(
                f"the disk is full (block {index}: {error}); free some space and run again: "
                "finished blocks are kept"
            )
            self.options.stop.set()
        elif attempt < self.options.retries:
            _log.warning("block %d failed (%s), attempt %d; trying again later", index, text, attempt + 1)
            with self.work.lock:
                self.work.queue.append((index, attempt + 1))
        else:
            _log.error("block %d failed (%s) and is put aside", index, text)
            with self.work.lock:
                self.work.quarantined[index] = text


def _drive(loops: list[_Worker], journal: Journal, stop: threading.Event) -> None:
    """Run the loops: a single one here, several in threads; Ctrl-C stops all and is passed on."""
    if len(loops) == 1:
        loops[0].loop(journal)
        return
    threads = [threading.Thread(target=_guarded, args=(w, journal, stop), name=w.name) for w in loops]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    except BaseException:
        stop.set()
        for thread in threads:
            with suppress(KeyboardInterrupt):
                thread.join()
        raise


def _guarded(worker: _Worker, journal: Journal, stop: threading.Event) -> None:
    """A worker's loop whose own failure (its journal, the progress callback) ends the run."""
    try:
        worker.loop(journal)
    except BaseException as error:
        worker.work.fatal = error
        stop.set()


def _audit(
    grid: Grid, planned: list[int], done: set[int], quarantined: dict[int, str], attempts: int
) -> None:
    missing = [i for i in planned if i not in done]
    if not missing:
        return
    places = "; ".join(f"{i} ({grid.box(i)})" for i in missing[:8])
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    first = next(iter(quarantined.values()), "they were not run")
    raise IncompleteError(
        f"{len(missing)} of {len(planned)} blocks are missing after {attempts} attempts each: "
        f"block {places}{more}. First failure: {first}. Finished blocks are kept: "
        "repair the cause and run the same again"
    )


def _notify(on_progress: Progress | None, work: _Work) -> None:
    if on_progress is not None:
        on_progress(work.finished, work.total)
