"""Preflight: what a prediction will cost, and whether it fits, before any of it is done.

1. The prediction is prepared as it would be to run: what that refuses is refused here with the same words.
2. Disk and files are counted, one window is measured on this machine, and both are scaled to the volume.
3. What does not fit is said with what was expected, what was found and the smallest change that would fit.

Nothing is written, and no job of a cluster is started.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from densem.blocks import Grid
from densem.blocks.slurm import SlurmSettings
from densem.errors import EmptyError
from densem.inference.domain import compare
from densem.inference.fits import Needs, Room, refusals
from densem.inference.footprint import Footprint, levels_of
from densem.inference.job import check_reachable
from densem.inference.job_limits import JobLimits
from densem.inference.labeller import TOLERANCE, check_sizes, same_size
from densem.inference.measurement import SECONDS, Measurement, Probe, measure
from densem.inference.memory_needs import MemoryNeeds
from densem.inference.options import PredictOptions
from densem.inference.outputs import Outputs
from densem.inference.place import Place
from densem.inference.prediction import refuse_finished
from densem.inference.prepared import Prepared, check_block
from densem.inference.quantities import time_text
from densem.inference.region import Region
from densem.inference.resample import STAGE, at_size
from densem.inference.runtime import ENTRIES
from densem.inference.workload import Times, Workload, times
from densem.model import Ensemble, Model
from densem.volumes import Intensity, Volume
from densem.volumes.intensity import measure_intensity

_log = logging.getLogger(__name__)
FLEETS = (1, 8, 64)
"""Numbers of workers for which the time is said."""


@dataclass(frozen=True)
class Preflight:
    """What a prediction will cost.

    Attributes:
        folder: where it would be written.
        volume: name, shape and voxel size of the image.
        models: names, in order.
        prepared: tiles, blocks and outputs.
        workload: what there is to do.
        footprints: of each output on disk; those of the model's voxel size are there for a time only.
        measured: one window on this machine.
        place: where it lies.
        memory: of one worker.
        room: what there is.
        times: scaled from the window.
        workers: blocks in work at the same time.
        limits: of a Slurm job.
        notes: what a person should know.
        refusals: why it cannot be done like this; empty where it can.
    """

    folder: Path
    volume: Volume
    models: tuple[str, ...]
    prepared: Prepared
    workload: Workload
    footprints: Mapping[str, Footprint]
    measured: Measurement
    place: Place
    memory: MemoryNeeds
    room: Room
    times: Times
    workers: int
    limits: JobLimits | None = None
    notes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    expected_bytes: int = 0

    @property
    def resampled(self) -> bool:
        """Whether the labels are brought back from the model's voxel size at the end."""
        return self.prepared.outputs.folder != self.folder

    @property
    def unit(self) -> str:
        """What work is counted in."""
        return "worker-hours" if self.measured.device.startswith("cpu") else "GPU-hours"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: bytes, seconds and hours, sides as (z, y, x)."""
        return {
            "folder": str(self.folder),
            "volume": self._volume_facts(),
            "models": list(self.models),
            "tiles": self._tile_facts(),
            "blocks": self._block_facts(),
            "disk": self._disk_facts(),
            "files": self._file_facts(),
            "memory": {**asdict(self.memory), "worker_bytes": self.memory.worker, "workers": self.workers,
                       "free_bytes": self.room.memory},
            "measured": {**asdict(self.measured), "box": str(self.place.core),
                         "constant": self.place.constant, "read_seconds": self.place.read_seconds},
            "time": self._time_facts(),
            "engine": self._engine_facts(),
            "notes": list(self.notes),
            "refusals": list(self.refusals),
        }  # fmt: skip

    def _volume_facts(self) -> dict[str, Any]:
        volume, seen = self.volume, self.prepared.labeller.volume
        return {
            "name": volume.name,
            "shape": list(volume.shape),
            "voxel_size_nm": list(volume.voxel_size_nm),
            "voxels": volume.box.size,
            "dtype": str(volume.dtype),
            "predicted_shape": list(seen.shape),
            "predicted_voxel_size_nm": list(seen.voxel_size_nm),
        }

    def _tile_facts(self) -> dict[str, Any]:
        tiling = self.workload.tiling
        return {
            "core": list(tiling.core),
            "context": list(tiling.context),
            "window": list(tiling.window(self.place.core).shape),
            "count": len(tiling.grid),
            "voxels_run_per_voxel": tiling.overhead,
            "context_share": 1 - 1 / max(1.0, tiling.overhead),
        }

    def _block_facts(self) -> dict[str, Any]:
        blocks = self.workload.blocks
        count = len(blocks)
        return {
            "count": count,
            "done": count - self.workload.blocks_left,
            "left": self.workload.blocks_left,
            "shape": list(blocks.box(0).shape),
            "voxels": blocks.box(0).size,
            "windows": self.workload.windows_of_a_block,
            "voxels_read_per_voxel": self.workload.read_overhead,
        }

    def _disk_facts(self) -> dict[str, Any]:
        return {
            "largest_bytes": self.room.disk_needed,
            "expected_bytes": self.expected_bytes,
            "free_bytes": self.room.disk,
            "ratio": self.measured.ratio,
            "outputs": {name: f.largest for name, f in self.footprints.items()},
        }

    def _file_facts(self) -> dict[str, Any]:
        total = Footprint.total(self.footprints.values())
        return {
            "files": total.files,
            "folders": total.folders,
            "journal_files": self.workers + 4,
            "free_inodes": self.room.inodes,
            "shard": list(self.prepared.outputs.layout.shard),
            "chunk": list(self.prepared.outputs.layout.chunk),
        }

    def _time_facts(self) -> dict[str, Any]:
        fleets = sorted({*FLEETS, self.workers})
        return {
            "window_seconds": self.measured.window_seconds,
            "block_seconds": self.times.block,
            "computing_seconds": self.times.computing,
            "reading_seconds": self.times.reading,
            "writing_seconds": self.times.writing,
            "end_seconds": self.times.end,
            "unit": self.unit,
            "work_hours": self.times.work / 3600,
            "wall": [{"workers": n, "hours": self.times.wall(n) / 3600} for n in fleets],
        }

    def _engine_facts(self) -> dict[str, Any]:
        options = self.prepared.options
        job = None if self.limits is None else asdict(self.limits)
        return {"name": options.engine, "workers": self.workers, "job": job}


def preflight(
    models: Ensemble | Model, volume: Volume, folder: Path, options: PredictOptions | None = None
) -> Preflight:
    """Say what `predict` with the same arguments will cost; writes nothing.

    Args:
        models: one model or an ensemble.
        volume: the image.
        folder: where the prediction would go.
        options: what would be written, and how.

    Raises:
        DensemError: what `predict` refuses before it begins, but for what `Preflight.refusals` says.
    """
    options, folder = options or PredictOptions(), Path(folder)
    ensemble = models if isinstance(models, Ensemble) else Ensemble([models])
    refuse_finished(folder, options)
    limits = JobLimits.of(SlurmSettings.find(options.settings)) if options.engine == "slurm" else None
    plan = _Plan.of(ensemble, volume, folder, options)
    return _complete(plan, limits)


@dataclass(frozen=True)
class _Plan:
    """A prediction as it would be run, before anything is measured."""

    folder: Path
    volume: Volume
    prepared: Prepared
    workload: Workload
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, ensemble: Ensemble, volume: Volume, folder: Path, options: PredictOptions) -> _Plan:
        seen, target = volume, folder
        if not same_size(ensemble, volume):
            if not options.resample:
                check_sizes(ensemble, volume)
            seen, target = at_size(volume, ensemble.voxel_size_nm, TOLERANCE), folder / STAGE
            options = options.model_copy(update={"affinities": False})  # as `predict` does
        if options.engine != "local":
            check_reachable(seen, options.engine)
        seen, notes = _with_statistics(seen)
        prepared = _prepare(ensemble, seen, target, options)
        found = compare(volume.name, prepared.labeller.intensity, ensemble.fingerprint)
        notes.extend(found)
        return cls(folder, volume, prepared, _workload(prepared), notes)

    @property
    def resampled(self) -> bool:
        """Whether the labels are brought back from the model's voxel size at the end."""
        return self.prepared.outputs.folder != self.folder

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        """All that is on disk at the same time: at the model's voxel size, and on the volume's own grid."""
        staged = self.prepared.outputs
        own = replace(staged, folder=self.folder, shape=self.volume.shape)
        return (staged, own) if self.resampled else (staged,)

    def footprints(self) -> dict[str, Footprint]:
        """Of each output."""
        sizes = [self.prepared.labeller.volume.voxel_size_nm, self.volume.voxel_size_nm]
        found: dict[str, Footprint] = {}
        for name in self.prepared.outputs.names:
            parts = [
                Footprint.of(levels_of(name, o.shape, o.layout, size, o.channels(name)))
                for o, size in zip(self.outputs, sizes, strict=False)
            ]
            found[name] = Footprint.total(parts)
        return found

    def disk_needed(self, footprints: Mapping[str, Footprint]) -> int:
        """Bytes at the most, no less than what `predict` itself asks for before it begins."""
        counted = Footprint.total(footprints.values()).largest
        return int(self.workload.left * max(counted, *(o.largest_size for o in self.outputs)))


def _with_statistics(volume: Volume) -> tuple[Volume, list[str]]:
    """The volume with grey-value statistics; where there is one value only, with some that do no harm."""
    if volume.intensity is not None:
        return volume, []
    try:
        found, notes = measure_intensity(volume), []
    except EmptyError as error:
        found = Intensity(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        notes = [f"densem predict would refuse this volume as it is now: {error}"]
    record = {**volume.attributes, "intensity": found.to_dict(), "id": volume.id}
    return replace(volume, attributes=record), notes


def _prepare(ensemble: Ensemble, volume: Volume, folder: Path, options: PredictOptions) -> Prepared:
    """As `predict` does it; a block that cannot be held is not refused yet.

    Raises:
        IntegrityError: if an unfinished run with other settings lies there.
    """
    prepared = Prepared.prepare(ensemble, volume, folder, options.model_copy(update={"block": None}))
    prepared.options = options
    if options.block is not None:
        cell = check_block(options.block, prepared.outputs.layout, volume.shape)
        prepared.blocks = Grid(volume.shape, cell)
    known = None if options.overwrite else prepared.journal.plan()
    if known is not None:
        if options.engine != "local":
            prepared.runtime = {k: known[k] for k in ENTRIES if k in known}
        prepared.journal.begin(prepared.plan())  # a run is there: this compares and writes nothing
    return prepared


def _workload(prepared: Prepared) -> Workload:
    blocks, box = prepared.blocks, prepared.region.box
    met = len(Grid(blocks.covering(box).shape, blocks.cell))
    done = sum(blocks.box(i).clip(box).size > 0 for i in prepared.done)
    return Workload(prepared.labeller.tiling, blocks, prepared.left, met - done)


def _complete(plan: _Plan, limits: JobLimits | None) -> Preflight:
    prepared = plan.prepared
    place = Place.find(prepared.labeller)
    _log.info("Measuring one window on this machine; for a large network this takes up to a minute")
    measured = measure(_probe(prepared, place, limits))
    footprints = plan.footprints()
    memory = MemoryNeeds.of(prepared, measured)
    workers = max(1, min(limits.jobs if limits else prepared.workers, plan.workload.blocks_left))
    read_seconds = place.read_seconds / max(1, place.block.size)
    found = times(plan.workload, measured, read_seconds, _bring_back_seconds(plan, measured))
    room = Room.look(plan.folder, plan.disk_needed(footprints))
    needs = Needs(plan.folder, prepared, footprints, memory, found, prepared.workers, plan.workload.left)
    expected = plan.workload.left * sum(f.raw * measured.ratio[n] for n, f in footprints.items())
    made = Preflight(
        plan.folder, plan.volume, tuple(m.name for m in prepared.ensemble.members), prepared, plan.workload,
        footprints, measured, place, memory, room, found, workers, limits,
        refusals=refusals(needs, room, limits, measured), expected_bytes=int(expected),
    )  # fmt: skip
    return replace(made, notes=(*plan.notes, *_notes(made)))


def _probe(prepared: Prepared, place: Place, limits: JobLimits | None) -> Probe:
    """What is measured here for the engine: a card only where the workers have one too."""
    options = prepared.options
    backend = prepared.labeller.fusion.runtime.backend
    workers = prepared.workers
    here = options.model_copy(
        update={"engine": "local", "scheduler": None, "runtime": backend, "workers": workers}
    )
    if options.engine != "local":
        wanted = "cpu" if limits is not None and not limits.gpus else options.device
        usable = not wanted.startswith("cuda") or torch.cuda.is_available()
        here = here.model_copy(update={"device": wanted if usable else "cpu", "workers": 1})
    labeller = prepared.labeller
    return Probe(
        prepared.ensemble, place.crop(labeller.volume), labeller.intensity, labeller.tiling, place.core, here,
        prepared.threads, prepared.outputs.layout.chunk, SECONDS, prepared.outputs.names,
    )  # fmt: skip


def _bring_back_seconds(plan: _Plan, measured: Measurement) -> float:
    """Writing all outputs again on the volume's own grid, by one worker."""
    if not plan.resampled:
        return 0.0
    costs = sum(measured.write_seconds.values()) + sum(measured.pyramid_seconds.values())
    return plan.volume.box.size * costs


# ---- notes -----------------------------------------------------------------------------------


def _region_notes(region: Region) -> list[str]:
    if region.mask is None:
        return []
    return [f"what mask {region.mask.name} leaves out is counted as if it were labelled: it takes less"]


def _notes(found: Preflight) -> list[str]:
    return [
        *_place_notes(found.place),
        *_machine_notes(found),
        *_engine_notes(found),
        *_region_notes(found.prepared.region),
        *_end_notes(found),
    ]


def _end_notes(found: Preflight) -> list[str]:
    """Where the end is long: whether more workers would shorten it."""
    end, wall = found.times.end, found.times.wall(found.workers)
    if end <= 0.1 * wall:
        return []
    what = "bringing the labels back to the volume's own voxel size and " if found.resampled else ""
    share = f"{time_text(end)} of the {time_text(wall)} are {what}the coarser levels at the end"
    if found.workers == 1:
        return [f"{share}; with more workers they take less, as blocks do"]
    return [f"{share}, counted as if one worker made them: all {found.workers} do, so that it takes less"]


def _place_notes(place: Place) -> list[str]:
    if not place.constant:
        return []
    return [
        f"the measured window holds a single value, as did all {place.looked} places looked at: compression "
        "is that of such a place, and the expected disk space may be far too small"
    ]


def _machine_notes(found: Preflight) -> list[str]:
    lines = []
    share = found.measured.share_of_processor
    if found.measured.device.startswith("cpu") and share < 0.75:
        lines.append(
            f"this machine was busy: the measurement had {share:.0%} of the processor time that its "
            f"{found.measured.threads} threads could use; left alone it may need as little as {share:.0%} "
            "of the times said"
        )
    options, workers = found.prepared.options, found.prepared.workers
    if options.engine == "local" and workers > 1 and found.measured.device.startswith("cpu"):
        lines.append(
            f"{workers} workers on this machine share its processor: the time is nearer to that of 1 "
            "worker; the table is for machines like this one"
        )
    return lines


def _engine_notes(found: Preflight) -> list[str]:
    options, limits, measured = found.prepared.options, found.limits, found.measured
    if options.engine == "local":
        return []
    lines = [
        f"measured on this machine ({measured.device}, {measured.precision}, {measured.threads} threads), "
        f"not on a worker of the {options.engine} engine, which may be faster or slower"
    ]
    if limits is not None and limits.gpus and measured.device.startswith("cpu"):
        lines.append(
            "jobs have a GPU and this machine has none: times are a processor's, far longer than theirs; run "
            "--dry-run on a machine with such a GPU"
        )
    blocks = limits.seconds / max(1e-9, found.times.block) if limits is not None else 0.0
    if limits is not None and 1 <= blocks < 3:
        lines.append(
            f"a job of {time_text(limits.seconds)} has time for {blocks:.1f} blocks of "
            f"{time_text(found.times.block)}: one that is begun and not finished is lost; a longer time in "
            "slurm.toml wastes less"
        )
    return lines
