"""A million blocks: what journal, coordinator, status and Dask's scheduler cost in time and memory.

    python benchmarks/million_blocks.py SCRATCH [--blocks 1000000] [--tasks 100000] [--out results.json]

Each step runs in a process of its own; memory is what its resident set grew by at its peak.

CPU seconds are this process's; "seconds" are by the clock, on a machine that others may use too.

1. `append`: records as a prediction writes them; with the sync of every line for the first few thousand, without
   for the rest (a real run syncs one line for each block, seconds apart).
2. `done`, `records`, `scan`, `status`: reading them back.
3. `coordinate`: all blocks through an engine that is done at once (it writes the records, unsynced).
4. `resume`: the same when all blocks are there.
5. `dask at once`: a graph of no-op tasks handed to a scheduler as a whole; `dask windowed`: blocks handed out as
   slots come free, each noted in the journal and synced. A million is arithmetic: so many times the cost of one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from densem import __version__
from densem.blocks import Box, Grid, Journal, coordinate
from densem.blocks.bulletin import Bulletin
from densem.blocks.status import Status

SYNCED = 3000
CELL = (64, 256, 256)


def record(index: int) -> dict[str, Any]:
    """As a prediction notes a block: digests of two outputs, counts of seven classes, time and worker."""
    digest = f"{index * 0x9E3779B97F4A7C15 % 2**64:016x}"
    return {
        "digests": {"classes": [digest], "confidence": [digest[::-1]]},
        "counts": {str(k): 600_000 + index * k % 1000 for k in range(7)},
        "seconds": 12.345,
        "time": round(1_800_000_000 + index / 50, 3),
        "worker": f"node{index % 64:03d}-12345-abcdef",
    }


def grid_of(blocks: int) -> Grid:
    """A grid of at least so many blocks, roughly a cube of them."""
    side = round(blocks ** (1 / 3))
    while side**3 < blocks:
        side += 1
    return Grid((side * CELL[0], side * CELL[1], -(-blocks // side**2) * CELL[2]), CELL)


class Instant:
    """An engine that is done at once: what is left is the coordinator's own cost.

    Args:
        journal: begun.
    """

    slots = 64

    def __init__(self, journal: Journal) -> None:
        self._pen = journal.worker("instant")

    def submit(self, index: int, box: Box) -> Future[None]:
        """Note the block."""
        self._pen.append(index, record(index))
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def describe(self) -> dict[str, Any]:
        """Its name."""
        return {"engine": "instant"}

    def close(self, hurry: bool = False) -> None:
        """Close the file."""
        self._pen.close()


def nothing(index: int, box: Box) -> dict[str, Any]:
    """A task that does nothing."""
    return {}


def number(index: int) -> int:
    """A task of a graph that does nothing."""
    return index


# ---- steps, each in a process of its own -----------------------------------------------------


def append(folder: Path, blocks: int) -> dict[str, Any]:
    """Write the records from 16 files' worth of workers."""
    shutil.rmtree(folder, ignore_errors=True)
    grid, journal = grid_of(blocks), Journal(folder / "journal")
    journal.begin({"shape": list(grid.shape), "block": list(grid.cell)})
    Bulletin(journal).begin(grid, {"engine": "instant", "began": 1.0})
    pens = [journal.worker(f"worker-{n}") for n in range(16)]
    with timed("synced", SYNCED) as synced:
        for i in range(SYNCED):
            pens[i % 16].append(i, record(i))
    unsynced()
    with timed("unsynced", blocks - SYNCED) as rest:
        for i in range(SYNCED, blocks):
            pens[i % 16].append(i, record(i))
    size = sum(p.stat().st_size for p in journal.folder.glob("*.jsonl"))
    return {**synced, **rest, "journal_mb": round(size / 1e6, 1), "bytes_a_record": round(size / blocks)}


def done(folder: Path, blocks: int) -> dict[str, Any]:
    """The finished blocks, asked for three times as a run does."""
    journal, found = Journal(folder / "journal"), {}
    for name in ("first", "second", "third"):
        with timed(name, blocks) as figures:
            assert len(journal.done()) == blocks
        found |= figures
    return found


def records(folder: Path, blocks: int) -> dict[str, Any]:
    """All records in memory."""
    with timed("read", blocks) as figures:
        assert len(Journal(folder / "journal").records()) == blocks
    return figures


def scan(folder: Path, blocks: int) -> dict[str, Any]:
    """All records, one after the other."""
    journal = Journal(folder / "journal")
    if not hasattr(journal, "scan"):
        return {}
    with timed("read", blocks) as figures:
        assert sum(1 for _ in journal.scan()) == blocks
    return figures


def status(folder: Path, blocks: int) -> dict[str, Any]:
    """What `densem status` reads, of a run that goes on."""
    journal = Journal(folder / "journal")
    Bulletin(journal).say(state="running", began=1.0)
    with timed("read", blocks) as figures:
        assert Status.of(journal).done == blocks
    return figures


def coordinated(folder: Path, blocks: int) -> dict[str, Any]:
    """All blocks through the coordinator."""
    unsynced()
    place, grid = folder.with_name("coordinate"), grid_of(blocks)
    shutil.rmtree(place, ignore_errors=True)
    journal = Journal(place / "journal")
    journal.begin({"shape": list(grid.shape)})
    with timed("run", len(grid)) as figures:
        assert coordinate(Instant(journal), grid, journal).done == len(grid)
    return figures


def resume(folder: Path, blocks: int) -> dict[str, Any]:
    """A run that has nothing left to do."""
    grid, journal = grid_of(blocks), Journal(folder.with_name("coordinate") / "journal")
    with timed("run", len(grid)) as figures:
        assert coordinate(Instant(journal), grid, journal).resumed == len(grid)
    return figures


def dask_at_once(folder: Path, tasks: int) -> dict[str, Any]:
    """All tasks handed to the scheduler of this process at once."""
    with small_cluster(folder) as client:
        with timed("handing out", tasks) as given:
            futures = client.map(number, range(tasks), pure=False)
        with timed("all", tasks) as waited:
            client.gather(futures)
        memory = given["handing out"]["memory_mb"] + waited["all"]["memory_mb"]
        return {**given, **waited, "kb_a_task": round(1e3 * memory / tasks, 2)}


def dask_windowed(folder: Path, tasks: int) -> dict[str, Any]:
    """As densem hands blocks out."""
    from densem.blocks.cluster import Cluster

    place, grid = folder.with_name("windowed"), grid_of(tasks)
    shutil.rmtree(place, ignore_errors=True)
    journal = Journal(place / "journal")
    journal.begin({"shape": list(grid.shape)})
    with small_cluster(folder) as client, timed("run", len(grid)) as figures:
        assert coordinate(Cluster(client, nothing, journal), grid, journal).done == len(grid)
    return {**figures, "kb_a_task": round(1e3 * figures["run"]["memory_mb"] / len(grid), 2)}


@contextmanager
def small_cluster(folder: Path) -> Iterator[Any]:
    """Two workers of one thread on the loopback interface; the scheduler lives here."""
    from distributed import Client, LocalCluster

    folder.parent.mkdir(parents=True, exist_ok=True)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with LocalCluster(**options, local_directory=str(folder.parent / "dask")) as cluster, Client(
        cluster, set_as_default=False
    ) as client:  # fmt: skip
        client.gather(client.map(number, range(100), pure=False))  # everything is imported
        yield client


STEPS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "append": append, "done": done, "records": records, "scan": scan, "status": status,
    "coordinate": coordinated, "resume": resume, "dask at once": dask_at_once, "dask windowed": dask_windowed,
}  # fmt: skip


# ---- measuring -------------------------------------------------------------------------------


@contextmanager
def timed(name: str, count: int) -> Iterator[dict[str, Any]]:
    """Seconds, microseconds for each of `count`, and by how much the peak of memory grew."""
    found: dict[str, Any] = {}
    before = psutil.Process().memory_info().rss / 1e6
    started, cpu = time.perf_counter(), time.process_time()
    yield found
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    found[name] = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "cpu_microseconds_each": round(1e6 * cpu / max(1, count), 2),
        "memory_mb": round(max(0.0, peak - before)),
    }


def unsynced() -> None:
    """From now on nothing waits for the disk."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]


def child(step: str, scratch: Path, count: int) -> dict[str, Any]:
    """Run a step in a process of its own."""
    command = [sys.executable, __file__, str(scratch), "--step", step, "--blocks", str(count)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{step}: {ended.stderr}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    print(step, json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--blocks", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=100_000, help="of the graph handed over at once")
    parser.add_argument("--windowed", type=int, default=10_000, help="blocks handed out as slots come free")
    parser.add_argument("--step", choices=STEPS, help="this one alone, in this process")
    parser.add_argument("--only", nargs="*", default=list(STEPS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    journal = asked.scratch / "million"
    if asked.step:
        print(json.dumps(STEPS[asked.step](journal, asked.blocks)))
        return
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    result: dict[str, Any] = {
        "what": "a million blocks",
        "densem": __version__,
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}",
        "blocks": asked.blocks,
    }
    counts = {"dask at once": asked.tasks, "dask windowed": asked.windowed}
    for step in asked.only:
        count = counts.get(step, asked.blocks)
        result[step] = {"count": count, **child(step, asked.scratch, count)}
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
