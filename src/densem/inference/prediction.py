"""Prediction: a volume labelled block by block into OME-Zarr, with one model or an ensemble.

1. Everything that decides a byte is settled in a plan: models, input, tile, context, number format.
2. The volume is cut into blocks of whole shards; within a block the network runs tile by tile.
3. A block is written, read back, compared and noted in the journal; a killed run goes on from there.
4. At the end the pyramids are added and the volumes put in place.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densem import __version__
from densem.blocks import ClusterCrew, Crew, LocalCrew, Progress, Report, RunOptions, run, verify
from densem.blocks.bulletin import Bulletin, Watch
from densem.blocks.cluster import ask
from densem.blocks.engine_choice import announce
from densem.blocks.journal import Record
from densem.blocks.slurm import clear_left_jobs
from densem.errors import ConfigError, DensemWarning, ExistsError
from densem.inference.block_task import BlockTask, VoxelCounter
from densem.inference.cards import labellers_for, spread
from densem.inference.domain import compare
from densem.inference.job import (
    PredictionJob,
    check_reachable,
    cluster_client,
    engine_choice,
    runtime_there,
)
from densem.inference.labeller import TOLERANCE, check_sizes, same_size
from densem.inference.machine import Cores
from densem.inference.options import PredictOptions
from densem.inference.outputs import NAMES, ShardDigests
from densem.inference.prepared import Prepared, torch_threads
from densem.inference.resample import STAGE, at_size
from densem.inference.runtime import ENTRIES
from densem.inference.way_back import WayBack
from densem.model import Ensemble, Model
from densem.volumes import Volume, ome_zarr, open_volume

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """A finished prediction.

    Attributes:
        folder: where it lies.
        classes: uint8 ids (Z, Y, X).
        warnings: what a user should know about the input.
        report: blocks planned, resumed and done.
        seconds: time of this run.
        overhead: voxels the network was shown for each voxel of the volume; 0 where that is not known.
        runtime: which runtime was measured to be the fastest, as a line; empty where none was.
    """

    folder: Path
    classes: Volume
    warnings: tuple[str, ...] = ()
    report: Report | None = None
    seconds: float = 0.0
    overhead: float = 0.0
    runtime: str = ""

    def open(self, name: str) -> Volume:
        """One of the other volumes that were written: `confidence`, `entropy`."""
        return open_volume(self.folder / f"{name}.zarr")

    def lines(self) -> list[str]:
        """What to tell a person."""
        voxels, report = self.classes.box.size, self.report
        more = f"; {100 * (self.overhead - 1):.0f} % more were read as context" if self.overhead else ""
        if report is not None and report.resumed:
            spent = f"; the last {report.done} of {report.planned} blocks in {self.seconds:.0f} s"
        else:
            rate = f", {voxels / self.seconds / 1e3:.0f} thousand a second" if self.seconds > 0 else ""
            spent = f" in {self.seconds:.0f} s{rate}"
        done = f"Labelled {voxels / 1e6:.1f} million voxels{spent}{more}"
        return [done, self.runtime] if self.runtime else [done]


def predict(
    models: Ensemble | Model,
    volume: Volume,
    folder: Path,
    options: PredictOptions | None = None,
    on_progress: Progress | None = None,
    provenance: dict[str, Any] | None = None,
) -> Prediction:
    """Label every voxel of a volume.

    Writes `classes.zarr` and beside it what the options ask for. An unfinished prediction in the folder
    is taken up again, if it was begun with the same models, input and options.

    Args:
        models: one model or an ensemble.
        volume: the image.
        folder: where the prediction goes.
        options: what is written, and how.
        on_progress: told voxels done and voxels in all, after every tile.
        provenance: plain values stored with the volumes, such as the command.

    Raises:
        ExistsError: a finished prediction lies there and `overwrite` is not set.
        IntegrityError: an unfinished one of other models, input or options lies there.
        VoxelSizeError: voxel sizes differ by more than 10 % and `resample` is not set.
        ResourceError: too little disk or memory.
        IncompleteError: some blocks failed in every attempt.
    """
    options = options or PredictOptions()
    ensemble = models if isinstance(models, Ensemble) else Ensemble([models])
    if not same_size(ensemble, volume):
        if not options.resample:
            check_sizes(ensemble, volume)
        return _predict_resampled(ensemble, volume, Path(folder), options, on_progress, provenance or {})
    return _Prediction.prepare(ensemble, volume, Path(folder), options).run(on_progress, provenance or {})


def predict_anew(
    models: Ensemble | Model,
    volume: Volume,
    folder: Path,
    options: PredictOptions | None = None,
    on_progress: Progress | None = None,
    provenance: dict[str, Any] | None = None,
) -> Prediction:
    """As `predict`, at the models' voxel size, for a folder in which nothing else is worth keeping.

    An unfinished prediction of the same models, input and options is taken up; whatever else lies there,
    finished or begun by another model or in another number format, is replaced.
    """
    options, folder = options or PredictOptions(), Path(folder)
    ensemble = models if isinstance(models, Ensemble) else Ensemble([models])
    check_sizes(ensemble, volume)
    prediction = _Prediction.prepare(ensemble, volume, folder, options)
    if is_finished(folder) or not prediction.journal.takes_up(prediction.plan()):
        options = options.model_copy(update={"overwrite": True})
        prediction = _Prediction.prepare(ensemble, volume, folder, options)
    return prediction.run(on_progress, provenance or {})


def _predict_resampled(
    ensemble: Ensemble,
    volume: Volume,
    folder: Path,
    options: PredictOptions,
    on_progress: Progress | None,
    provenance: dict[str, Any],
) -> Prediction:
    """Predict on the model's grid in a folder of its own, then bring the labels back block by block."""
    refuse_finished(folder, options)
    if options.box is not None:
        raise ConfigError(
            "--box counts the volume's own voxels, which --resample replaces: give the region as a --mask"
        )
    if options.affinities and any(m.affinities for m in ensemble.members):
        warnings.warn(
            f"{volume.name}: no affinities are written, since their offsets count voxels of the model's "
            "size, which --resample changes; import the volume at that size to have them",
            DensemWarning,
            stacklevel=3,
        )
    options = options.model_copy(update={"affinities": False})
    seen = at_size(volume, ensemble.voxel_size_nm, TOLERANCE)
    staged = options.model_copy(update={"overwrite": False})
    inner = _Prediction.prepare(ensemble, seen, folder / STAGE, staged)
    back = WayBack(inner.outputs, seen.voxel_size_nm, folder, volume, [m.id for m in ensemble.members])
    if not options.overwrite:
        back.compare()
    back.own.check_disk()
    with back.journal.lock():
        clear_left_jobs(back.journal)
        if options.overwrite:  # only now that nothing is left to refuse
            remove(folder)
            back.journal.forget()
        try:
            if inner.journal.plan() is None:  # what was brought back was of one that is gone
                back.journal.forget()
            found = inner.run_or_take(on_progress, provenance)
            inner.bring(back, found)
        finally:
            back.journal.tidy()
    shutil.rmtree(inner.outputs.folder)
    return replace(found, folder=folder, classes=open_volume(back.own.path("classes")))


@dataclass
class _Prediction(Prepared):
    """The run of a prediction: begun or taken up, worked on by an engine, finished."""

    stop: threading.Event = field(default_factory=threading.Event)
    begun: bool = False

    def run(self, on_progress: Progress | None, provenance: dict[str, Any]) -> Prediction:
        start = time.monotonic()
        found = compare(self.labeller.volume.name, self.labeller.intensity, self.ensemble.fingerprint)
        for text in found:
            warnings.warn(text, DensemWarning, stacklevel=3)
        refuse_finished(self.outputs.folder, self.options)
        self.outputs.check_disk(self.left)
        with self.journal.lock():
            report = self._do_blocks(on_progress, {**provenance, "warnings": list(found)})
        classes = open_volume(self.outputs.path("classes"))
        seconds, overhead = time.monotonic() - start, self.labeller.tiling.overhead
        said = self.verdict.line() if self.verdict else ""
        return Prediction(self.outputs.folder, classes, found, report, seconds, overhead, said)

    def run_or_take(self, on_progress: Progress | None, provenance: dict[str, Any]) -> Prediction:
        """Run it, or take one of the same plan that is finished as it is."""
        if not is_finished(self.outputs.folder):
            return self.run(on_progress, provenance)
        self.adopt()
        self.journal.begin(self.plan())
        return Prediction(self.outputs.folder, open_volume(self.outputs.path("classes")))

    def bring(self, back: WayBack, found: Prediction) -> None:
        """Bring a finished one onto the volume's own grid, by the engine that made it."""
        choice = replace(engine_choice(self.options), cards=False, workers=self.workers)
        _log.info("Bringing the labels back to the volume's own voxel size")
        with self.journal.lock(), choice.crew(back.journal, self._run_options()) as crew:
            back.go(crew, found.classes.attributes)

    def _do_blocks(self, on_progress: Progress | None, provenance: dict[str, Any]) -> Report:
        clear_left_jobs(self.journal)
        PredictionJob.drop(self.outputs.folder)  # workers of a killed run, if any are left, write no more
        if self.options.engine != "local":
            try:
                return self._work_on_cluster(on_progress, provenance)
            finally:
                self.journal.tidy()
        self.begin()
        self.verify()
        return self._work_here(on_progress, provenance)

    def begin(self) -> None:
        """Start anew or take up what is there."""
        outputs, journal = self.outputs, self.journal
        if self.options.overwrite and not self.begun:
            remove(outputs.folder)
            journal.forget()
        self.begun = True
        if not (journal.begin(self.plan()) and outputs.begun):
            journal.keep(set())
            outputs.create()

    def verify(self) -> None:
        """Forget the blocks that the journal knows and the disk does not hold; sweep up what a kill left."""
        verify(self.journal, self._holds, Cores.look().usable)
        self.outputs.sweep(self.blocks, self.journal.done())

    def _holds(self, record: Record) -> bool:
        return self.outputs.holds(self.blocks.box(record["block"]), record["digests"])

    def _work_here(self, on_progress: Progress | None, provenance: dict[str, Any]) -> Report:
        counter = VoxelCounter(on_progress, self.stop, self.labeller.volume.box.size)
        counter.add(self.blocks.voxels(self.journal.done()))
        task = BlockTask(self.labeller, self.outputs, counter, self.region, self.workers)
        labellers = labellers_for(self.labeller, self.ensemble, self.options.flips, self.devices)
        # Every worker keeps all of torch's threads: their number decides the last bit of a softmax.
        with torch_threads(self.threads):
            report = run(spread(task, labellers), self.blocks, self.journal, self._run_options())
        self._complete(report, LocalCrew(self._run_options()), provenance)
        return report

    def _work_on_cluster(self, on_progress: Progress | None, provenance: dict[str, Any]) -> Report:
        check_reachable(self.labeller.volume, self.options.engine)
        if self.adopt():  # whatever must be refused is refused before any job is asked for
            self.begin()
            self.verify()
            if len(self.journal.done()) == len(self.blocks):
                return self._only_complete(on_progress, provenance)
        with cluster_client(self, self._blocks_left()) as client:
            self._learn_runtime(client)
            self.begin()
            job = PredictionJob.leave(self)
            crew = ClusterCrew(client, self.options.engine, self._run_options())
            try:
                report = crew.do(job, self.blocks, self.journal, on_progress)
            finally:
                job.retract()
            self._complete(report, crew, provenance)
            return report

    def _only_complete(self, on_progress: Progress | None, provenance: dict[str, Any]) -> Report:
        """All blocks were done before: the cluster is asked for where levels of the pyramids are missing."""
        planned, voxels = len(self.blocks), self.labeller.volume.box.size
        report = Report(planned, planned, 0)
        choice = replace(engine_choice(self.options), cards=False)  # pyramids need none
        with choice.crew(self.journal, self._run_options()) as crew:
            self._complete(report, crew, provenance)
        if on_progress is not None:
            on_progress(voxels, voxels)
        return report

    def _complete(self, report: Report, crew: Crew, provenance: dict[str, Any]) -> None:
        """After the blocks: pyramids by the same crew, metadata, names."""
        if report.done:
            self.outputs.forget_levels()
        bulletin = Bulletin(self.journal)
        bulletin.say(state="adding pyramids")
        with Watch(bulletin):
            self.finish(provenance, crew)
        bulletin.say(state="finished")

    def _learn_runtime(self, client: Client) -> None:
        """Ask the first worker there is; on a busy cluster this is where a run waits."""
        options, bulletin = self.options, Bulletin(self.journal)
        announce(options.engine, client.dashboard_link, self.outputs.folder)
        bulletin.begin(self.blocks, {"engine": options.engine, "dashboard": client.dashboard_link})
        bulletin.say(state="waiting for a worker")
        try:
            with Watch(bulletin):
                wanted = (options.device, options.precision, *self.wanted_backend())
                self.runtime = ask(client, runtime_there, *wanted, stall_minutes=options.stall)
        except BaseException:
            bulletin.say(state="stopped")
            raise

    def adopt(self) -> bool:
        """Take over the runtime of an unfinished run, if others do the blocks; whether there is one."""
        known = None if self.options.overwrite else self.journal.plan()
        if known is not None and self.options.engine != "local":
            self.runtime = {k: known[k] for k in ENTRIES if k in known}
        return known is not None

    def _blocks_left(self) -> int:
        return len(self.blocks) - (0 if self.options.overwrite else len(self.journal.done()))

    def _run_options(self) -> RunOptions:
        options = self.options
        return RunOptions(self.workers, options.retries, stop=self.stop, stall_minutes=options.stall)

    def finish(self, provenance: dict[str, Any], crew: Crew | None = None) -> None:
        """Metadata, pyramids, names."""
        volume = self.labeller.volume
        digests, counts = ShardDigests.of(self.outputs, self.blocks, self.journal)
        facts = {
            "provenance": {
                "densem": __version__,
                "model_name": self.ensemble.name,
                "model_id": self.ensemble.id,
                "input_name": volume.name,
                **{k: v for k, v in self.plan().items() if k != "block"},
                **provenance,
            },
            "label_counts": counts,
        }
        place = (volume.voxel_size_nm, volume.offset_nm)
        self.outputs.finish(digests, place, facts, crew, Cores.look().usable)


def refuse_finished(folder: Path, options: PredictOptions) -> None:
    """Refuse to write over a finished prediction unasked.

    Raises:
        ExistsError: if one lies there and `overwrite` is not set.
    """
    if is_finished(folder) and not options.overwrite:
        raise ExistsError(
            f"{folder}: a prediction lies there already; give another name or --overwrite to replace it"
        )


def is_finished(folder: Path) -> bool:
    """Whether a finished prediction lies in the folder."""
    begun = any(ome_zarr.temporary(folder / f"{n}.zarr").exists() for n in NAMES)
    return (folder / "classes.zarr").exists() and not begun


def remove(folder: Path) -> None:
    """Remove a prediction's volumes and what was begun of them; nothing else in the folder."""
    for path in (folder / f"{n}.zarr" for n in NAMES):
        ome_zarr.discard(path)
        shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(folder / STAGE, ignore_errors=True)
