"""Archives: zip and tar files from elsewhere, of which the wanted members are taken out, and nothing else.

1. Read the list of members. One that is absolute, leads out of the folder, or is a link or a device condemns
   the whole archive, wanted or not; so do sizes that no image data shrink from.
2. Match what is wanted by the end of the path: each must be there once.
3. Write each to a path of our own, counting bytes: names and sizes that the archive states are not trusted.
"""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from densem.errors import FormatError, IntegrityError, ResourceError, nearest

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST_MEMBERS = 200_000
MOST_RATIO = 1000
"""Bytes unpacked for one packed, over the whole archive; deflate itself ends at 1032."""
MEMBER_RATIO = 250
SLACK = 16 * 2**20
PIECE = 2**20
SPARE = 64 * 2**20
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """A member to take out.

    Attributes:
        member: its path, or the end of it after a folder; with a `/` at its end a folder of slices.
        target: the file, or the folder, to make.
        most_bytes: how large it can be in all; None: some hundred times its packed size.
    """

    member: str
    target: Path
    most_bytes: int | None = None


@dataclass(frozen=True)
class Item:
    """A file as the archive lists it; `handle` is what its reader opens it by."""

    name: str
    bytes: int
    packed: int
    handle: Any


def is_archive(name: str) -> bool:
    """Whether a file of that name is unpacked, or taken as it is."""
    return name.lower().endswith(ENDINGS)


def unpack(path: Path, wanted: Sequence[Wanted], progress: Progress | None = None) -> None:
    """Take members out of an archive.

    Raises:
        FormatError: it is no such archive, damaged, encrypted, or a member is missing or there twice.
        IntegrityError: a member is hostile: it leads out of the folder, is a link or device, or is too large.
        ResourceError: the disk cannot hold what is wanted.
    """
    with _opened(path) as reader:
        items = _checked(reader, path)
        pairs = [pair for want in wanted for pair in _matches(items, want, path)]
        _need_disk(pairs, path)
        total = max(1, sum(item.bytes for item, _, _ in pairs))
        done = 0
        for item, target, most in pairs:
            for more in _write(reader, item, target, most, path):
                done += more
                if progress:
                    progress(min(done, total), total)


@contextmanager
def _opened(path: Path) -> Iterator[_Reader]:
    if path.suffix.lower() != ".zip" and not is_archive(path.name):
        raise FormatError(f"{path}: expected an archive ({' '.join(ENDINGS)}), found another ending")
    kind: type[_Zip] | type[_Tar] = _Zip if path.suffix.lower() == ".zip" else _Tar
    try:
        reader = kind(path)
    except BROKEN as error:
        raise FormatError(
            f"{path}: expected {kind.title}, but it cannot be read ({_seen(path, error)}); it is damaged or "
            "something else was downloaded: delete it and try again"
        ) from None
    with reader:
        yield reader


def _seen(path: Path, error: Exception) -> str:
    """What it is instead, where that can be told."""
    with open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
    return "it is a web page" if start.startswith((b"<!doctype html", b"<html")) else str(error)


class _Reader(ABC):
    """What both kinds of archive can do."""

    title = ""

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    @abstractmethod
    def items(self) -> Iterator[tuple[Item, str]]:
        """Each member with what it is: `file`, `folder`, or the name of something that is refused."""

    @abstractmethod
    def open(self, item: Item) -> IO[bytes]:
        """The bytes of a file."""


class _Zip(_Reader):
    title = "a zip archive"

    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path)
        self._path = path

    def close(self) -> None:
        self._file.close()

    def items(self) -> Iterator[tuple[Item, str]]:
        for info in self._file.infolist():
            if info.flag_bits & 1:
                raise FormatError(
                    f"{self._path}: its member {info.filename!r} is encrypted; unpack it by hand"
                )
            name = info.orig_filename  # zipfile cuts names at a zero byte: look at the whole
            yield Item(name, info.file_size, info.compress_size, info), _zip_kind(info)

    def open(self, item: Item) -> IO[bytes]:
        return self._file.open(item.handle)


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if info.is_dir() or stat.S_ISDIR(mode):
        return "folder"
    if stat.S_IFMT(mode) in (0, stat.S_IFREG):
        return "file"
    return "a link" if stat.S_ISLNK(mode) else "a device"


class _Tar(_Reader):
    title = "a tar archive"

    def __init__(self, path: Path) -> None:
        self._file = tarfile.open(path)  # noqa: SIM115  closed with the reader
        self._most = MOST_RATIO * path.stat().st_size + SLACK
        self._path = path

    def close(self) -> None:
        self._file.close()

    def items(self) -> Iterator[tuple[Item, str]]:
        whole = self._path.stat().st_size
        for info in self._file:
            if info.offset_data + info.size > self._most:  # before it is read through to the next header
                raise _too_large(self._path, info.name)
            kind = "file" if info.isreg() else "folder" if info.isdir() else "a link"
            yield Item(info.name, info.size, whole, info), kind if not info.isdev() else "a device"

    def open(self, item: Item) -> IO[bytes]:
        stream = self._file.extractfile(item.handle)
        assert stream is not None  # files alone are opened
        return stream


# ---- the list ------------------------------------------------------------------------------------


def _checked(reader: _Reader, path: Path) -> list[Item]:
    """All files, none of which is hostile."""
    found, total = [], 0
    most = MOST_RATIO * path.stat().st_size + SLACK
    try:
        for number, (item, kind) in enumerate(reader.items()):
            _check_name(item.name, path)
            if kind not in ("file", "folder"):
                raise IntegrityError(f"{path}: refused: its member {item.name!r} is {kind}; {_ADVICE}")
            total += item.bytes
            if total > most or number >= MOST_MEMBERS:
                raise _too_large(path, item.name)
            if kind == "file":
                found.append(item)
    except BROKEN as error:
        if isinstance(error, FormatError | IntegrityError):
            raise
        raise FormatError(f"{path}: its list of members cannot be read ({error}); it is damaged") from None
    return found


_ADVICE = "nothing of it is kept. Such an archive is malicious or broken: get it from its publisher"


def _too_large(path: Path, name: str) -> IntegrityError:
    return IntegrityError(
        f"{path}: refused: with its member {name!r} it would unpack to more than {MOST_RATIO} times its "
        f"size; {_ADVICE}"
    )


def _check_name(name: str, path: Path) -> None:
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        why = "has an absolute path"
    elif ".." in parts:
        why = "leads out of the folder it is unpacked to"
    elif "\0" in name or not name:
        why = "has no name that a file can have"
    else:
        return
    raise IntegrityError(f"{path}: refused: its member {name!r} {why}; {_ADVICE}")


# ---- what is wanted --------------------------------------------------------------------------------

Pair = tuple[Item, Path, int]


def _matches(items: list[Item], want: Wanted, path: Path) -> list[Pair]:
    """The files of what is wanted, where each goes, and how large it may become."""
    if want.member.endswith("/"):
        return _folder_matches(items, want, path)
    found = [i for i in items if i.name == want.member or i.name.endswith(f"/{want.member}")]
    if len(found) != 1:
        raise _missing(items, want, [i.name for i in found], path)
    most = MEMBER_RATIO * found[0].packed + SLACK if want.most_bytes is None else want.most_bytes
    return [(found[0], want.target, most)]


def _folder_matches(items: list[Item], want: Wanted, path: Path) -> list[Pair]:
    inside = want.member.rstrip("/")
    folders: dict[str, list[Item]] = {}
    for item in items:
        folder, _, name = item.name.rpartition("/")
        if (folder == inside or folder.endswith(f"/{inside}")) and not name.startswith("."):
            folders.setdefault(folder, []).append(item)
    if len(folders) != 1:
        raise _missing(items, want, list(folders), path)
    found = next(iter(folders.values()))
    packed = sum(i.packed for i in found)
    most = MEMBER_RATIO * packed + SLACK if want.most_bytes is None else want.most_bytes
    return [(i, want.target / PurePosixPath(i.name).name, most) for i in found]


def _missing(items: list[Item], want: Wanted, found: list[str], path: Path) -> FormatError:
    if found:
        return FormatError(
            f"{path}: expected one member {want.member!r}, found {len(found)}: "
            f"{', '.join(sorted(found)[:5])}; name it with its folder"
        )
    names = [i.name for i in items]
    listed = ", ".join(names[:8]) + (f", and {len(names) - 8} more" if len(names) > 8 else "")
    close = nearest(want.member, names)
    hint = close if "Did you mean" in close else ""
    return FormatError(
        f"{path}: expected a member {want.member!r}, found none; it holds {listed or 'nothing'}.{hint} It is "
        "not the archive that was described, or has changed since: look on the data set's page"
    )


def _need_disk(pairs: list[Pair], path: Path) -> None:
    if not pairs:
        return
    place = pairs[0][1].parent
    while not place.exists():
        place = place.parent
    need, free = sum(item.bytes for item, _, _ in pairs) + SPARE, shutil.disk_usage(place).free
    if free < need:
        raise ResourceError(
            f"{path}: expected {need / 1e6:.0f} MB of free disk to unpack it in {place}, found "
            f"{free / 1e6:.0f} MB; free some, or choose a folder on another disk"
        )


# ---- bytes ---------------------------------------------------------------------------------------


def _write(reader: _Reader, item: Item, target: Path, most: int, path: Path) -> Iterator[int]:
    """Write one file; tells how many bytes came with each piece."""
    target.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with open(target, "wb") as file:
        for piece in _pieces(reader, item, path):
            done += len(piece)
            if done > most:
                raise IntegrityError(
                    f"{path}: refused: its member {item.name!r} unpacks to more than {most / 1e6:.0f} MB, "
                    f"which its shape or packed size do not explain; {_ADVICE}"
                )
            file.write(piece)
            yield len(piece)


def _pieces(reader: _Reader, item: Item, path: Path) -> Iterator[bytes]:
    try:
        with reader.open(item) as stream:
            while piece := stream.read(PIECE):
                yield piece
    except (*BROKEN, NotImplementedError) as error:
        raise FormatError(
            f"{path}: its member {item.name!r} cannot be unpacked ({error or type(error).__name__}); the "
            "archive is damaged: delete it and try again"
        ) from None
