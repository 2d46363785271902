"""Passes: one look at every block of a volume, by threads of this process or by any crew.

1. a task looks at a box; whatever is added up or gathered of its results does not depend on their order
2. threads hand the results over as they are, a few at a time
3. a crew keeps them in a journal as plain values: a pass that was stopped goes on, with whatever crew
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from densem import __version__
from densem.blocks import Box, Crew, Grid, Journal, Triple
from densem.errors import IntegrityError

BLOCK: Triple = (32, 512, 512)
"""Voxels read at once, (z, y, x): one shard as densem writes them."""

MOST_BLOCKS = 40_000
"""More of them would keep a scheduler busier than the workers."""

Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""


class Task(Protocol[Result]):
    """What is done with each block; can be sent to other machines if its volumes can be opened there."""

    @property
    def name(self) -> str:
        """A word, another one for each kind of pass."""

    def __call__(self, box: Box) -> Result:
        """Look at a box."""

    def plan(self) -> dict[str, Any]:
        """Plain values: whatever decides the results, beside the grid."""

    def encode(self, result: Result) -> dict[str, Any]:
        """A result as plain values for JSON."""

    def decode(self, record: dict[str, Any]) -> Result:
        """From what `encode` gave."""


class Passes(Protocol):
    """Who looks at the blocks."""

    def over(self, task: Task[Result], grid: Grid, progress: Progress | None = None) -> Iterator[Result]:
        """The result of every block once, in any order."""


def over_blocks(function: Callable[[Box], Result], grid: Grid, workers: int = 1) -> Iterator[Result]:
    """The results of a function for every box of a grid, in order; `workers` threads, few results waiting."""
    if workers <= 1:
        yield from map(function, grid)
        return
    boxes = iter(grid)
    with ThreadPoolExecutor(workers) as pool:  # a window: counts of a block are half a megabyte
        waiting = deque(pool.submit(function, box) for box in islice(boxes, 2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, box) for box in islice(boxes, 1))


@dataclass(frozen=True)
class ThreadPasses:
    """Threads of this process.

    Attributes:
        workers: how many.
    """

    workers: int = 1

    def over(self, task: Task[Result], grid: Grid, progress: Progress | None = None) -> Iterator[Result]:
        """The results in order, few of them waiting; progress is told blocks."""
        for done, result in enumerate(over_blocks(task, grid, self.workers), start=1):
            yield result
            if progress is not None:
                progress(done, len(grid))


@dataclass
class CrewPasses:
    """Any crew; what was found in a block is kept until somebody removes the folder.

    Attributes:
        crew: who looks.
        folder: gets a journal for each pass, named as its task; other processes see it under the same path.
    """

    crew: Crew
    folder: Path
    _open: bool = field(default=False, init=False)

    def over(self, task: Task[Result], grid: Grid, progress: Progress | None = None) -> Iterator[Result]:
        """The results, once all are there; goes on with what is known. Progress is told voxels.

        Raises:
            IncompleteError, ResourceError, UnfitWorkerError: as `coordinate`.
        """
        journal = Journal(self.folder / task.name)
        self._open = True
        _begin(journal, grid, task.plan())
        self.crew.do(_BlockTask(task), grid, journal, progress)
        self._open = False
        return (task.decode(record["found"]) for record in journal.scan())

    @property
    def resumable(self) -> bool:
        """Whether a pass was begun that is not through, and blocks are done already."""
        return self._open and any(self.folder.glob("*/*.jsonl"))


@dataclass(frozen=True)
class _BlockTask(Generic[Result]):
    """A task as crews want it."""

    task: Task[Result]

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        return {"found": self.task.encode(self.task(box))}


def block_for(shape: Triple) -> Triple:
    """Voxels for a crew to read at once: one shard, or four or sixteen where there are too many shards."""
    z, y, x = BLOCK
    while len(Grid(shape, (z, y, x))) > MOST_BLOCKS and y < 4 * BLOCK[1]:
        y, x = 2 * y, 2 * x
    return z, y, x


def _begin(journal: Journal, grid: Grid, facts: dict[str, Any]) -> None:
    """Go on with a journal of the same plan; one of another holds nothing that is still wanted."""
    plan = {"shape": list(grid.shape), "block": list(grid.cell), "densem": __version__, **facts}
    try:
        known = journal.plan()
    except IntegrityError:
        known = None
    if known != plan:
        journal.forget()
    journal.begin(plan)
