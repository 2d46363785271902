"""Staging: what is exported grows under hidden names and is moved into place when it is whole.

An error, Ctrl-C or a full disk leaves nothing behind, and what was there before stays until then.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from densem.errors import ExistsError, FormatError, NotFoundError, ResourceError
from densem.replacement import take_place

TRIES, PAUSE_S, TIMES_GONE = 100, 0.05, 4
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Staging:
    """Where files are written until all of them are whole.

    Attributes:
        target: the file or folder that was asked for.
        overwrite: whether to replace what is there.
    """

    target: Path
    overwrite: bool = False
    _pending: dict[Path, Path] = field(default_factory=dict)

    @property
    def main(self) -> Path:
        """Where the target is written."""
        return self.beside(self.target)

    def beside(self, target: Path) -> Path:
        """Where another file that belongs to it is written.

        Raises:
            ExistsError: if it is there and is not to be replaced.
        """
        if target not in self._pending:
            if target.exists() and not self.overwrite:
                raise ExistsError(
                    f"{target}: exists already; give another --out or --overwrite to replace it"
                )
            part = target.with_name(f".{target.name}.part")
            _remove(part)
            self._pending[target] = part
        return self._pending[target]

    def commit(self) -> list[Path]:
        """Move everything into place; gives where it is now, the target first."""
        for target, part in self._pending.items():
            take_place(part, target)
        return list(self._pending)

    def discard(self) -> None:
        """Remove what was begun."""
        for part in self._pending.values():
            _remove_for_good(part)


@contextlib.contextmanager
def staged(
    target: Path, overwrite: bool = False, replaceable: Callable[[Path], bool] | None = None
) -> Iterator[Staging]:
    """A staging area; committed at the end, discarded on any error.

    Args:
        target: the file or folder to make.
        overwrite: whether to replace what is there.
        replaceable: says whether a folder that is there may be replaced; without it none may.

    Raises:
        NotFoundError: if the folder that the target is to lie in is not there.
        ExistsError: if it is there and not to be replaced.
        FormatError: if a folder is there that is no earlier export.
        ResourceError: if the disk is full.
    """
    if not target.absolute().parent.is_dir():
        raise NotFoundError(
            f"--out {target}: expected its folder {target.absolute().parent} to be there; make it first"
        )
    if target.is_dir() and not (replaceable and replaceable(target)):
        raise FormatError(
            f"--out {target}: expected a name that is free, found a folder that densem has not exported in "
            "this format; give another name"
        )
    area = Staging(target, overwrite)
    try:
        area.beside(target)
        yield area
        area.commit()
    except OSError as error:
        if is_full(error):
            told = error.strerror or error
            raise ResourceError(
                f"{target}: the disk was full before all was written ({told}); nothing was left "
                "behind. Free some, export a --box or a coarser --scale, or choose another place"
            ) from error
        raise
    finally:
        area.discard()


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room; NumPy says so in words alone."""
    return error.errno in FULL or (error.errno is None and "requested and" in str(error))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_for_good(path: Path) -> None:
    """Remove what a failed write leaves: of a folder, threads may be writing still, and make it anew."""
    if not path.is_dir():
        _remove(path)
        return
    gone = 0
    for _ in range(TRIES):
        gone = gone + 1 if not path.exists() else 0
        if gone == TIMES_GONE:
            return
        _remove(path)
        time.sleep(PAUSE_S)
