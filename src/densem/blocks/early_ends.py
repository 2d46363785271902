"""Early ends: Slurm jobs that end before their worker comes, and are replaced.

Dask replaces workers that it has seen. A job that ends before, on a node without the file system or by a
prologue that fails, would be waited for for ever.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from densem.errors import ResourceError

LOOK_SECONDS = 10.0
AT_ONCE = 3
"""So many in a row are replaced at the next look; each further one after twice the time."""
LONGEST_SECONDS = 600.0
_log = logging.getLogger(__name__)


class Queue(Protocol):
    """The jobs of a run in the scheduler's queue."""

    logs: Path
    name: str

    def queued(self) -> list[str]:
        """Numbers of those that wait or run."""


class EarlyEnds:
    """A thread that looks for jobs that are neither in the queue nor came as a worker, and drops them.

    Dask then asks for others. After a few in a row without a worker it waits longer and longer.

    Args:
        cluster: of dask-jobqueue, kept at a number of jobs.
        queue: its jobs.
        look_seconds: how often it looks.
    """

    def __init__(self, cluster: Any, queue: Queue, look_seconds: float = LOOK_SECONDS) -> None:
        self._cluster, self._queue, self._look_seconds = cluster, queue, look_seconds
        self._suspects: set[str] = set()
        self._in_a_row = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="densem-early-ends", daemon=True)

    def __enter__(self) -> EarlyEnds:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        doublings = max(0, self._in_a_row - AT_ONCE)
        return min(LONGEST_SECONDS, self._look_seconds * 2.0 ** min(doublings, 20))

    def _loop(self) -> None:
        while not self._over.wait(self.pause):
            with suppress(ResourceError):  # Slurm does not answer: the next look may
                self.look()

    def look(self) -> list[str]:
        """Drop the jobs that had ended at the last look already; gives their numbers."""
        queued = self._queue.queued()
        names = {str(w["name"]) for w in self._cluster.scheduler_info["workers"].values()}
        if names:
            self._in_a_row = 0
        jobs = {str(name): (name, str(job.job_id)) for name, job in dict(self._cluster.workers).items()}
        ended = {
            job: name
            for text, (name, job) in jobs.items()
            if job.isdigit() and job not in queued and text not in names
        }
        dropped = [job for job in ended if job in self._suspects]  # the queue and Dask are not asked at once
        self._suspects = set(ended).difference(dropped)
        for job in dropped:
            self._in_a_row += 1
            self._say(job)
            self._cluster.loop.add_callback(self._drop, ended[job])
        return dropped

    async def _drop(self, name: Any) -> None:
        """As Dask does with a worker that is gone: what keeps the number of jobs then asks for another."""
        job = self._cluster.workers.pop(name, None)
        if job is not None:
            await job.close()

    def _say(self, job: str) -> None:
        path = self._queue.logs / f"{self._queue.name}-{job}.err"
        try:
            lines = path.read_text(errors="replace").split("\n")
        except OSError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        _log.warning(
            "the Slurm job %s ended before its worker came, and another is asked for; look at its node and "
            "at slurm.toml (%s: %s)", job, path, last[:200] or "no line",
        )  # fmt: skip
