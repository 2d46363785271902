"""Machine: the cores and the memory that this process may use.

Containers and schedulers give a process less than the machine has: through its affinity, or through limits of
its control group (cgroup) and of the groups above it. The tightest one counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Cores:
    """Cores that may be used, of those present."""

    usable: int
    present: int

    @classmethod
    def look(cls) -> Cores:
        """Ask the system."""
        present = psutil.cpu_count() or 1
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
        return cls(max(1, int(min([allowed, *_quotas()]))), present)


@dataclass(frozen=True)
class Memory:
    """Bytes that may be used in all, and bytes free now.

    Attributes:
        total: of the machine, or the limit that is set.
        free: what can be had without swapping.
        limited: whether a limit is set below what the machine has.
    """

    total: int
    free: int
    limited: bool

    @classmethod
    def look(cls) -> Memory:
        """Ask the system."""
        machine = psutil.virtual_memory()
        total, free = int(machine.total), int(machine.available)
        for limit, used in _memory_limits():
            total, free = min(total, limit), min(free, max(0, limit - used))
        return cls(total, free, total < machine.total)


def _quotas() -> Iterator[float]:
    """Cores' worth of time a group may use: `cpu.max` holds microseconds, and per how many of them."""
    for group in _groups():
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            quota, period = map(int, (group / "cpu.max").read_text().split())
            yield quota / period


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Bytes a group may hold and holds; cgroup v2, then v1."""
    for group in _groups():
        yield from _limit(group, "memory.max", "memory.current", "inactive_file")
    for group in _groups("memory"):
        yield from _limit(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _limit(group: Path, limit: str, used: str, cache: str) -> Iterator[tuple[int, int]]:
    """One group's; files that were read once and can be let go are not counted as held."""
    with contextlib.suppress(OSError, ValueError):
        lines = (group / "memory.stat").read_text().splitlines()
        statistics = dict(line.split() for line in lines)
        held = int((group / used).read_text()) - int(statistics.get(cache, 0))
        yield int((group / limit).read_text()), held


def _groups(controller: str = "") -> list[Path]:
    """Folder of this process's group and of those above it; no controller: cgroup v2."""
    try:
        lines = [line.split(":", 2) for line in MEMBERSHIP.read_text().splitlines()]
    except OSError:
        return []
    own = next((path for _, controllers, path in lines if controller in controllers.split(",")), None)
    if own is None:
        return []
    root = GROUPS / controller
    steps = Path(own.strip("/")).parts
    return [root.joinpath(*steps[:n]) for n in range(len(steps), -1, -1)]
