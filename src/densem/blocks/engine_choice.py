"""Engine choice: where a command is to have its blocks done, and the crew that comes of it.

The machines of a cluster are asked for when there is a first block to do: whatever is refused is refused
before, and where nothing is left to do nothing is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from densem.blocks.cluster import connect, settle
from densem.blocks.crew import ClusterCrew, Crew, LocalCrew
from densem.blocks.grid import Grid
from densem.blocks.journal import Journal
from densem.blocks.run import Progress, Report, RunOptions
from densem.blocks.slurm import SlurmSettings, slurm_client
from densem.blocks.worker import Task
from densem.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

ENGINES = ("local", "slurm", "dask")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineChoice:
    """Where blocks are done.

    Attributes:
        engine: local (threads of this process), slurm or dask.
        workers: blocks in work at the same time, with local.
        scheduler: address of the scheduler, with dask.
        settings: folder whose slurm.toml goes before the user's, with slurm.
        cards: whether Slurm jobs get the graphics card that slurm.toml asks for.
    """

    engine: str = "local"
    workers: int = 1
    scheduler: str | None = None
    settings: Path | None = None
    cards: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"--engine {self.engine}: expected one of {', '.join(ENGINES)}")
        if (self.engine == "dask") != (self.scheduler is not None):
            given = "" if self.scheduler is None else f" --scheduler {self.scheduler}"
            raise ConfigError(
                f"--engine {self.engine}{given}: expected --engine dask with --scheduler ADDRESS, "
                "such as tcp://10.0.0.1:8786, or neither"
            )

    @property
    def remote(self) -> bool:
        """Whether other processes do the blocks."""
        return self.engine != "local"

    def slurm(self) -> SlurmSettings:
        """The settings of the Slurm cluster.

        Raises:
            NotFoundError, ConfigError: if there are none, or wrong ones.
        """
        found = SlurmSettings.find(self.settings)
        return found if self.cards else found.model_copy(update={"gpus": 0})

    @contextmanager
    def client(self, journal: Journal, blocks: int) -> Iterator[Client]:
        """A client of the cluster; of Slurm with jobs for so many blocks, which are gone on leaving.

        Raises:
            ConfigError, NotFoundError: for what is missing here or in slurm.toml.
            ResourceError: if there is no such cluster.
        """
        if self.engine == "slurm":
            with slurm_client(self.slurm(), journal, blocks) as client:
                yield client
            return
        assert self.scheduler is not None
        with connect(self.scheduler) as client:
            yield client

    @contextmanager
    def crew(self, journal: Journal, options: RunOptions | None = None) -> Iterator[Crew]:
        """Who does the blocks; on leaving nobody is at work any more.

        Args:
            journal: keeps the numbers of Slurm's jobs; locked, so that no other run uses them.
            options: retries, stop flag and stall.

        Raises:
            ConfigError, NotFoundError: for settings that are missing or wrong.
        """
        options = options or RunOptions()
        if not self.remote:
            yield LocalCrew(replace(options, workers=self.workers))
            return
        if self.engine == "slurm":
            self.slurm()
        with ExitStack() as hired:
            yield _OnDemand(self, journal, options, hired)


class _OnDemand:
    """The crew of a cluster that is asked for with the first block there is to do."""

    def __init__(self, choice: EngineChoice, journal: Journal, options: RunOptions, hired: ExitStack) -> None:
        self._choice, self._journal, self._options, self._hired = choice, journal, options, hired
        self._crew: Crew | None = None

    def do(self, task: Task, grid: Grid, journal: Journal, on_progress: Progress | None = None) -> Report:
        """Do every block that the journal does not know; raises what `coordinate` does."""
        missing = len(grid) - len(journal.done())
        if missing and self._crew is None:
            self._crew = self._hire(missing)
        return (self._crew or LocalCrew(self._options)).do(task, grid, journal, on_progress)

    def _hire(self, blocks: int) -> Crew:
        home = self._journal.folder.parent
        client = self._hired.enter_context(self._choice.client(self._journal, blocks))
        if self._choice.engine == "dask":  # Slurm's jobs are cancelled
            self._hired.callback(settle, client, home)
        announce(self._choice.engine, client.dashboard_link, home)
        return ClusterCrew(client, self._choice.engine, self._options)


def announce(engine: str, dashboard: str, folder: Path) -> None:
    """Tell a person where blocks are done and how to look on."""
    _log.info("Working with engine %s; dashboard: %s", engine, dashboard)
    _log.info("How it is getting on:  densem status %s", folder)
