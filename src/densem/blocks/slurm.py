"""Slurm: a Dask cluster whose workers are Slurm jobs, and the settings of a site in a slurm.toml.

1. Jobs of the same folder that a killed run left in the queue are cancelled first: only those that it
   noted in the journal and that still have the folder's job name.
2. A job is one worker that does one block at a time; jobs that end or die are replaced, those that end before
   their worker came by `EarlyEnds`.
3. At the end, on Ctrl-C and SIGTERM all jobs are cancelled, and the queue is asked whether they are gone.
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from densem.blocks.cluster import require
from densem.blocks.early_ends import EarlyEnds
from densem.blocks.journal import Journal
from densem.errors import ConfigError, NotFoundError, ResourceError, nearest

if TYPE_CHECKING:
    from distributed import Client

FILE = "slurm.toml"
JOBS = "slurm.jobs"
GONE_SECONDS = 60.0
DEATH_SECONDS = 60
"""A job that finds no scheduler for so long ends itself."""
EXAMPLE = ('partition = "main"', 'time = "4:00:00"', 'memory = "16GB"', "cores = 4", "jobs = 8")
_TIME = r"^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$"
_LIFETIME = r"^(\d+(\.\d+)?[dhms])+$"
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_log = logging.getLogger(__name__)


class SlurmSettings(BaseModel):
    """What a slurm.toml says: how to ask for one job, and for how many."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    memory: str = Field(pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$", description='memory of a job, such as "16GB"')
    cores: int = Field(ge=1, description="processor cores of a job")
    time: str = Field(pattern=_TIME, description='longest time of a job, such as "4:00:00" or "2-00:00:00"')
    jobs: int = Field(default=1, ge=1, description="jobs at the same time")
    partition: str | None = Field(default=None, description="partition; the site's default without one")
    account: str | None = Field(default=None, description="account that is charged")
    gpus: int = Field(default=0, ge=0, le=1, description="1 for a job with a GPU")
    directives: list[str] = Field(default=[], description='further options of sbatch: ["--constraint=x"]')
    prologue: list[str] = Field(default=[], description='shell lines before the worker: ["module load x"]')
    interface: str | None = Field(default=None, description='network of scheduler and jobs, such as "ib0"')
    lifetime: str | None = Field(
        default=None,
        pattern=_LIFETIME,
        description='a job ends itself after this and is replaced, such as "3h50m"',
    )
    python: str | None = Field(default=None, description="Python on the nodes; the one running densem")

    @field_validator("directives")
    @classmethod
    def _ours(cls, directives: list[str]) -> list[str]:
        """The name of a job is how it is found again, on this cluster."""
        for line in directives:
            if re.match(r"\s*(--job-name|--clusters?|-J|-M)", line):
                raise ValueError(
                    f"{line!r}: densem names its jobs itself and looks for them on this cluster; leave it out"
                )
        return directives

    @property
    def lifetime_seconds(self) -> float:
        """Seconds after which a job ends itself; infinite where it does not."""
        parts = re.findall(r"([\d.]+)([dhms])", self.lifetime or "")
        return sum(float(n) * _SECONDS[u] for n, u in parts) if parts else math.inf

    @classmethod
    def read(cls, path: Path) -> SlurmSettings:
        """Read a slurm.toml.

        Raises:
            ConfigError: naming the entry that is unknown, missing or wrong.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not a TOML file: {error}") from None
        except ValidationError as error:
            raise ConfigError(f"{path}: {_complaint(error.errors()[0])}") from None

    @classmethod
    def find(cls, folder: Path | None) -> SlurmSettings:
        """Of the study folder if there is one with a slurm.toml, else of the user's config folder.

        Raises:
            NotFoundError: with an example to copy, where there is neither.
        """
        places = [*([folder / FILE] if folder else []), config_folder() / FILE]
        for path in places:
            if path.is_file():
                return cls.read(path)
        lines = " ".join(f"'{line}'" for line in EXAMPLE)
        raise NotFoundError(
            f"--engine slurm: expected this cluster's settings in {' or '.join(map(str, places))}, found "
            f"no such file; for example:  mkdir -p {config_folder()} && printf '%s\\n' {lines} > {places[-1]}"
        )


def config_folder() -> Path:
    """The user's folder of densem's settings."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path.home() / ".config") / "densem"


def clear_left_jobs(journal: Journal) -> None:
    """Cancel the Slurm jobs that a killed run of this journal left in the queue.

    Args:
        journal: locked, so that no other run uses them.

    Raises:
        ResourceError: naming those that stay.
    """
    if not (journal.folder / JOBS).is_file() or shutil.which("squeue") is None:
        return
    left = Jobs(journal).cancel()
    if left:
        _log.warning("cancelled the Slurm jobs %s, left by an earlier run", ", ".join(left))


@contextmanager
def _own_interrupt() -> Iterator[None]:
    """Ctrl-C stays what it is: importing dask-jobqueue (0.9) makes it end the process with exit code 0."""
    known = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not known:
            signal.signal(signal.SIGINT, known)


@contextmanager
def slurm_client(settings: SlurmSettings, journal: Journal, blocks: int) -> Iterator[Client]:
    """A Dask client whose workers are Slurm jobs; all of them are gone on leaving.

    Args:
        settings: of the cluster.
        journal: begun or about to be; locked, so that no other run uses its jobs.
        blocks: how many there are to do; never more jobs than these.

    Raises:
        ResourceError: if there is no Slurm here, or it refuses such a job.
    """
    for module in ("distributed", "dask_jobqueue"):
        require(module)
    check_slurm()
    import dask
    from distributed import Client

    jobs = Jobs(journal)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with dask.config.set(_SETTINGS), _cluster(settings, jobs) as cluster:
        try_job(cluster.job_script())
        wanted = max(1, min(settings.jobs, blocks))
        keeper = cluster.adapt(minimum_jobs=wanted, maximum_jobs=wanted, interval="2s")
        try:
            with EarlyEnds(cluster, jobs), Client(cluster, set_as_default=False, name="densem") as client:
                yield client
        finally:
            keeper.stop()
            jobs.cancel()  # while the scheduler is there: workers that lose it may hang instead of ending
    jobs.cancel()


_SETTINGS = {
    "distributed.scheduler.allowed-failures": 1,  # the second worker that dies over a block fails it
    "distributed.scheduler.worker-saturation": 1.0,  # blocks are long: none waits behind another
    "distributed.deploy.lost-worker-timeout": "5s",
}


class Jobs:
    """The Slurm jobs of a journal: noted when they are submitted, so that none is left behind.

    Args:
        journal: of the run; its folder gives the jobs their name.
    """

    def __init__(self, journal: Journal) -> None:
        self.folder = journal.folder
        self.logs = journal.logs
        self.name = f"densem-{hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:10]}"

    def note(self, job: str) -> None:
        """A job was submitted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / JOBS).open("a") as handle:
            handle.write(f"{job}\n")
            handle.flush()
            os.fsync(handle.fileno())

    def queued(self) -> list[str]:
        """Noted jobs that are still in the queue under this name and user; an array is one job.

        Raises:
            ResourceError: if Slurm does not answer.
        """
        path = self.folder / JOBS
        noted = set(path.read_text().split()) if path.is_file() else set()
        if not noted:
            return []
        found = _call("squeue", "-h", "-a", f"--name={self.name}", f"--user={getpass.getuser()}", "-o", "%F")
        return [job for job in found.split() if job in noted]

    def cancel(self) -> list[str]:
        """Cancel them, and wait until they have left the queue.

        Returns:
            The jobs that were there.

        Raises:
            ResourceError: naming those that stay.
        """
        found = left = self.queued()
        if left:
            _call("scancel", *left)
        deadline = time.monotonic() + GONE_SECONDS
        while left and time.monotonic() < deadline:
            time.sleep(0.3)
            left = self.queued()
        if left:
            raise ResourceError(
                f"the Slurm jobs {', '.join(left)} of {self.folder.parent} do not leave the queue; "
                f"cancel them with  scancel {' '.join(left)}  and run the same again"
            )
        with suppress(OSError):
            (self.folder / JOBS).unlink(missing_ok=True)
        return found


def _cluster(settings: SlurmSettings, jobs: Jobs) -> Any:
    with _own_interrupt():
        from dask_jobqueue import SLURMCluster
        from dask_jobqueue.slurm import SLURMJob

    class NotedJob(SLURMJob):  # type: ignore[misc]
        """Notes its number as soon as Slurm has given it one."""

        def _job_id_from_submit_output(self, out: str) -> str:
            job = str(super()._job_id_from_submit_output(out))
            jobs.note(job)
            return job

    gpus = [f"--gres=gpu:{settings.gpus}"] if settings.gpus else []
    lifetime = ["--lifetime", f"{settings.lifetime_seconds:.0f}s"] if settings.lifetime else []
    return SLURMCluster(
        job_cls=NotedJob,
        job_name=jobs.name,
        queue=settings.partition,
        account=settings.account,
        walltime=settings.time,
        cores=1,  # one block at a time; torch takes the cores
        processes=1,
        job_cpu=settings.cores,
        memory=settings.memory,
        nanny=False,  # the job is the worker: when one ends, so does the other
        death_timeout=DEATH_SECONDS,
        interface=settings.interface,
        log_directory=str(jobs.logs),
        local_directory="${TMPDIR:-/tmp}",
        python=f"exec {settings.python or sys.executable}",  # Slurm's signals reach the worker itself
        job_extra_directives=["--open-mode=append", "--no-requeue", *gpus, *settings.directives],
        job_script_prologue=["export MALLOC_ARENA_MAX=1", *settings.prologue],
        worker_extra_args=["--memory-limit", "0", *lifetime],  # Slurm sees to the memory
        scheduler_options=_addresses(settings.interface),
        shared_temp_directory=None,
    )


def _addresses(interface: str | None) -> dict[str, Any]:
    from distributed.utils import get_ip_interface

    if interface is None:
        return {"dashboard_address": ":0"}
    try:
        host = get_ip_interface(interface)
    except ValueError as error:
        raise ConfigError(f"{FILE}: interface = {interface!r}: {' '.join(str(error).split())}") from None
    return {"host": host, "dashboard_address": f"{host}:0"}


def check_slurm() -> None:
    """Refuse machines without Slurm's commands.

    Raises:
        ResourceError: saying where to run it.
    """
    if shutil.which("sbatch") is None or shutil.which("squeue") is None:
        raise ResourceError(
            "--engine slurm: no sbatch and squeue here; run it on a login node of the cluster"
        )


def submit(script: str, jobs: Jobs) -> str:
    """Submit a job script; its number, which is noted at once.

    Args:
        script: of the job, with its directives.
        jobs: where it is noted.

    Raises:
        ResourceError: if Slurm refuses it.
    """
    job = _call("sbatch", "--parsable", given=script, hint="; correct slurm.toml").strip().partition(";")[0]
    jobs.note(job)
    return job


def try_job(script: str) -> None:
    """Let Slurm look at the job before any is submitted: a wrong partition would be tried for ever.

    Raises:
        ResourceError: if it would refuse it.
    """
    _call("sbatch", "--test-only", given=script, hint="; correct slurm.toml")


def _call(*command: str, given: str | None = None, hint: str = "") -> str:
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=GONE_SECONDS,
            env=_plain_environment(),
        )
    except subprocess.TimeoutExpired:
        raise ResourceError(
            f"{command[0]} gave no answer within {GONE_SECONDS:.0f} s; is Slurm up?"
        ) from None
    if done.returncode:
        line = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ResourceError(f"{command[0]}: {line}{hint}")
    return done.stdout


def _plain_environment() -> dict[str, str]:
    """Without a user's own habits of squeue, which would hide jobs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}


def _complaint(row: Any) -> str:
    entry = ".".join(str(part) for part in row["loc"])
    if row["type"] == "extra_forbidden":
        return f"unknown entry {entry!r}.{nearest(entry, list(SlurmSettings.model_fields))}"
    field = SlurmSettings.model_fields.get(str(row["loc"][0])) if row["loc"] else None
    wanted = f" ({field.description})" if field else ""
    if row["type"] == "missing":
        return f"entry {entry!r} is missing{wanted}"
    return f"wrong entry {entry} = {row['input']!r}: {row['msg']}{wanted}"
