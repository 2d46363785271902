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
import threading
from collections.abc import Iterable
from contextlib import suppress

from densem.errors import ResourceError
from densem.experiments.benchmark import Say, fail
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


class Child:
    """A run that was started in a process of its own.

    Args:
        setting: the benchmark.
        run: to be done.
        threads: of PyTorch in it; as many as there are cores without it.
        say: told each line that it prints, with the name of the run; without it, it prints them itself.
    """

    def __init__(
        self, setting: Setting, run: Run, threads: int | None = None, say: Say | None = None
    ) -> None:
        self.run = run
        self._setting = setting
        self._before = setting.record(run)
        self._process = _started(command(setting, run.name), threads, heard=say is not None)
        if say is not None:
            threading.Thread(target=self._repeat, args=(say,), daemon=True).start()

    def _repeat(self, say: Say) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            say(f"    {self.run.name}: {line.decode(errors='replace').rstrip()}")

    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def record(self) -> RunRecord:
        """Wait for its end; the record it left, or one that says why it left none.

        Raises:
            KeyboardInterrupt: when asked to stop, once the child has.
        """
        code = _waited(self._process)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        record = self._setting.record(self.run)
        if record is not None and record != self._before:
            return record
        return fail(self._setting, self.run, _ended(code))

    @staticmethod
    def stop(children: Iterable[Child]) -> None:
        """Ask some to end, at the same time, and wait while they write their checkpoints."""
        processes = [child._process for child in children]
        for process in processes:
            _ask_to_end(process)
        for process in processes:
            _wait_patiently(process)


def do_in_child(setting: Setting, run: Run) -> RunRecord:
    """Do one run in a process of its own, to its record.

    Raises:
        KeyboardInterrupt: when asked to stop, once the child has.
    """
    return Child(setting, run).record()


def measure_in_child(setting: Setting, row: str) -> bool:
    """Decide in a process of its own how the replicates of a row are trained; whether that went well.

    Raises:
        KeyboardInterrupt: when asked to stop, once the child has.
    """
    code = _waited(_started(command(setting, f"{row}/plan")))
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code == 0


def _started(words: list[str], threads: int | None = None, heard: bool = False) -> subprocess.Popen[bytes]:
    given = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        words,
        start_new_session=True,
        env={**os.environ, **given, PARENT: str(os.getpid())},
        stdout=subprocess.PIPE if heard else None,
        stderr=subprocess.STDOUT if heard else None,
    )


def _waited(process: subprocess.Popen[bytes]) -> int:
    """Its exit code; asked to stop meanwhile, it is asked too."""
    try:
        return process.wait()
    except BaseException:
        _ask_to_end(process)
        _wait_patiently(process)
        raise


def _ended(code: int) -> str:
    """What became of a child that left no record."""
    if code == -signal.SIGKILL:
        return "its process was killed; most often that means that memory ran out"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code} and no record"


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)


def _wait_patiently(process: subprocess.Popen[bytes]) -> None:
    """Wait while it writes its checkpoint; a further Ctrl-C ends it at once."""
    try:
        process.wait(PATIENCE_SECONDS)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


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
