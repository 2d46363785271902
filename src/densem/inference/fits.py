"""Fits: whether a prediction fits the disk, the memory and the jobs there are; else the smallest change."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from densem.blocks import Grid, Triple, triple
from densem.inference.footprint import Footprint
from densem.inference.job_limits import JobLimits, as_memory, as_slurm_time
from densem.inference.machine import Memory
from densem.inference.measurement import Measurement
from densem.inference.memory_needs import SHARE, Blocks, MemoryNeeds, largest_block
from densem.inference.prepared import Prepared
from densem.inference.quantities import count_text, size_text, time_text
from densem.inference.workload import Times

SPARE_FILES = 100
"""Files of the journal and its logs, beside those of the outputs."""


@dataclass(frozen=True)
class Room:
    """What there is.

    Attributes:
        disk: free bytes where the prediction goes.
        disk_needed: bytes at the most.
        inodes: files and folders that can still be made there; None where the file system sets no limit.
        memory: free bytes here.
    """

    disk: int
    disk_needed: int
    inodes: int | None
    memory: int

    @classmethod
    def look(cls, folder: Path, disk_needed: int) -> Room:
        """Ask the system."""
        where = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        return cls(int(psutil.disk_usage(str(where)).free), disk_needed, _inodes(where), Memory.look().free)


def _inodes(where: Path) -> int | None:
    if not hasattr(os, "statvfs"):
        return None
    found = os.statvfs(where)
    return found.f_favail if found.f_files else None


@dataclass(frozen=True)
class Needs:
    """What a prediction asks for.

    Attributes:
        folder: where it goes.
        prepared: blocks and outputs.
        footprints: of each output.
        memory: of one worker.
        times: at the measured rates.
        workers: in one process, with the local engine.
        left: share of the volume that is not done yet.
    """

    folder: Path
    prepared: Prepared
    footprints: Mapping[str, Footprint]
    memory: MemoryNeeds
    times: Times
    workers: int
    left: float = 1.0

    @property
    def block(self) -> Triple:
        """Shape of a block."""
        return self.prepared.blocks.box(0).shape


def refusals(needs: Needs, room: Room, limits: JobLimits | None, measured: Measurement) -> tuple[str, ...]:
    """Why a prediction cannot be done like this; empty where it can."""
    found = [_disk(needs, room), _files(needs, room)]
    if limits is not None:
        found += [_job_memory(needs, limits), _job_time(needs, limits, measured)]
    elif needs.prepared.options.engine == "local":
        found += [_memory(needs, room)]
    return tuple(f for f in found if f)


# ---- disk ------------------------------------------------------------------------------------


def _disk(needs: Needs, room: Room) -> str:
    if room.disk_needed <= room.disk:
        return ""
    total = Footprint.total(needs.footprints.values()).largest
    share = room.disk_needed / max(1, total)
    change = _fewer(needs, lambda f: share * f.largest <= room.disk, lambda f: size_text(share * f.largest))
    return (
        f"{needs.folder}: expected up to {size_text(room.disk_needed)} of disk "
        f"({', '.join(needs.footprints)}), found {size_text(room.disk)} free there; {change}free "
        f"{size_text(room.disk_needed - room.disk)} or write to another disk"
    )


def _files(needs: Needs, room: Room) -> str:
    total = Footprint.total(needs.footprints.values())
    free = room.inodes
    if free is None or total.inodes + SPARE_FILES <= free:
        return ""
    change = _fewer(
        needs, lambda f: f.inodes + SPARE_FILES <= free, lambda f: count_text(f.inodes + SPARE_FILES)
    )
    return (
        f"{needs.folder}: expected room for {count_text(total.inodes + SPARE_FILES)} files and folders, "
        f"found {count_text(free)} that the file system there can still make; {change}write to another disk"
    )


def _fewer(needs: Needs, fits: Callable[[Footprint], bool], said: Callable[[Footprint], str]) -> str:
    """What to leave away, of what was asked for beside classes and confidence, so that the rest fits."""
    for away in (("entropy",), ("probabilities",), ("entropy", "probabilities")):
        if set(away) <= set(needs.footprints):
            rest = Footprint.total(f for n, f in needs.footprints.items() if n not in away)
            if fits(rest):
                return f"without --save {','.join(away)} {said(rest)} would do; else "
    return ""


# ---- memory ----------------------------------------------------------------------------------


def _memory(needs: Needs, room: Room) -> str:
    memory, free = needs.memory, room.memory
    if memory.together(needs.workers) <= free and memory.block_bytes <= SHARE * free:
        return ""
    fewer = int((free - memory.process_bytes) // (memory.window_bytes + memory.block_bytes))
    if 1 <= fewer < needs.workers and memory.block_bytes <= SHARE * free:
        change = f"--workers {fewer} would fit"
    else:
        left = min((free - memory.process_bytes) / needs.workers - memory.window_bytes, SHARE * free)
        change = _smaller_block(needs, left, free)
    return (
        f"--block {_words(needs.block)}, {needs.workers} at a time: expected "
        f"{size_text(memory.together(needs.workers))} of memory, found {size_text(free)} free; {change}"
    )


def _smaller_block(needs: Needs, left: float, free: float) -> str:
    block = Blocks.of(needs.prepared).largest_within(needs.block, left)
    if block is not None:
        return f"--block {_words(block)} would fit"
    least = needs.memory.process_bytes + needs.memory.window_bytes
    least += Blocks.of(needs.prepared).size(_least(needs))
    more = size_text(max(0, least - free))
    return f"even a block of one shard needs {size_text(least)}: have {more} more free"


def _least(needs: Needs) -> Triple:
    shard, shape = needs.prepared.outputs.layout.shard, needs.prepared.blocks.shape
    return triple(min(s, n) for s, n in zip(shard, shape, strict=True))


# ---- jobs ------------------------------------------------------------------------------------


def _job_memory(needs: Needs, limits: JobLimits) -> str:
    memory = needs.memory
    if memory.worker <= limits.memory:
        return ""
    left = limits.memory - memory.process_bytes - memory.window_bytes
    block = Blocks.of(needs.prepared).largest_within(needs.block, left)
    smaller = "" if block is None else f", or --block {_words(block)}"
    return (
        f"slurm.toml: expected at least {size_text(memory.worker)} of memory for a job with blocks of "
        f"{_words(needs.block)}, found {size_text(limits.memory)}; memory = "
        f'"{as_memory(memory.worker)}" would fit{smaller}'
    )


def _job_time(needs: Needs, limits: JobLimits, measured: Measurement) -> str:
    """Only where this machine and the jobs have the same kind of device; else times say nothing."""
    if needs.times.block <= limits.seconds or bool(limits.gpus) == measured.device.startswith("cpu"):
        return ""
    shards = Grid(needs.prepared.blocks.shape, needs.prepared.outputs.layout.shard)
    seconds = _block_seconds(needs, measured)
    block = largest_block(shards, needs.block, lambda b: seconds(b) <= limits.seconds)
    smaller = "" if block is None else f", or --block {_words(block)}"
    return (
        f"slurm.toml: expected a job to last for one block, {time_text(needs.times.block)} as measured here, "
        f"found {time_text(limits.seconds)} (the shorter of time and lifetime); time = "
        f'"{as_slurm_time(needs.times.block)}" would fit{smaller}'
    )


def _block_seconds(needs: Needs, measured: Measurement) -> Callable[[Triple], float]:
    """Seconds of a block of any shape: its windows, and its voxels at the rate of the block there is."""
    core = needs.prepared.labeller.tiling.core

    def windows(block: Triple) -> float:
        count = math.prod(-(-b // c) for b, c in zip(block, core, strict=True))
        return count * measured.window_seconds

    rest = (needs.times.block - windows(needs.block)) / math.prod(needs.block)
    return lambda block: windows(block) + rest * math.prod(block)


def _words(sides: Triple) -> str:
    return " ".join(map(str, sides))
