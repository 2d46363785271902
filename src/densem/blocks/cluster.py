"""Cluster: the blocks of a run on the workers of a Dask scheduler.

1. A block is handed out as one task; the worker does it and notes it in its own journal file.
2. Its result is that it is done: nothing is sent back, so a lost answer costs nothing.
3. A worker that dies takes its blocks along; Dask gives them to another one, and when that dies as well the
   block counts as failed once.

`distributed` is imported inside functions: only those who use a cluster need it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densem.blocks.box import Box
from densem.blocks.engine import EngineLostError
from densem.blocks.journal import Journal
from densem.blocks.worker import Task, Worker, unique_name
from densem.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10.0
ASK_SECONDS = 2.0
SETTLE_SECONDS = 60.0
SPARE = 2
_ENDED = ("finished", "lost")
"""`lost`: it was finished, then the worker that kept its (empty) result died. The block is in the journal."""
_log = logging.getLogger(__name__)


class Cluster:
    """Blocks as tasks of a Dask scheduler.

    Args:
        client: connected.
        task: picklable; rebuilt on the workers, where it is safe to be called again and from several threads.
        journal: begun, in a folder that the workers see under the same path.
        name: `dask` or `slurm`, for people.
    """

    def __init__(self, client: Client, task: Task, journal: Journal, name: str = "dask") -> None:
        self._client, self._task, self._journal, self._name = client, task, journal, name
        self._run = uuid.uuid4().hex[:8]
        self._given: dict[Future[None], Any] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._threads, self._asked = 0, -ASK_SECONDS

    @property
    def slots(self) -> int:
        """Twice the threads of all workers and a few: a worker that ends a block finds the next one there."""
        now = time.monotonic()
        if now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._threads = threads(self._client)
        return 2 * self._threads + SPARE

    def submit(self, index: int, box: Box) -> Future[None]:
        """Hand a block to the scheduler."""
        self._count += 1
        future: Future[None] = Future()
        if lost(self._client):
            future.set_exception(EngineLostError(_gone(self._client)))
            return future
        given = self._client.submit(
            do_block, self._task, str(self._journal.folder.resolve()), self._run, index, box,
            key=f"densem-block-{self._run}-{self._count}-{index}", pure=False, retries=0,
        )  # fmt: skip
        with self._lock:
            self._given[future] = given
        given.add_done_callback(lambda ended: self._settle(future, ended))
        return future

    def describe(self) -> dict[str, Any]:
        """Its name, the scheduler and the dashboard."""
        return {
            "engine": self._name,
            "scheduler": self._client.scheduler.address if self._client.scheduler else None,
            "dashboard": self._client.dashboard_link,
        }

    def close(self, hurry: bool = False) -> None:
        """Let go of what is handed out; the client is left open."""
        with self._lock:
            left, self._given = list(self._given.values()), {}
        if left and not lost(self._client):
            with suppress(Exception):
                self._client.cancel(left, force=True)

    def _settle(self, future: Future[None], given: Any) -> None:
        with self._lock:
            known = self._given.pop(future, None)
        if known is None:
            return  # closed in the meantime
        if given.status in _ENDED:
            future.set_result(None)
        elif given.status == "error":
            future.set_exception(given.exception())
        else:
            future.set_exception(EngineLostError(_gone(self._client)))
        given.release()


def do_block(task: Task, folder: str, run: str, index: int, box: Box) -> None:
    """On a worker: do a block and note it."""
    with _counting:
        _at_work.append(folder)
    try:
        _worker(task, folder, run).do(index, box)
    finally:
        with _counting:
            _at_work.remove(folder)


_workers: dict[str, Worker] = {}
_making = threading.Lock()
_at_work: list[str] = []
_counting = threading.Lock()


def at_work(folder: str) -> int:
    """On a worker: how many blocks it is doing whose journal lies in a folder."""
    with _counting:
        return sum(Path(place).is_relative_to(folder) for place in _at_work)


def settle(client: Client, folder: Path, seconds: float = SETTLE_SECONDS) -> bool:
    """Wait until no worker is doing a block: one that was cancelled is not interrupted by Dask.

    Args:
        client: connected.
        folder: in which the journals of these blocks lie.
        seconds: how long at the most; then a warning.

    Returns:
        Whether all are at rest; also true where the scheduler is gone.
    """
    deadline = time.monotonic() + seconds
    while not lost(client):
        with suppress(Exception):  # a worker that ends while it is asked
            if not any(client.run(at_work, str(folder.resolve())).values()):
                return True
        if time.monotonic() > deadline:
            _log.warning("workers are still doing blocks of %s that were dropped %.0f s ago", folder, seconds)
            return False
        time.sleep(0.1)
    return True


def _worker(task: Task, folder: str, run: str) -> Worker:
    """This process's worker of a run: journal files belong to one run, an earlier run's are let go."""
    with _making:
        if run not in _workers:
            _workers.clear()
            _workers[run] = Worker(task, Journal(Path(folder)), unique_name())
        return _workers[run]


def connect(address: str) -> Client:
    """A client of the Dask scheduler at an address such as `tcp://10.0.0.1:8786`.

    Raises:
        ConfigError: if Dask is not installed, or for an address that is none.
        ResourceError: if no scheduler answers there within 10 s.
    """
    require("distributed")
    from distributed import Client

    if "://" not in address:
        raise ConfigError(
            f"--scheduler {address}: expected an address such as tcp://10.0.0.1:8786, "
            "as  dask scheduler  prints it"
        )
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="densem")
    except (OSError, TimeoutError) as error:
        line = " ".join(str(error).split())[:120]
        raise ResourceError(
            f"--scheduler {address}: no Dask scheduler answered there within {CONNECT_SECONDS:.0f} s "
            f"({line}); start one with  dask scheduler , workers with  dask worker , or correct the address"
        ) from None
    except ValueError as error:
        raise ConfigError(f"--scheduler {address}: not an address: {error}") from None


def require(module: str) -> None:
    """Refuse to go on without a part of the `cluster` extra.

    Raises:
        ConfigError: with what to install.
    """
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"--engine dask and --engine slurm need the package {module}, which is not installed here: "
            "pip install 'densem[cluster]'"
        )


def ask(client: Client, question: Any, *arguments: Any, stall_minutes: float = 30.0) -> Any:
    """The answer of the first worker there is; waits for one, and says loudly when none comes.

    Args:
        client: connected.
        question: a picklable function.
        arguments: of the function.
        stall_minutes: after so many without an answer, a warning; 0 never.

    Raises:
        ResourceError: if the scheduler is gone, or worker after worker dies of the question.
    """
    given = client.submit(question, *arguments, key=f"densem-ask-{uuid.uuid4().hex[:8]}", pure=False)
    start = spoken = time.monotonic()
    while not given.done():
        time.sleep(0.1)
        if stall_minutes and time.monotonic() - spoken > 60 * stall_minutes:
            spoken = time.monotonic()
            _log.warning(
                "no worker has come in %.3g minutes (%d are there): look at the queue, at the workers' logs "
                "and at slurm.toml", (spoken - start) / 60, threads(client),
            )  # fmt: skip
    if given.status not in (*_ENDED, "error"):
        raise ResourceError(f"{_gone(client)}; run the same again")
    from distributed import KilledWorker

    try:
        return given.result()
    except KilledWorker:
        raise ResourceError(
            "the workers died while they were asked what they run on: look at their logs; often the memory "
            "that they may use is too small, or Python there cannot load densem"
        ) from None


def threads(client: Client) -> int:
    """Threads of all workers there are now; 0 where the scheduler does not answer."""
    with suppress(Exception):
        return sum(client.nthreads().values())
    return 0


def lost(client: Client) -> bool:
    """Whether the connection to the scheduler is gone."""
    return client.status != "running"


def _gone(client: Client) -> str:
    address = client.scheduler.address if client.scheduler else "unknown"
    return f"the Dask scheduler at {address} is gone or has dropped this run's tasks"
