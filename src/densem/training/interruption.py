"""Interruption: Ctrl-C and SIGTERM ask a run to stop after the step in hand."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger(__name__)


class Interruption:
    """While entered, the first signal sets `requested`; a second one ends the process at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        """Remember whom the signals belonged to, and take them."""
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
            self.take()
        return self

    def take(self) -> None:
        """Take the signals, also from Lightning, which would end a run on SIGTERM without a checkpoint."""
        for number in self._before:
            signal.signal(number, self._ask)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise SystemExit(128 + number)
        self.requested = True
        log.warning("stopping after this step to write a checkpoint; once more stops at once")
