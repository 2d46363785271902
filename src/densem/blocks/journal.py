"""Journal: which blocks of a run are done, kept so that a kill at any moment loses nothing finished.

    <folder>/plan.json        what must be the same when the run is resumed
    <folder>/<worker>.jsonl   one line for each finished block, synced after the block was verified

Files are only ever appended to, one by each worker. A torn line is ignored: its block is done again.
A million records are a quarter of a gigabyte: they are read line by line, never kept, and which blocks
are done is remembered, so that asking again reads only what came since.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from densem.blocks import lock
from densem.errors import IntegrityError

PLAN = "plan.json"
LOCK = "lock"
Record = dict[str, Any]


class Journal:
    """The finished blocks of one run over a grid.

    Args:
        folder: where the journal lies; made by `begin`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, _Known] = {}

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs."""
        return self.folder / "logs"

    def begin(self, plan: Record) -> bool:
        """Start a journal with this plan, or take up the one that is there.

        Args:
            plan: plain values that decide the outcome; compared entry by entry on resuming.

        Returns:
            Whether a journal of the same plan was there already.

        Raises:
            IntegrityError: if the journal there was begun with another plan; names the entries.
        """
        known = self.plan()
        plan = json.loads(json.dumps(plan))
        if known is None:
            self._start(plan)
            return False
        if known != plan:
            raise IntegrityError(
                f"{self.folder.parent}: an unfinished run lies there that was begun with another "
                f"{_differences(known, plan)}; run it with the same again to finish it, "
                "or give --overwrite to start anew"
            )
        return True

    def takes_up(self, plan: Record) -> bool:
        """Whether `begin` would accept this plan: no other one was begun here."""
        return self.begun_with(plan) or not (self.folder / PLAN).is_file()

    def begun_with(self, plan: Record) -> bool:
        """Whether a run of this plan was begun; one whose plan cannot be read was not."""
        try:
            return self.plan() == json.loads(json.dumps(plan))
        except IntegrityError:
            return False

    def plan(self) -> Record | None:
        """The plan this journal was begun with; None where no run was begun."""
        path = self.folder / PLAN
        if not path.is_file():
            return None
        try:
            plan = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError):
            plan = None
        if not isinstance(plan, dict):
            raise IntegrityError(f"{path}: not a readable plan; give --overwrite to start anew")
        return plan

    def scan(self) -> Iterator[Record]:
        """What was noted for each finished block, one after the other, each block once.

        A block that was done twice was done with the same outcome: its first record is given.
        """
        given: set[int] = set()
        for path in self._files():
            for record in _read(path):
                if record["block"] not in given:
                    given.add(record["block"])
                    yield record

    def records(self) -> dict[int, Record]:
        """All of them in memory, by block: for runs of few blocks."""
        return {record["block"]: record for record in self.scan()}

    def done(self) -> set[int]:
        """Numbers of the finished blocks; asked again, only what was appended since is read."""
        files = self._files()
        self._known = {path: self._known.get(path, _Known()) for path in files}
        for path, known in self._known.items():
            known.update(path)
        return set().union(*(known.blocks for known in self._known.values()))

    def worker(self, name: str) -> Pen:
        """The file one worker appends to; no two may share a name at the same time."""
        return Pen(self.folder / f"{name}.jsonl")

    def keep(self, blocks: set[int]) -> None:
        """Forget all finished blocks but these."""
        if self.done() <= blocks:
            return
        kept = self.folder / "kept.jsonl"
        lines = (json.dumps(r, separators=(",", ":")) for r in self.scan() if r["block"] in blocks)
        replace_lines(kept, lines)
        for path in self._files():
            if path != kept:
                path.unlink()

    def forget(self) -> None:
        """Forget plan and blocks."""
        (self.folder / PLAN).unlink(missing_ok=True)
        for path in self._files():
            path.unlink()

    def tidy(self) -> None:
        """Leave no trace where nothing was begun."""
        if (self.folder / PLAN).exists():
            return
        with contextlib.suppress(OSError):  # folders that hold something stay
            (self.folder / LOCK).unlink(missing_ok=True)
            self.folder.rmdir()
            self.folder.parent.rmdir()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the journal for one run; released by the system if the run is killed.

        Raises:
            IntegrityError: if another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as handle:
            if not lock.take(handle):
                raise IntegrityError(
                    f"{self.folder.parent}: another process is working on it; wait for it or stop it first"
                )
            yield

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))

    def _start(self, plan: Record) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self._files():
            old.unlink()
        replace(self.folder / PLAN, json.dumps(plan, indent=1))


class Pen:
    """Appends the records of one worker; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = path.open("ab")
        if self._handle.tell() > 0:
            self._handle.write(b"\n")  # after a torn line the next record begins on a line of its own

    def __enter__(self) -> Pen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a line that a full disk did not take was told of when it was noted."""
        with contextlib.suppress(OSError):
            self._handle.close()

    def append(self, block: int, record: Record) -> None:
        """Note a finished block; on return the line is on disk."""
        line = json.dumps({"block": block, **record}, separators=(",", ":"))
        self._handle.write(line.encode() + b"\n")
        self._handle.flush()
        os.fsync(self._handle.fileno())


def replace(path: Path, text: str, sync: bool = True) -> None:
    """Write a file that appears whole or not at all; synced, it also survives a power cut."""
    _replace(path, [text], sync)


def replace_lines(path: Path, lines: Iterable[str]) -> None:
    """The same from lines, of which only one is in memory."""
    _replace(path, (f"{line}\n" for line in lines), sync=True)


def _replace(path: Path, texts: Iterable[str], sync: bool) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as handle:
        handle.writelines(texts)
        handle.flush()
        if sync:
            os.fsync(handle.fileno())
    os.replace(part, path)


@dataclass
class _Known:
    """The blocks of one file as far as it was read: whole lines up to an offset in bytes."""

    inode: int = 0
    offset: int = 0
    blocks: set[int] = field(default_factory=set)

    def update(self, path: Path) -> None:
        """Read what came since; a file that was replaced or cut is read anew, one that is gone is empty."""
        if not path.exists():
            self.inode, self.offset, self.blocks = 0, 0, set()
            return
        with path.open("rb") as handle:
            there = os.fstat(handle.fileno())
            if there.st_ino != self.inode or there.st_size < self.offset:
                self.inode, self.offset, self.blocks = there.st_ino, 0, set()
            handle.seek(self.offset)
            for line in handle:
                record = _parse(line)
                if record is not None:
                    self.blocks.add(record["block"])
                if line.endswith(b"\n"):
                    self.offset += len(line)


def _read(path: Path) -> Iterator[Record]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as handle:  # kept elsewhere meanwhile
        for line in handle:
            record = _parse(line)
            if record is not None:
                yield record


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("block"), int) else None


def _differences(known: Record, plan: Record) -> str:
    names = [k for k in {**known, **plan} if known.get(k) != plan.get(k)]
    return ", ".join(f"{n} (then {known.get(n)!r}, now {plan.get(n)!r})" for n in names[:3])
