"""Child: a run in a process of its own, so that a crash or a kill ends that run alone.

The child is in a session of its own: Ctrl-C reaches it once, from its parent, and it writes a checkpoint. A
parent that is killed takes its child along (Linux): nothing goes on computing unseen.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress

from densem.errors import ResourceError
from densem.experiments.benchmark import fail
from densem.experiments.record import RunRecord
from densem.experiments.setting import Run, Setting

PARENT = "DENSEM_PARENT"
SET_DEATH_SIGNAL = 1  # of prctl(2)
INTERRUPTED = 130
PATIENCE_SECONDS = 120.0


def command(setting: Setting, run: str, python: str | None = None) -> list[str]:
    """The words that do one run of a benchmark."""
    words = [python or sys.executable, "-m", "densem", "benchmark", str(setting.study.folder.resolve())]
    return [*words, "--name", setting.folder.name, "--run", run]


def do_in_child(setting: Setting, run: Run) -> RunRecord:
    """Do one run in a process of its own, to its record.

    Raises:
        KeyboardInterrupt: when asked to stop, once the child has.
    """
    before = setting.record(run)
    child = subprocess.Popen(
        command(setting, run.name), start_new_session=True, env={**os.environ, PARENT: str(os.getpid())}
    )
    try:
        code = child.wait()
    except BaseException:
        _stop(child)
        raise
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    record = setting.record(run)
    if record is not None and record != before:
        return record
    return fail(setting, run, _ended(code))


def _ended(code: int) -> str:
    """What became of a child that left no record."""
    if code == -signal.SIGKILL:
        return "its process was killed; most often that means that memory ran out"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code} and no record"


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a child to end, wait while it writes its checkpoint; a further Ctrl-C ends it at once."""
    with suppress(ProcessLookupError):
        child.send_signal(signal.SIGINT)
    try:
        child.wait(PATIENCE_SECONDS)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        child.kill()
        child.wait()


def has_parent() -> bool:
    """Whether this process was started for one run, by a benchmark that says how it ended."""
    return PARENT in os.environ


def follow_parent() -> None:
    """In a child: end when the parent does.

    Raises:
        ResourceError: if the parent is gone already.
    """
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != int(parent):
        raise ResourceError("the benchmark that started this run has ended; start it again")
