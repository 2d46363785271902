"""Job: all that a worker on another machine needs to do blocks of a prediction.

    <prediction>/journal/job/<run>.json   options, input, threads; gone when the run is over
    <prediction>/journal/job/models/<n>/  the models

A worker prepares the prediction once from it and compares its plan with the journal's: a machine that
would give other bytes is refused by name.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from densem.blocks import Box, EngineChoice, UnfitWorkerError
from densem.blocks.slurm import SlurmSettings
from densem.errors import ConfigError, DensemError
from densem.inference.block_task import BlockTask, VoxelCounter
from densem.inference.contest import Contest
from densem.inference.labeller import TOLERANCE
from densem.inference.options import PredictOptions
from densem.inference.prepared import Prepared, torch_threads
from densem.inference.resample import Resampled, at_size
from densem.inference.runtime import Backend, Precision, Runtime
from densem.model import Ensemble, Model
from densem.volumes import Volume, open_volume

if TYPE_CHECKING:
    from distributed import Client

LOOK_SECONDS = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionJob:
    """A task over blocks that can be sent to another machine: where its job lies.

    Attributes:
        folder: of the prediction, absolute.
        run: name of this run of it.
    """

    folder: Path
    run: str

    @classmethod
    def leave(cls, prepared: Prepared) -> PredictionJob:
        """Write down all that is needed; what an earlier run left is removed, which stops its workers."""
        job = cls(prepared.outputs.folder.resolve(), uuid.uuid4().hex[:8])
        cls.drop(job.folder)
        models = [f"models/{n}" for n in range(len(prepared.ensemble.members))]
        for name, model in zip(models, prepared.ensemble.members, strict=True):
            model.save(job.place / name)
        options = prepared.options.model_copy(
            update={"engine": "local", "overwrite": False, "block": prepared.blocks.cell,
                    "threads": prepared.threads, "workers": 1, "runtime": prepared.plan()["backend"]}
        )  # fmt: skip
        facts = {
            "models": models,
            "options": options.model_dump(mode="json", exclude={"scheduler", "settings"}),
            "volume": _described(prepared.labeller.volume),
            "intensity": prepared.labeller.intensity.to_dict(),
        }
        job.path.write_text(json.dumps(facts, indent=1))
        return job

    @staticmethod
    def drop(folder: Path) -> None:
        """Remove the job of a prediction folder, if there is one: workers drop what they have in work."""
        shutil.rmtree(folder / "journal" / "job", ignore_errors=True)

    @property
    def place(self) -> Path:
        """Folder of the job."""
        return self.folder / "journal" / "job"

    @property
    def path(self) -> Path:
        """What is needed beside the models."""
        return self.place / f"{self.run}.json"

    def retract(self) -> None:
        """The run is over."""
        self.drop(self.folder)

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """On a worker: do one block."""
        task, threads = _task(self)
        torch.set_num_threads(threads)
        return task(index, box)()


@dataclass
class _Retracted:
    """A flag that is set when the job is gone."""

    path: Path
    looked: float = 0.0
    gone: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_set(self) -> bool:
        with self.lock:
            if not self.gone and time.monotonic() - self.looked > LOOK_SECONDS:
                self.gone = not self.path.is_file()
                self.looked = time.monotonic()
            return self.gone


_tasks: dict[PredictionJob, tuple[BlockTask, int]] = {}
_making = threading.Lock()


def _task(job: PredictionJob) -> tuple[BlockTask, int]:
    """The task of a job and its threads, made once in a process."""
    with _making:
        if job not in _tasks:
            _tasks.clear()
            _tasks[job] = _made(job)
        return _tasks[job]


def _made(job: PredictionJob) -> tuple[BlockTask, int]:
    try:
        facts = json.loads(job.path.read_text())
        ensemble = Ensemble([Model.load(job.place / name) for name in facts["models"]])
        volume = _opened(facts["volume"], ensemble)
    except (DensemError, OSError) as error:
        raise UnfitWorkerError(
            f"machine {socket.gethostname()} cannot open what it needs ({error}): prediction and volume must "
            "lie on a disk that all machines see under the same path"
        ) from None
    volume = replace(volume, attributes={**volume.attributes, "intensity": facts["intensity"]})
    options = PredictOptions.model_validate(facts["options"])
    torch.set_num_threads(options.threads or 1)
    prepared = Prepared.prepare(ensemble, volume, job.folder, options)
    _compare(prepared)
    counter = VoxelCounter(None, _Retracted(job.path), volume.box.size)
    return BlockTask(prepared.labeller, prepared.outputs, counter, prepared.region), prepared.threads


def _compare(prepared: Prepared) -> None:
    known, plan = prepared.journal.plan() or {}, json.loads(json.dumps(prepared.plan()))
    different = [k for k in {**known, **plan} if known.get(k) != plan.get(k)]
    if different:
        entries = ", ".join(f"{k} (expected {known.get(k)!r}, found {plan.get(k)!r})" for k in different[:3])
        raise UnfitWorkerError(
            f"machine {socket.gethostname()} would not give the same bytes: {entries}; let the workers run "
            'on machines of one kind with one installation (on Slurm: directives = ["--constraint=..."])'
        )


def runtime_there(
    device: str, precision: Precision, backend: Backend, contest: Contest | None
) -> dict[str, Any]:
    """On a worker: the runtime that it has, or the fastest one there if a contest is to decide it."""
    if contest is not None:
        with torch_threads(contest.threads):
            backend = contest.decide().taken
    return Runtime.choose(device, precision, backend).describe()


@contextmanager
def cluster_client(prepared: Prepared, blocks: int) -> Iterator[Client]:
    """A client of the cluster that the options name, for so many blocks.

    Raises:
        ConfigError, NotFoundError: for what is missing in the options or in slurm.toml.
        ResourceError: if there is no such cluster.
    """
    choice = engine_choice(prepared.options)
    if choice.engine == "slurm":
        _compare_threads(prepared.threads, choice.slurm())
    with choice.client(prepared.journal, blocks) as client:
        yield client


def engine_choice(options: PredictOptions) -> EngineChoice:
    """Where the options want the blocks to be done.

    Raises:
        ConfigError: if dask is wanted and no scheduler is named.
    """
    if options.engine == "dask" and options.scheduler is None:
        raise ConfigError("--engine dask: give --scheduler ADDRESS, such as tcp://10.0.0.1:8786")
    scheduler = options.scheduler if options.engine == "dask" else None
    return EngineChoice(options.engine, options.workers or 1, scheduler, options.settings, cards=True)


def _compare_threads(threads: int, settings: SlurmSettings) -> None:
    if threads != settings.cores and not settings.gpus:
        _log.warning(
            "a job has %d cores (slurm.toml) and PyTorch works with %d threads: --threads %d would fit; the "
            "number is part of what decides the last bits, so an unfinished prediction keeps its own",
            settings.cores, threads, settings.cores,
        )  # fmt: skip


def check_reachable(volume: Volume, engine: str) -> None:
    """Refuse a volume that a worker cannot open by its path.

    Raises:
        ConfigError: saying how to make one.
    """
    source = _source(volume)
    same = None
    if source.path is not None:
        try:
            same = open_volume(source.path, voxel_size_nm=source.voxel_size_nm)
        except DensemError:
            same = None
    if same is None or (same.shape, same.id) != (source.shape, source.id):
        raise ConfigError(
            f"--engine {engine}: {source.name}: expected a volume that other machines can open by its path, "
            "found one in memory or a part of one; write it as OME-Zarr first"
        )


def _source(volume: Volume) -> Volume:
    return volume.array.source if isinstance(volume.array, Resampled) else volume


def _described(volume: Volume) -> dict[str, Any]:
    source = _source(volume)
    assert source.path is not None
    return {
        "path": str(source.path.resolve()),
        "voxel_size_nm": list(source.voxel_size_nm),
        "resampled": source is not volume,
    }


def _opened(facts: dict[str, Any], ensemble: Ensemble) -> Volume:
    volume = open_volume(Path(facts["path"]), voxel_size_nm=facts["voxel_size_nm"])
    return at_size(volume, ensemble.voxel_size_nm, TOLERANCE) if facts["resampled"] else volume
