"""What made a record: versions, machine, commit; and how much memory a part of a run held."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from densem import __version__
from densem.experiments.record import MadeBy
from densem.inference.machine import Cores

log = logging.getLogger(__name__)


def made_by() -> MadeBy:
    """Facts of this process and now."""
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return MadeBy(
        densem=__version__,
        commit=_commit(),
        torch=torch.__version__,
        machine=f"{_processor()}, {Cores.look().usable} cores",
        device=device,
        host=platform.node() or None,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Of the checkout this file lies in, marked + where files were changed; None if it lies in none."""
    here = Path(__file__).parent
    try:
        if not _git(here, "ls-files", Path(__file__).name):  # installed inside somebody else's checkout
            return None
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
        return _git(here, "rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


class PeakMemory:
    """Measures the largest memory that the process held within it, of a card's where one computes.

    Attributes:
        mb: megabytes (10^6 bytes), once it has been left; None where the system does not tell.
    """

    mb: float | None = None

    def __enter__(self) -> Self:
        """Begin to measure."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._known = _forget_peak()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note what was held at most."""
        if torch.cuda.is_available():
            self.mb = torch.cuda.max_memory_allocated() / 1e6
        elif self._known:
            lines = Path("/proc/self/status").read_text().splitlines()
            self.mb = 1.024e-3 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _forget_peak() -> bool:
    """Let the system's record of the largest memory begin anew; whether it did (Linux)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(descriptor, b"5")
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
