"""Progress on a terminal: a bar with rate and time left; silent where there is no terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]
QUIET_SECONDS = 30.0


@contextmanager
def bar(title: str) -> Iterator[Report]:
    """A function to call with (done, total); draws a bar, or logs every half minute without a terminal."""
    if sys.stderr.isatty():
        with _rich_bar(title) as report:
            yield report
    else:
        yield _logged(title)


@contextmanager
def _rich_bar(title: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield report


def _logged(title: str) -> Report:
    log = logging.getLogger("densem.progress")
    start = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= QUIET_SECONDS and done:
            last = now
            left = (now - start) / done * (total - done)
            log.info("%s: %d of %d, %.0f s left", title, done, total, left)

    return report
