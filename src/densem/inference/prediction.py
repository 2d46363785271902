"""Prediction: a volume labelled block by block into OME-Zarr, with one model or an ensemble.

1. Everything that decides a byte is settled in a plan: models, input, tile, context, number format.
2. The volume is cut into blocks of whole shards; within a block the network runs tile by tile.
3. A block is written, read back, compared and noted in the journal; a killed run goes on from there.
4. At the end the pyramids are added and the volumes put in place.
"""

from __future__ import annotations

import shutil
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from densem import __version__
from densem.blocks import Box, Grid, Journal, Progress, Report, RunOptions, Stopped, Triple, run, triple
from densem.errors import ConfigError, DensemWarning, ExistsError, ResourceError
from densem.inference import fusion
from densem.inference.domain import compare
from densem.inference.labeller import TOLERANCE, Labeller, check_sizes, place, same_size
from densem.inference.options import PredictOptions
from densem.inference.outputs import NAMES, Digests, Outputs, count_labels, layout_for
from densem.inference.resample import STAGE, at_size, bring_back
from densem.inference.runtime import keep_memory
from densem.inference.tiles import round_up
from densem.model import Ensemble, Model
from densem.volumes import Layout, Volume, ome_zarr, open_volume


@dataclass(frozen=True)
class Prediction:
    """A finished prediction.

    Attributes:
        folder: where it lies.
        classes: uint8 ids (Z, Y, X).
        warnings: what a user should know about the input.
        report: blocks planned, resumed and done.
        seconds: time of this run.
    """

    folder: Path
    classes: Volume
    warnings: tuple[str, ...] = ()
    report: Report | None = None
    seconds: float = 0.0

    def open(self, name: str) -> Volume:
        """One of the other volumes that were written: `confidence`, `entropy`."""
        return open_volume(self.folder / f"{name}.zarr")

    def lines(self) -> list[str]:
        """What to tell a person."""
        voxels = self.classes.box.size
        rate = f", {voxels / self.seconds / 1e3:.0f} thousand a second" if self.seconds > 0 else ""
        return [f"Labelled {voxels / 1e6:.1f} million voxels in {self.seconds:.0f} s{rate}"]


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


def _predict_resampled(
    ensemble: Ensemble,
    volume: Volume,
    folder: Path,
    options: PredictOptions,
    on_progress: Progress | None,
    provenance: dict[str, Any],
) -> Prediction:
    """Predict on the model's grid in a folder of its own, then bring the labels back block by block."""
    _refuse_finished(folder, options)
    stage = folder / STAGE
    seen = at_size(volume, ensemble.voxel_size_nm, TOLERANCE)
    inner = _Prediction.prepare(ensemble, seen, stage, options.model_copy(update={"overwrite": False}))
    outputs = Outputs(folder, options.outputs, volume.shape, inner.outputs.layout, ensemble.schema)
    if options.overwrite:  # only now that nothing is left to refuse
        outputs.check_disk()
        remove(folder)
    if is_finished(stage):
        inner.journal.begin(inner.plan())
        found = Prediction(stage, open_volume(inner.outputs.path("classes")))
    else:
        outputs.check_disk()
        found = inner.run(on_progress, provenance)
    with inner.journal.lock():
        bring_back(inner.outputs, outputs, volume, found.classes.attributes)
    shutil.rmtree(stage)
    return replace(found, folder=folder, classes=open_volume(outputs.path("classes")))


@dataclass
class _Prediction:
    """One prediction at the model's voxel size: plan, outputs, journal."""

    ensemble: Ensemble
    labeller: Labeller
    outputs: Outputs
    journal: Journal
    options: PredictOptions
    blocks: Grid
    stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def prepare(
        cls, ensemble: Ensemble, volume: Volume, folder: Path, options: PredictOptions
    ) -> _Prediction:
        labeller = Labeller.of(ensemble, volume, options)
        layout = layout_for(labeller.tiling.core, volume.shape)
        outputs = Outputs(folder, options.outputs, volume.shape, layout, ensemble.schema)
        journal = Journal(folder / "journal")
        block = options.block or _block_of(journal, layout, options)
        blocks = Grid(volume.shape, check_block(block, layout, volume.shape))
        check_memory(blocks, len(ensemble.schema) if "probabilities" in options.save else 0)
        return cls(ensemble, labeller, outputs, journal, options, blocks)

    def plan(self) -> dict[str, Any]:
        """All that decides a byte of the outputs, and the blocks that the journal counts."""
        volume, tiling = self.labeller.volume, self.labeller.tiling
        return {
            "model": [m.id for m in self.ensemble.members],
            "input": volume.id,
            "shape": list(volume.shape),
            "intensity": [self.labeller.intensity.mean, self.labeller.intensity.std],
            "core": list(tiling.core),
            "context": list(tiling.context),
            **self.labeller.fusion.runtime.describe(),
            "flips": self.options.flips,
            "outputs": list(self.options.outputs),
            "block": list(self.blocks.cell),
        }

    def run(self, on_progress: Progress | None, provenance: dict[str, Any]) -> Prediction:
        start = time.monotonic()
        found = compare(self.labeller.volume.name, self.labeller.intensity, self.ensemble.fingerprint)
        for text in found:
            warnings.warn(text, DensemWarning, stacklevel=3)
        _refuse_finished(self.outputs.folder, self.options)
        self.outputs.check_disk(self._missing_share())
        with self.journal.lock():
            self.begin()
            report = self.work(on_progress)
            self.finish({**provenance, "warnings": list(found)})
        classes = open_volume(self.outputs.path("classes"))
        return Prediction(self.outputs.folder, classes, found, report, time.monotonic() - start)

    def begin(self) -> None:
        """Start anew or take up what is there."""
        outputs, journal = self.outputs, self.journal
        if self.options.overwrite:
            remove(outputs.folder)
            journal.forget()
        if not (journal.begin(self.plan()) and outputs.begun):
            journal.keep(set())
            outputs.create()

    def _missing_share(self) -> float:
        if self.options.overwrite or self.journal.plan() != self.plan():
            return 1.0
        done = sum(self.blocks.box(i).size for i in self.journal.done())
        return 1 - done / self.labeller.volume.box.size

    def work(self, on_progress: Progress | None) -> Report:
        """Do the missing blocks; those the journal knows are compared with the disk first."""
        self.journal.keep(
            {
                i
                for i, r in self.journal.records().items()
                if self.outputs.holds(self.blocks.box(i), r["digests"])
            }
        )
        counter = _Counter(on_progress, self.stop, self.labeller.volume.box.size)
        counter.add(sum(self.blocks.box(i).size for i in self.journal.done()))
        task = _Task(self.labeller, self.outputs, counter, self.options.workers)
        # Every worker keeps all of torch's threads: their number decides the last bit of a softmax.
        run_options = RunOptions(self.options.workers, self.options.retries, stop=self.stop)
        return run(task, self.blocks, self.journal, run_options)

    def finish(self, provenance: dict[str, Any]) -> None:
        """Metadata, pyramids, names."""
        records = self.journal.records()
        volume = self.labeller.volume
        counts: Counter[str] = Counter()
        for r in records.values():
            counts.update(r["counts"])
        record = {
            "provenance": {
                "densem": __version__,
                "model_name": self.ensemble.name,
                "model_id": self.ensemble.id,
                "input_name": volume.name,
                **{k: v for k, v in self.plan().items() if k != "block"},
                **provenance,
            },
            "label_counts": dict(sorted(counts.items(), key=lambda c: int(c[0]))),
        }
        digests: dict[int, Digests] = {i: r["digests"] for i, r in records.items()}
        self.outputs.finish(self.blocks, digests, (volume.voxel_size_nm, volume.offset_nm), record)


@dataclass
class _Counter:
    """Voxels done, told after every tile; notices that the run is being stopped."""

    on_progress: Progress | None
    stop: threading.Event
    total: int
    done: int = 0
    settled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, voxels: int) -> None:
        if self.stop.is_set():
            raise Stopped("stopped")
        with self.lock:
            self.done += voxels
            if self.on_progress is not None:
                self.on_progress(min(self.done, self.total), self.total)

    def take_back(self, voxels: int) -> None:
        """The block they were in failed."""
        with self.lock:
            self.done -= voxels


@dataclass(frozen=True)
class _Task:
    """Does one block: every tile of it, then writes and verifies."""

    labeller: Labeller
    outputs: Outputs
    counter: _Counter
    workers: int

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        arrays = {n: self._empty(n, box) for n in self.outputs.names}
        made: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "classes": lambda p: fusion.classes(p, self.outputs.schema.ids),
            "confidence": fusion.confidence,
            "entropy": fusion.entropy,
            "probabilities": lambda p: p,
        }
        done = 0
        try:
            for piece, p in self.labeller.pieces(self.labeller.tiling.cores(box)):
                self._keep_memory()
                with torch.inference_mode():
                    for name, array in arrays.items():
                        place(array, box, piece, made[name](p).cpu().numpy())
                self.counter.add(piece.size)
                done += piece.size
            digests = self.outputs.write(box, arrays)
        except BaseException:
            self.counter.take_back(done)
            raise
        counts = count_labels([arrays["classes"]])
        return {"digests": digests, "counts": counts}

    def _keep_memory(self) -> None:
        """After the first tile of all: from now on the memory of a tile is kept for the next."""
        if not self.counter.settled and self.labeller.fusion.runtime.device == "cpu":
            self.counter.settled = True
            keep_memory(self.workers)

    def _empty(self, name: str, box: Box) -> np.ndarray:
        if name == "probabilities":
            return np.empty((len(self.outputs.schema), *box.shape), np.float32)
        return np.empty(box.shape, np.uint8)


def _block_of(journal: Journal, layout: Layout, options: PredictOptions) -> Triple:
    """The block of the unfinished run that is there, if it fits; else one shard."""
    known = None if options.overwrite else journal.plan()
    block = triple(known.get("block", layout.shard)) if known else layout.shard
    return block if round_up(block, layout.shard) == block else layout.shard


def check_block(block: Triple, layout: Layout, shape: Triple) -> Triple:
    """A block of whole shards, or reaching the end of the volume.

    Raises:
        ConfigError: with the nearest block that is.
    """
    whole = round_up(triple(max(1, b) for b in block), layout.shard)
    fits = all(b % s == 0 or b >= n for b, s, n in zip(block, layout.shard, shape, strict=True))
    if min(block) < 1 or not fits:
        raise ConfigError(
            f"--block {' '.join(map(str, block))}: expected whole multiples of the shard "
            f"{' '.join(map(str, layout.shard))} (z y x), so that no two blocks write one file; "
            f"give {' '.join(map(str, whole))}"
        )
    return whole


def check_memory(blocks: Grid, channels: int) -> None:
    """Refuse a block that cannot be held.

    Raises:
        ResourceError: with what is needed and what is free.
    """
    size = blocks.box(0).size * (8 + 8 * channels)
    free = int(psutil.virtual_memory().available)
    if size > 0.8 * free:
        raise ResourceError(
            f"--block {' '.join(map(str, blocks.cell))}: such a block needs about {size / 1e9:.1f} GB "
            f"of memory, {free / 1e9:.1f} GB are free; give a smaller --block"
        )


def _refuse_finished(folder: Path, options: PredictOptions) -> None:
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
