"""Early ends: Slurm jobs that end before their worker comes, and are replaced.

Dask replaces workers that it has seen. A job that ends before, on a node without the file system or by a
prologue that fails, and one that Slurm would not take, would be waited for for ever.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any, Protocol

LOOK_SECONDS = 10.0
AT_ONCE = 3
"""So many rounds are replaced as soon as they are seen; each further one waits twice as long as the last."""
LONGEST_SECONDS = 600.0
_log = logging.getLogger(__name__)


class Queue(Protocol):
    """The jobs of a run in the scheduler's queue."""

    logs: Path
    name: str

    def queued(self) -> list[str]:
        """Numbers of those that wait or run."""


class EarlyEnds:
    """A thread that looks for jobs that have ended and never came as a worker, and drops them.

    Dask then asks for others. A job has ended if it was in the queue, or wrote a log, and is not in the
    queue at two looks; one that never was there may be hidden from this user. After a few rounds without a
    new worker it waits longer and longer before it drops more.

    Args:
        cluster: of dask-jobqueue, kept at a number of jobs.
        queue: its jobs.
        look_seconds: how often it looks.
    """

    def __init__(self, cluster: Any, queue: Queue, look_seconds: float = LOOK_SECONDS) -> None:
        self._cluster, self._queue, self._look_seconds = cluster, queue, look_seconds
        self._listed: set[str] = set()
        self._suspects: set[Any] = set()
        self._known: set[str] = set()
        self._rounds = 0
        self._not_before = 0.0
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
        """Seconds from the last round of dropped jobs to the next."""
        if self._rounds < AT_ONCE:
            return 0.0
        return min(LONGEST_SECONDS, self._look_seconds * 2.0 ** min(self._rounds - AT_ONCE + 1, 20))

    def _loop(self) -> None:
        while not self._over.wait(self._look_seconds):
            try:
                self.look()
            except Exception as error:  # Slurm or the disk does not answer: the next look may
                _log.debug("no look at the jobs: %s", error)

    def look(self) -> list[str]:
        """Drop the jobs that had ended at the last look already; gives their numbers, or `none`."""
        queued = set(self._queue.queued())
        names = {str(worker["name"]) for worker in list(self._cluster.scheduler_info["workers"].values())}
        if names - self._known:
            self._rounds = 0
        self._known |= names
        self._listed |= queued
        jobs = {
            name: job.job_id for name, job in list(self._cluster.workers.items()) if str(name) not in names
        }
        ended = {name: job for name, job in jobs.items() if self._has_ended(job, queued)}
        dropped = {name: job for name, job in ended.items() if name in self._suspects}
        self._suspects = set(ended)
        if not dropped or time.monotonic() < self._not_before:
            return []
        self._rounds += 1
        self._not_before = time.monotonic() + self.pause
        for name, job in dropped.items():
            self._say(job)
            self._cluster.loop.add_callback(self._drop, name)
        self._suspects -= set(dropped)
        return [str(job or "none") for job in dropped.values()]

    def _has_ended(self, job: str | None, queued: set[str]) -> bool:
        if job is None:  # Dask lists a job when it was submitted: Slurm has not taken this one
            return True
        return job not in queued and (job in self._listed or self._log_of(job).exists())

    async def _drop(self, name: Any) -> None:
        """As Dask does with a worker that is gone: what keeps the number of jobs then asks for another."""
        from distributed import Status

        job = None if self._over.is_set() else self._cluster.workers.pop(name, None)
        if job is not None:
            job.status = Status.closed  # the cluster, when it closes, looks at every job it ever made
            await job.close()

    def _log_of(self, job: str) -> Path:
        return self._queue.logs / f"{self._queue.name}-{job}.err"

    def _say(self, job: str | None) -> None:
        if job is None:
            _log.warning("Slurm did not take a job (sbatch failed), and another is asked for")
            return
        path = self._log_of(job)
        try:
            lines = path.read_text(errors="replace").split("\n")
        except OSError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        _log.warning(
            "the Slurm job %s ended before its worker came, and another is asked for; look at its node and "
            "at slurm.toml (%s: %s)", job, path, last[:200] or "no line",
        )  # fmt: skip
