"""Running a task over the blocks of a grid: resumable, with retries, quarantine and a completion audit.

1. Blocks that the journal knows are left out.
2. An engine is kept busy: never more blocks are handed out than it has slots for, so a scheduler never
   sees the whole grid. Workers note what they finished in journal files of their own.
3. A block that fails goes to the end of the queue; after the last attempt it is quarantined and the
   rest goes on. A full disk, or a worker that would give other bytes, stops the run at once.
4. At the end planned and finished blocks are compared; any that is missing is an error.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field

from densem.blocks.bulletin import Bulletin, Watch
from densem.blocks.engine import Engine, EngineLostError, Threads
from densem.blocks.grid import Grid
from densem.blocks.journal import Journal
from densem.blocks.worker import Stopped, Task, UnfitWorkerError
from densem.errors import IncompleteError, ResourceError

Progress = Callable[[int, int], None]
"""Told how many voxels of how many are done."""

TICK_SECONDS = 0.5
SETTLE_SECONDS = 90.0
"""How long a network disk may take to show here what a worker has written there."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOTHING_KEPT = "nothing was kept: run the same again"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """How a task is run over a grid.

    Attributes:
        workers: blocks in work at the same time, in threads of this process.
        retries: further attempts on a block that failed.
        order: numbers of the blocks to run, in this order (one job's share); all by default.
        name: first part of the journal files' names; unique among jobs that share a journal.
        stop: set when the run is stopped; long tasks may look at it.
        stall_minutes: without a finished block in so many minutes, a warning; 0 never.
        fatal: errors of a block that no further attempt can mend; they end the run as they are.
        kept: whether finished blocks are kept when a run ends early, as messages then say.
    """

    workers: int = 1
    retries: int = 2
    order: Sequence[int] | None = None
    name: str = "worker"
    stop: threading.Event = field(default_factory=threading.Event)
    stall_minutes: float = 30.0
    fatal: tuple[type[Exception], ...] = ()
    kept: bool = True


@dataclass(frozen=True)
class Report:
    """What a run did: blocks planned, blocks done before and by it."""

    planned: int
    resumed: int
    done: int


def run(
    task: Task,
    grid: Grid,
    journal: Journal,
    options: RunOptions | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Do every block that the journal does not know, in threads of this process.

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
    planned = range(len(grid)) if options.order is None else options.order
    done = journal.done()
    missing = sum(i not in done for i in planned)
    engine = Threads(task, journal, min(options.workers, missing), options.name)
    return coordinate(engine, grid, journal, options, on_progress)


def coordinate(
    engine: Engine,
    grid: Grid,
    journal: Journal,
    options: RunOptions | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """The same over any engine, which is closed at the end; `options.workers` and `name` are the engine's.

    Raises:
        IncompleteError: if blocks are missing at the end, or the engine is gone.
        ResourceError: if the disk is full.
        UnfitWorkerError: if a worker would give other bytes.
        Exception: what `options.fatal` names.
    """
    options = options or RunOptions()
    planned = range(len(grid)) if options.order is None else options.order
    done = journal.done()
    work = _Work(engine, grid, journal, options, on_progress)
    work.total, work.finished = grid.voxels(planned), grid.voxels(i for i in planned if i in done)
    work.fresh = (i for i in planned if i not in done)
    known = sum(i in done for i in planned)
    missing = len(planned) - known
    state = "stopped"
    work.bulletin.begin(grid, {**engine.describe(), "planned": len(planned), "resumed": known})
    try:
        work.run()
        _audit(grid, planned, work)
        state = "blocks done"
    except IncompleteError:
        state = "incomplete"
        raise
    finally:
        work.bulletin.say(state=state)
    return Report(len(planned), known, missing)


@dataclass
class _Work:
    """What is left, what is handed out, and what came of it.

    Attributes:
        fresh: blocks that were not handed out yet; a million are never listed.
        queue: blocks to be tried again, with the attempts so far.
        flying: what is handed out.
    """

    engine: Engine
    grid: Grid
    journal: Journal
    options: RunOptions
    on_progress: Progress | None
    fresh: Iterator[int] = field(default_factory=lambda: iter(()))
    queue: deque[tuple[int, int]] = field(default_factory=deque)
    flying: dict[Future[None], tuple[int, int]] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)
    quarantined: dict[int, str] = field(default_factory=dict)
    total: int = 0
    finished: int = 0

    def __post_init__(self) -> None:
        self.bulletin = Bulletin(self.journal)

    def run(self) -> None:
        """Hand out and take back until nothing is left; whatever ends it early stops the engine."""
        self._notify()
        try:
            with Watch(self.bulletin, self.options.stall_minutes) as watch:
                while self._hand_out(watch) and not self.options.stop.is_set():
                    self._take_back(watch)
        except BaseException:
            self.options.stop.set()
            self.engine.close(hurry=True)
            raise
        self.engine.close(hurry=self.options.stop.is_set())

    def _hand_out(self, watch: Watch) -> bool:
        """Keep the engine busy; whether anything is handed out."""
        slots = max(1, self.engine.slots)
        while len(self.flying) < slots and not self.options.stop.is_set():
            index, attempt = self._next()
            if index < 0:
                break
            watch.handed_out(len(self.flying) + 1)
            future = self.engine.submit(index, self.grid.box(index))  # one thread does the block here and now
            future.add_done_callback(lambda ended: _tell(watch, ended))
            self.flying[future] = index, attempt
        watch.handed_out(len(self.flying))
        return bool(self.flying)

    def _next(self) -> tuple[int, int]:
        """The next block and its attempts so far; fresh ones first; -1 where none is left."""
        index = next(self.fresh, -1)
        return (index, 0) if index >= 0 or not self.queue else self.queue.popleft()

    def _take_back(self, watch: Watch) -> None:
        for future in wait(self.flying, TICK_SECONDS, FIRST_COMPLETED).done:
            index, attempt = self.flying.pop(future)
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                self._done(index)
            else:
                self._failed(index, attempt, error)

    def _done(self, index: int) -> None:
        if index in self.returned:
            return
        self.returned.add(index)
        self.finished += self.grid.box(index).size
        self._notify()

    def _failed(self, index: int, attempt: int, error: BaseException) -> None:
        if isinstance(error, Stopped | CancelledError):
            return
        if isinstance(error, EngineLostError):
            kept = "finished blocks are kept: run the same again to go on"
            raise IncompleteError(f"{error}; {kept if self.options.kept else _NOTHING_KEPT}") from error
        if isinstance(error, (UnfitWorkerError, *self.options.fatal)) or not isinstance(error, Exception):
            raise error
        text = f"{type(error).__name__}: {error}"
        last = attempt >= self.options.retries
        self.bulletin.failed(index, attempt + 1, text, last)
        if isinstance(error, OSError) and error.errno in _FULL:
            kept = "finished blocks are kept" if self.options.kept else "nothing was kept"
            raise ResourceError(
                f"the disk is full (block {index}: {error}); free some space and run again: {kept}"
            )
        if last:
            _log.error("block %d failed (%s) and is put aside", index, text)
            self.quarantined[index] = text
        else:
            _log.warning("block %d failed (%s), attempt %d; trying again later", index, text, attempt + 1)
            self.queue.append((index, attempt + 1))

    def _notify(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.finished, self.total)


def _tell(watch: Watch, ended: Future[None]) -> None:
    """A block has ended: tell so at once if it was finished."""
    if not ended.cancelled() and ended.exception() is None:
        watch.block_done()


def _audit(grid: Grid, planned: Sequence[int], work: _Work) -> None:
    missing = _missing(planned, work)
    if not missing:
        return
    places = "; ".join(f"{i} ({grid.box(i)})" for i in missing[:8])
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    first = next(iter(work.quarantined.values()), "they were not run")
    attempts = work.options.retries + 1
    kept = "Finished blocks are kept" if work.options.kept else "Nothing was kept"
    raise IncompleteError(
        f"{len(missing)} of {len(planned)} blocks are missing after {attempts} attempts each: "
        f"block {places}{more}. First failure: {first}. {kept}: repair the cause and run the same again"
    )


def _missing(planned: Sequence[int], work: _Work) -> list[int]:
    """Planned blocks without a record; one that was reported done is waited for."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        done = work.journal.done()
        missing = [i for i in planned if i not in done]
        if not work.returned.intersection(missing) or time.monotonic() > deadline:
            return missing
        time.sleep(TICK_SECONDS)
