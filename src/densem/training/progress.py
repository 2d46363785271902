"""Progress: a bar where a person watches, a line every half minute where nobody does."""

from __future__ import annotations

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 30.0


class TrainingProgress:
    """Shows steps, loss, speed and time left on standard error."""

    def __init__(self, shown: bool) -> None:
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._said = time.monotonic()
        self._shown = shown
        if shown and sys.stderr.isatty():
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.fields[steps]} steps"),
                TextColumn("{task.fields[numbers]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=False)
            self._task = self._bar.add_task("training", total=None, numbers="", steps="?")
            self._bar.start()

    def update(self, step: int, steps: int | None, numbers: str, seconds_left: float | None) -> None:
        """Tell how far the run is; `numbers` is a short text such as loss and speed."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, total=steps, numbers=numbers, steps=steps or "?")
        elif self._shown and time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            left = "" if seconds_left is None else f", about {duration(seconds_left)} left"
            log.info("step %s of %s: %s%s", step, steps or "?", numbers, left)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """A time in words: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
