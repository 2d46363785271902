"""Doctor: what this machine has that densem uses, what is amiss, and what to do about it.

1. A check looks at one thing and says what it found, whether that is well, and what to do.
2. All checks run at the same time; one that fails or does not answer is a finding as well.
3. Only a problem is a reason to act; a note says what could be better or is not there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

import densem
from densem.inference.disk import DiskSpeed, locks_hold
from densem.inference.machine import Cores, Memory
from densem.networks.hardware import has_amx, has_bf16, processor

State = Literal["ok", "note", "problem"]

COMMAND_SECONDS = 5.0  # for a command of the system
CHECK_SECONDS = 7.0  # for all checks together
MEGABYTE, GIGABYTE = 1_000_000, 1_000_000_000
DISK_PIECE = 128 * MEGABYTE
SLOW_DISK = 50 * MEGABYTE
LOCK_ERRORS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
TORCH = "pip install 'torch>=2.6,!=2.9.0'"
# Newest CUDA that a driver knows -> the build of torch for it; 12.6 runs on every driver for CUDA 12.
WHEELS = ((13, "cu130"), (12, "cu126"))
INDEX = "https://download.pytorch.org/whl/"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        found: the fact.
        state: `ok`; `note`: works, could be better or is not there; `problem`: to be mended.
        advice: what to do; empty where nothing is.
    """

    found: str
    state: State = "ok"
    advice: str = ""


Check = Callable[[], Finding]


@dataclass(frozen=True)
class Diagnosis:
    """The findings of all checks by their names."""

    findings: dict[str, Finding]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return not self.count("problem")

    def count(self, state: State) -> int:
        """How many findings are in this state."""
        return sum(f.state == state for f in self.findings.values())

    def summary(self) -> str:
        """One line for a person."""
        counts = {state: self.count(state) for state in ("problem", "note")}
        said = [f"{n} {state}{'s' if n > 1 else ''}" for state, n in counts.items() if n]
        return f"{len(self.findings)} checks: {', '.join(said) or 'all is well'}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        checks = [{"check": name, **asdict(finding)} for name, finding in self.findings.items()]
        return {"healthy": self.healthy, "checks": checks}


def checks(folder: Path) -> dict[str, Check]:
    """All checks by their names, in the order in which they are shown.

    Args:
        folder: whose disk is measured.
    """
    return {
        "Python": python,
        "densem": densem_itself,
        "PyTorch": pytorch,
        "CUDA": cards,
        "bf16": bf16,
        "OpenVINO": openvino,
        "cores": cores,
        "threads": threads,
        "memory": memory,
        "disk": lambda: disk(folder),
        "locks": lambda: file_locks(folder),
        "Slurm": slurm,
        "Dask": dask,
        "compiler": compiler,
    }


def examine(folder: Path) -> Diagnosis:
    """Run all checks; takes some seconds, and never longer than `CHECK_SECONDS`."""
    visits = {name: _Visit(check) for name, check in checks(folder).items()}
    end = time.monotonic() + CHECK_SECONDS
    for visit in visits.values():
        visit.start()
    return Diagnosis({name: visit.finding(end - time.monotonic()) for name, visit in visits.items()})


@dataclass
class _Visit:
    """One check in a thread of its own, which is left behind if it does not answer."""

    check: Check
    answer: list[Finding] = field(default_factory=list)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.answer.append(self.check())
        except Exception as error:
            text = f"could not be checked: {type(error).__name__}: {' '.join(str(error).split())}"
            self.answer.append(Finding(text, "note", "please report this to densem's developers"))

    def finding(self, seconds: float) -> Finding:
        self.thread.join(max(0.0, seconds))
        if self.answer:
            return self.answer[0]
        text = f"no answer within {CHECK_SECONDS:.0f} s"
        return Finding(text, "problem", "see whether a network disk hangs or the machine is overloaded")


def python() -> Finding:
    """Whether Python is new enough."""
    version = platform.python_version()
    if _release(version) < (3, 11):
        return Finding(version, "problem", "make a new environment with Python 3.11 or newer")
    return Finding(version)


def densem_itself() -> Finding:
    """Which densem this is, and where it lies."""
    return Finding(f"{densem.__version__}, in {Path(densem.__file__).parent}")


def pytorch() -> Finding:
    """Whether this release of torch is known to be bad."""
    version = str(torch.__version__)
    release = _release(version)
    if release < (2, 6):
        return Finding(f"{version}, older than 2.6", "problem", TORCH)
    if release == (2, 9, 0):
        return Finding(f"{version}: 3D convolutions in bf16 are about 4 times slower", "problem", TORCH)
    if release[:2] == (2, 13) and has_amx():
        found = f"{version}: on this processor (AMX), training torch's own 3D convolutions in bf16 is unsafe"
        return Finding(found, "note", "densem's layers avoid it; train other networks in float32")
    return Finding(version)


def cards() -> Finding:
    """Which NVIDIA cards can be used; if none, why."""
    if torch.cuda.is_available():
        return Finding("; ".join(_card(i) for i in range(torch.cuda.device_count())))
    if not shutil.which("nvidia-smi"):
        return Finding("none found", "note", "nothing; networks run on the processor")
    try:
        return _unused_cards(_ask("nvidia-smi", "-L"), _ask("nvidia-smi"))
    except OSError as error:
        advice = "if the machine has a card, repair its driver; else nothing"
        return Finding(f"nvidia-smi: {error}", "note", advice)


def _card(index: int) -> str:
    facts = torch.cuda.get_device_properties(index)
    with torch.cuda.device(index):
        has = "has" if has_bf16("cuda") else "no"
    return f"{facts.name}, {_gigabytes(facts.total_memory)}, {has} bf16"


def _unused_cards(listed: str, status: str) -> Finding:
    """Cards are there and torch cannot use them.

    Args:
        listed: what `nvidia-smi -L` says, a line for each card.
        status: what `nvidia-smi` says; its heading names the newest CUDA of the driver.
    """
    names = re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listed, re.MULTILINE)
    if not names:
        return Finding("nvidia-smi lists none", "note", "nothing; networks run on the processor")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden in ("", "-1"):
        found = f"{'; '.join(names)}: hidden by CUDA_VISIBLE_DEVICES={hidden}"
        return Finding(found, "note", "unset CUDA_VISIBLE_DEVICES to use it")
    built = f"was built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a build without CUDA"
    known = re.search(r"CUDA (?:UMD )?Version: *(\d+)\.(\d+)", status)
    driver = f"; the driver knows CUDA {known[1]}.{known[2]}" if known else ""
    found = f"{'; '.join(names)}, not usable: torch {torch.__version__} {built}{driver}"
    return Finding(found, "problem", _wheel(int(known[1]) if known else WHEELS[-1][0]))


def _wheel(driver: int) -> str:
    """How to install the torch for a driver that knows this major version of CUDA."""
    for cuda, name in WHEELS:
        if driver >= cuda:
            return f"pip install --force-reinstall torch --index-url {INDEX}{name}"
    return f"update the NVIDIA driver to one for CUDA {WHEELS[-1][0]} or newer"


def bf16() -> Finding:
    """Whether the processor computes in bf16."""
    sets = processor().removeprefix("cpu ").replace("+", ", ")
    if has_bf16("cpu"):
        return Finding(f"the processor has it ({sets})")
    return Finding(f"the processor lacks it ({sets})", "note", "nothing; float32 is used")


def openvino() -> Finding:
    """Whether the OpenVINO runtime is there."""
    version = _version("openvino")
    if version is None:
        return Finding("not installed", "note", "for predicting with it: pip install 'densem[openvino]'")
    return Finding(version)


def cores() -> Finding:
    """How many cores may be used."""
    seen = Cores.look()
    if seen.usable < seen.present:
        advice = "for more, ask the scheduler (Slurm: --cpus-per-task) or raise the container's limit"
        return Finding(f"{seen.usable} usable of {seen.present}", "note", advice)
    return Finding(f"{seen.usable}")


def threads() -> Finding:
    """Whether torch takes as many threads as there are cores; half of them is one for each pair of cores."""
    count, usable = torch.get_num_threads(), Cores.look().usable
    setting = os.environ.get("OMP_NUM_THREADS")
    found = f"torch uses {count} for {usable} usable cores"
    if count > usable:
        return Finding(f"{found}: they get into each other's way", "note", f"export OMP_NUM_THREADS={usable}")
    if setting and count < usable:
        return Finding(found, "note", f"unset OMP_NUM_THREADS (it is {setting})")
    if count < usable // 2:
        return Finding(found, "note", f"export OMP_NUM_THREADS={usable}")
    return Finding(found)


def memory() -> Finding:
    """Whether there is memory to work in."""
    seen = Memory.look()
    limit = ", a limit set for this process" if seen.limited else ""
    found = f"{_gigabytes(seen.free)} free of {_gigabytes(seen.total)}{limit}"
    advice = "raise the limit (Slurm: --mem)" if seen.limited else "close other programs"
    if seen.free < 4 * GIGABYTE:
        state: State = "problem" if seen.free < GIGABYTE else "note"
        return Finding(found, state, f"{advice}, or take smaller patches and blocks")
    return Finding(found)


def disk(folder: Path) -> Finding:
    """Whether the disk of a folder has room and is fast enough."""
    try:
        if not folder.is_dir():
            what = "a file" if folder.exists() else "nothing is there"
            return Finding(f"{folder}: expected a folder, {what}", "problem", "give a folder that is there")
        return _measured(folder, int(psutil.disk_usage(str(folder)).free))
    except OSError as error:
        return _unwritable(folder, error)


def _measured(folder: Path, free: int) -> Finding:
    """Never more than a tenth of what is free is written."""
    room = f"{_gigabytes(free)} free in {folder.resolve()}"
    if free < GIGABYTE:
        return Finding(room, "problem", "make room, or take another disk")
    speed = DiskSpeed.measure(folder, min(DISK_PIECE, free // 10))
    found = f"{room}; writes {_megabytes(speed.write)}, reads {_megabytes(speed.read)}"
    if min(speed.write, speed.read) < SLOW_DISK:
        return Finding(found, "note", "slow: keep studies on a local disk while working on them")
    return Finding(found)


def file_locks(folder: Path) -> Finding:
    """Whether two runs in one folder would notice each other."""
    if not folder.is_dir():
        return Finding("not checked", "note", "give a folder that is there")
    try:
        hold = locks_hold(folder)
    except OSError as error:
        if error.errno in LOCK_ERRORS:
            return _without_locks(f"files cannot be locked: {error.strerror}")
        return _unwritable(folder, error)
    if hold is None:
        return _without_locks("this system has no file locks")
    return Finding("files can be locked") if hold else _without_locks("a lock does not keep others out here")


def _without_locks(found: str) -> Finding:
    return Finding(found, "problem", "keep studies on another disk, or never start two runs on one")


def _unwritable(folder: Path, error: OSError) -> Finding:
    found = f"{folder}: cannot be written: {error.strerror or error}"
    return Finding(found, "problem", "give a folder that you may write to")


def slurm() -> Finding:
    """Whether jobs can be given to Slurm."""
    missing = [name for name in ("sbatch", "sinfo") if not shutil.which(name)]
    if len(missing) == 2:
        return Finding("not found", "note", "only needed for clusters: there, type this on the login node")
    if missing:
        return Finding(f"{missing[0]} is missing", "problem", "load the cluster's Slurm module")
    try:
        partitions = _ask("sinfo", "--noheader", "--format=%R").split()
    except OSError as error:
        return Finding(f"sinfo: {error}", "problem", "try `scontrol ping`; ask who runs the cluster")
    if not partitions:
        return Finding("found, no partitions", "problem", "ask who runs the cluster for access to one")
    return Finding(f"partitions: {', '.join(dict.fromkeys(partitions))}")


def dask() -> Finding:
    """Whether Dask and its way to clusters are there."""
    versions = {name: _version(name) for name in ("dask", "distributed", "dask-jobqueue")}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        advice = "to work on a cluster: pip install 'densem[cluster]'"
        return Finding(f"{', '.join(missing)} not installed", "note", advice)
    return Finding(", ".join(f"{name} {version}" for name, version in versions.items()))


def compiler() -> Finding:
    """Whether `torch.compile` could compile for the processor."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    path = next((path for name in names if name and (path := shutil.which(name))), None)
    if path is None:
        return Finding("no C++ compiler found", "note", "only torch.compile needs one: install g++ or clang")
    return Finding(path)


def _ask(*command: str) -> str:
    """What a command prints.

    Raises:
        OSError: if it fails or does not answer within `COMMAND_SECONDS`; says which.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            said, complaint = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            _end(process)
            raise OSError(f"no answer within {COMMAND_SECONDS:.0f} s") from None
    if process.returncode:
        lines = (complaint or said).strip().splitlines()
        raise OSError(lines[-1] if lines else f"exit code {process.returncode}")
    return said


def _end(process: subprocess.Popen[str]) -> None:
    """End a command with all that it started, which would go on without it."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()


def _version(package: str) -> str | None:
    """Of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _release(version: str) -> tuple[int, ...]:
    """`2.9.0+cu126` as (2, 9, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _gigabytes(size: int) -> str:
    return f"{size / GIGABYTE:.0f} GB" if size >= 10 * GIGABYTE else f"{size / GIGABYTE:.1f} GB"


def _megabytes(rate: float) -> str:
    return f"{rate / MEGABYTE:.0f} MB/s"
