"""Status: how a run is getting on, from its journal folder alone."""

from __future__ import annotations

import json
import math
import time
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from densem.blocks import bulletin
from densem.blocks.box import triple
from densem.blocks.grid import Grid
from densem.blocks.journal import Journal, Record
from densem.errors import NotFoundError

SILENT_SECONDS = 6 * bulletin.HEARTBEAT_SECONDS
SHOWN_FAILURES = 1000
_ALIVE = ("running", "waiting for a worker", "adding pyramids")


@dataclass(frozen=True)
class WorkerStatus:
    """One worker: blocks it finished, and s since 1970 at which it finished the last (or began the first)."""

    name: str
    blocks: int
    last: float | None


@dataclass(frozen=True)
class Failure:
    """A block that failed and is not done: attempts so far, the last message, whether it is put aside."""

    block: int
    box: str
    attempts: int
    message: str
    quarantined: bool


@dataclass(frozen=True)
class Status:
    """How a run is getting on.

    Attributes:
        folder: what is being made.
        state: waiting for a worker, running, silent (nothing heard of it for a minute), stopped, incomplete,
            blocks done, adding pyramids, finished, or unknown.
        planned: blocks in all.
        done: blocks finished.
        voxels_per_second: of this run, over its last finished blocks; None where it is not running.
        seconds_left: at that rate.
        seconds_quiet: since the last finished block of a run that is running.
        engine: local, slurm or dask.
        dashboard: address of Dask's pages.
        workers: those that have finished blocks, the most recent first.
        failures: blocks that failed and are not done.
    """

    folder: str
    state: str
    planned: int
    done: int
    voxels_per_second: float | None = None
    seconds_left: float | None = None
    seconds_quiet: float | None = None
    engine: str | None = None
    dashboard: str | None = None
    scheduler: str | None = None
    workers: list[WorkerStatus] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Blocks not finished."""
        return self.planned - self.done

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "left": self.left}

    @classmethod
    def of(cls, journal: Journal) -> Status:
        """Read it.

        Raises:
            NotFoundError: if no run was ever begun there.
        """
        said = bulletin.read(journal.folder)
        place = {**(journal.plan() or {}), **said}
        if not {"shape", "block"} <= set(place):
            raise NotFoundError(
                f"{journal.folder.parent}: no run was begun there; there is no {bulletin.RUN}"
            )
        grid = Grid(triple(place["shape"]), triple(place["block"]))
        state, found = _state(said), _Found.read(journal, float(said.get("began", 0)))
        rate, quiet = found.pace(grid) if state == "running" else (None, None)
        left = grid.voxels(i for i in range(len(grid)) if i not in found.blocks) if rate else 0
        return cls(
            folder=str(journal.folder.parent),
            state=state,
            planned=len(grid),
            done=sum(i < len(grid) for i in found.blocks),
            voxels_per_second=rate,
            seconds_left=left / rate if rate else None,
            seconds_quiet=quiet,
            engine=said.get("engine"),
            dashboard=said.get("dashboard"),
            scheduler=said.get("scheduler"),
            workers=_workers(journal.folder, found),
            failures=_failures(journal.folder, found.blocks, grid),
        )


@dataclass
class _Found:
    """What the records say together; of a single one only what is needed later.

    Attributes:
        began: of this run, in s since 1970.
        blocks: that are finished.
        recent: number of those that this run finished.
        times: when, in s since 1970, in the same order.
        workers: by name: blocks finished, and when the last of them was.
    """

    began: float
    blocks: set[int] = field(default_factory=set)
    recent: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))
    workers: dict[str, tuple[int, float | None]] = field(default_factory=dict)

    @classmethod
    def read(cls, journal: Journal, began: float) -> _Found:
        """Read a journal, line by line."""
        found = cls(began)
        for record in journal.scan():
            found.add(record)
        return found

    def add(self, record: Record) -> None:
        """Take in one record."""
        block, last, name = record["block"], record.get("time"), str(record.get("worker", "unknown"))
        self.blocks.add(block)
        if last is not None and last > self.began:
            self.recent.append(block)
            self.times.append(last)
        count, latest = self.workers.get(name, (0, None))
        self.workers[name] = count + 1, max((t for t in (last, latest) if t is not None), default=None)

    def pace(self, grid: Grid) -> tuple[float | None, float]:
        """Voxels a second over the last finished blocks of this run, and seconds since the last of them."""
        now = time.time()
        if not self.times:
            return None, now - self.began
        recent = sorted(range(len(self.times)), key=self.times.__getitem__)
        last = recent[-max(20, len(recent) // 5) :]
        before = len(recent) - len(last)
        since = self.times[recent[before - 1]] if before else self.began
        voxels = grid.voxels(self.recent[i] for i in last)
        return voxels / max(1e-3, now - since), now - self.times[recent[-1]]


def _state(said: Record) -> str:
    state = str(said.get("state", "unknown"))
    alive = time.time() - float(said.get("alive", 0)) < SILENT_SECONDS
    return "silent" if state in _ALIVE and not alive else state


def _workers(folder: Path, found: _Found) -> list[WorkerStatus]:
    """Those that finished blocks, and those of this run that only began one."""
    files = {p.stem: p.stat().st_mtime for p in folder.glob("*.jsonl") if p.stem != "kept"}
    known = {n: WorkerStatus(n, 0, t) for n, t in files.items() if t >= found.began}
    for name, (blocks, last) in found.workers.items():
        touched = known[name].last if name in known else None
        latest = max((t for t in (last, touched) if t is not None), default=None)
        known[name] = WorkerStatus(name, blocks, latest)
    return sorted(known.values(), key=lambda w: -(w.last or -math.inf))


def _failures(folder: Path, done: set[int], grid: Grid) -> list[Failure]:
    try:
        lines = (folder / bulletin.FAILURES).read_text().splitlines()
    except OSError:
        return []
    found: dict[int, Failure] = {}
    for line in lines:
        try:
            row = json.loads(line)
            block = int(row["block"])
        except (ValueError, KeyError, TypeError):
            continue  # a torn line
        if block not in done and block < len(grid):
            found[block] = Failure(
                block, str(grid.box(block)), row["attempt"], row["message"], row["quarantined"]
            )
    return sorted(found.values(), key=lambda f: (not f.quarantined, f.block))[:SHOWN_FAILURES]
