"""Job limits: memory and time of a Slurm job, as numbers.

Slurm's times are `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]`;
memory is `16GB` (powers of 1000) or `16GiB` (of 1024).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from densem.blocks.slurm import SlurmSettings

STEP = 600


@dataclass(frozen=True)
class JobLimits:
    """What one job may use, and how many there are.

    Attributes:
        memory: bytes.
        seconds: until it is ended, or ends itself.
        jobs: at the same time.
        gpus: 0 or 1.
        cores: of a job.
    """

    memory: int
    seconds: float
    jobs: int
    gpus: int
    cores: int

    @classmethod
    def of(cls, settings: SlurmSettings) -> JobLimits:
        """Of a slurm.toml."""
        seconds = min(slurm_seconds(settings.time), settings.lifetime_seconds)
        return cls(memory_bytes(settings.memory), seconds, settings.jobs, settings.gpus, settings.cores)


def memory_bytes(text: str) -> int:
    """Bytes of such as `16GB` or `1.5 GiB`."""
    number, unit = re.fullmatch(r"([\d.]+) ?([KMGT]i?)B", text).groups()  # type: ignore[union-attr]
    base = 1024 if unit.endswith("i") else 1000
    return int(float(number) * base ** ("KMGT".index(unit[0]) + 1))


def slurm_seconds(text: str) -> float:
    """Seconds of a time as `sbatch --time` takes it."""
    days, _, rest = text.rpartition("-")
    parts = [int(p) for p in rest.split(":")]
    if days:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def as_slurm_time(seconds: float) -> str:
    """A time for slurm.toml, up to the next ten minutes: `4:10:00`."""
    minutes = math.ceil(seconds / STEP) * STEP // 60
    return f"{minutes // 60}:{minutes % 60:02d}:00"


def as_memory(size: float) -> str:
    """Memory for slurm.toml, up to the next whole GB: `17GB`."""
    return f"{math.ceil(size / 1e9)}GB"
