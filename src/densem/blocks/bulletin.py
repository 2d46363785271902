"""Bulletin: what a run says of itself beside its finished blocks, for `densem status`.

    <journal>/run.json      engine, dashboard, state, when it began and was last alive; replaced as a whole
    <journal>/failures.log  one JSON line for each failed attempt of this run

Nothing here decides what is done: a lost bulletin costs a look, never a block.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from densem.blocks.grid import Grid
from densem.blocks.journal import Journal, Record, replace

RUN = "run.json"
FAILURES = "failures.log"
HEARTBEAT_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Bulletin:
    """Says how a run is getting on.

    Args:
        journal: of the run.
    """

    def __init__(self, journal: Journal) -> None:
        self.folder = journal.folder
        self._lock = threading.Lock()
        self._facts: Record = {}

    def begin(self, grid: Grid, facts: Record) -> None:
        """A run begins: forget the failures of the last one."""
        now = round(time.time(), 3)
        who = {"host": socket.gethostname(), "pid": os.getpid(), "began": now}
        place = {"shape": list(grid.shape), "block": list(grid.cell)}
        with suppress(OSError):
            (self.folder / FAILURES).unlink(missing_ok=True)
        self._facts = {**who, **place, **facts}  # nothing of an earlier run's stays
        self.say(state="running")

    def say(self, **facts: Any) -> None:
        """Add or replace facts; a full disk is none of its business."""
        with self._lock, suppress(OSError):
            self._facts = {**(self._facts or read(self.folder)), **facts, "alive": round(time.time(), 3)}
            replace(self.folder / RUN, json.dumps(self._facts, indent=1), sync=False)

    def failed(self, block: int, attempt: int, message: str, quarantined: bool) -> None:
        """Note a failed attempt."""
        line = {"block": block, "attempt": attempt, "message": message, "quarantined": quarantined}
        with self._lock, suppress(OSError), (self.folder / FAILURES).open("a") as handle:
            handle.write(json.dumps({**line, "time": round(time.time(), 3)}) + "\n")


def read(folder: Path) -> Record:
    """What the run in this journal folder said last; empty where it said nothing readable."""
    try:
        facts = json.loads((folder / RUN).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


class Watch:
    """A thread beside a run: tells that it is alive, and says loudly when no block gets finished.

    Args:
        bulletin: where it tells so.
        stall_minutes: after how many minutes without a finished block it speaks up, and again after each
            further so many; 0 never.
        tick_seconds: how often it looks.
    """

    def __init__(self, bulletin: Bulletin, stall_minutes: float = 0.0, tick_seconds: float = 1.0) -> None:
        self._bulletin, self._stall = bulletin, 60 * stall_minutes
        self._tick = min(tick_seconds, self._stall / 4) if self._stall else tick_seconds
        self._last = self._spoken = self._told = time.monotonic()
        self._over = threading.Event()
        self._flying = 0
        self._thread = threading.Thread(target=self._loop, name="densem-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def block_done(self) -> None:
        """A block was finished just now."""
        self._last = self._spoken = time.monotonic()

    def handed_out(self, blocks: int) -> None:
        """So many blocks are handed out now."""
        self._flying = blocks

    def _loop(self) -> None:
        while not self._over.wait(self._tick):
            now = time.monotonic()
            if self._stall and now - self._spoken >= self._stall:
                self._spoken = now
                self._speak_up((now - self._last) / 60)
            if now - self._told >= HEARTBEAT_SECONDS:
                self._told = now
                self._bulletin.say()

    def _speak_up(self, minutes: float) -> None:
        _log.warning(
            "no block was finished in %.3g minutes (%d handed out): look at the logs in %s, at the workers "
            "and at the disk; blocks that take longer than this want a larger --stall",
            minutes, self._flying, self._bulletin.folder / "logs",
        )  # fmt: skip
        self._bulletin.say(stalled_minutes=round(minutes, 3))
