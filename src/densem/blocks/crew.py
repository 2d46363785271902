"""Crews: who does the blocks of a task: threads of this process, or the workers of a cluster.

A stage that has blocks to do is handed a crew and need not know where it works.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from densem.blocks.cluster import Cluster
from densem.blocks.grid import Grid
from densem.blocks.journal import Journal, Record
from densem.blocks.run import Progress, Report, RunOptions, coordinate, run
from densem.blocks.worker import Task

if TYPE_CHECKING:
    from distributed import Client

Holds = Callable[[Record], bool]
"""Whether a block on disk is what its record says."""


class Crew(Protocol):
    """Does the blocks of a task."""

    def do(self, task: Task, grid: Grid, journal: Journal, on_progress: Progress | None = None) -> Report:
        """Do every block that the journal does not know; raises what `coordinate` does."""


@dataclass(frozen=True)
class LocalCrew:
    """Threads of this process, as many as the options say."""

    options: RunOptions = field(default_factory=RunOptions)

    def do(self, task: Task, grid: Grid, journal: Journal, on_progress: Progress | None = None) -> Report:
        """Do them here."""
        return run(task, grid, journal, self.options, on_progress)


@dataclass(frozen=True)
class ClusterCrew:
    """The workers of a Dask scheduler; tasks are pickled.

    Attributes:
        client: connected.
        name: `dask` or `slurm`, for people.
        options: retries, stop flag and stall.
    """

    client: Client
    name: str
    options: RunOptions = field(default_factory=RunOptions)

    def do(self, task: Task, grid: Grid, journal: Journal, on_progress: Progress | None = None) -> Report:
        """Do them there."""
        engine = Cluster(self.client, task, journal, self.name)
        return coordinate(engine, grid, journal, self.options, on_progress)


def verify(journal: Journal, holds: Holds, workers: int = 1) -> int:
    """Forget the blocks that the journal knows and the disk does not hold.

    Args:
        journal: begun.
        holds: safe to be called from several threads.
        workers: blocks looked at at the same time; records of no more than twice as many are in memory.

    Returns:
        How many blocks were forgotten.
    """
    records, kept, seen = journal.scan(), set[int](), 0
    with ThreadPoolExecutor(max(1, workers)) as pool:
        looking: dict[int, Future[bool]] = {}
        while True:
            for record in islice(records, 2 * max(1, workers) - len(looking)):
                looking[record["block"]] = pool.submit(holds, record)
            if not looking:
                break
            block = next(iter(looking))
            seen += 1
            if looking.pop(block).result():
                kept.add(block)
    journal.keep(kept)
    return seen - len(kept)
