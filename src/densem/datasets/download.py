"""Download: one file over HTTP(S), going on where an earlier try stopped, never taken for whole before it is.

    NAME.part        what has come so far
    NAME.part.json   from which address, and the server's mark of that version
    NAME             the whole file, renamed once its size and checksum are right
    NAME.rejected    a whole file whose checksum is wrong

1. Ask for the rest (`Range`), on condition that the file is still the same (`If-Range` with the server's ETag
   or date). A server that knows no ranges, or has another version now, sends everything: it begins anew.
2. Broken connections are tried again after a pause; tries in a row without a single new byte are counted.
3. Size and checksum are compared; if they are wrong after a resumption, once more from the beginning.

urllib of the standard library does it: pooch (1.9), the field's usual choice, begins a broken download anew,
and a client such as httpx would be one more thing to install for one GET with three headers. HTTP semantics
as in RFC 9110, sections 13 to 15.
"""

from __future__ import annotations

import errno
import http.client
import json
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit

from densem import __version__
from densem.datasets.checksum import Checksum
from densem.errors import DownloadError, InputError, IntegrityError, ResourceError

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Waiting times between tries that brought nothing; after the last of them it ends."""
MOST_TRIES = 50
LONGEST_WAIT_S = 60.0
TIMEOUT_S = 60.0
PIECE = 2**18
SPARE = 64 * 2**20
"""Disk that stays free."""
AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it is fetched."""

    bytes: int | None = None
    checksum: Checksum | None = None


def download(
    url: str, target: Path, expected: Expected | None = None, progress: Progress | None = None
) -> Path:
    """Fetch a file; a later call goes on where this one was stopped.

    Args:
        url: http or https.
        target: where the whole file goes; its folder is made.
        expected: exact size and checksum, if they are known.
        progress: told (bytes so far, bytes in all).

    Raises:
        InputError: another kind of address.
        DownloadError: not there, not allowed, no network, or broken off too often; what has come is kept.
        IntegrityError: size or checksum are not what was expected.
        ResourceError: the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: expected an address that begins with https:// or http://")
    target.parent.mkdir(parents=True, exist_ok=True)
    job = _Job(url, target, expected or Expected(), progress)
    begun = job.part.exists()
    job.fetch()
    try:
        job.check()
    except IntegrityError:
        if not begun and not job.resumed:
            raise
        logger.info("%s: what was put together from several tries is wrong; beginning anew", target.name)
        job.forget()
        job.fetch()
        job.check()
    os.replace(job.part, target)
    job.notes.unlink(missing_ok=True)
    job.aside.unlink(missing_ok=True)
    return target


class _AgainError(Exception):
    """A try that failed in a way that may pass."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class _Job:
    """One file on its way."""

    def __init__(self, url: str, target: Path, expected: Expected, progress: Progress | None) -> None:
        self.url, self.target, self.expected = url, target, expected
        self.part = target.with_name(f"{target.name}.part")
        self.notes = target.with_name(f"{target.name}.part.json")
        self.aside = target.with_name(f"{target.name}.rejected")
        self.resumed = False
        self._tell = progress or (lambda done, total: None)

    @property
    def have(self) -> int:
        """Bytes that have come."""
        return self.part.stat().st_size if self.part.exists() else 0

    def forget(self) -> None:
        """Begin anew."""
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)

    # ---- tries -----------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Try until it is whole, or until trying brings nothing."""
        fruitless = 0
        for _ in range(MOST_TRIES):
            before = self.have
            try:
                return self._try()
            except _AgainError as error:
                why, wait = str(error), error.wait_s
            fruitless = fruitless + 1 if self.have <= before else 0
            if fruitless > len(PAUSES_S):
                break
            pause = max(wait, PAUSES_S[max(0, fruitless - 1)])
            logger.info("%s: %s; trying again in %g s", self.target.name, why, pause)
            time.sleep(pause)
        kept = f" {self.have} bytes are kept in {self.part}: the same command goes on from there"
        raise DownloadError(
            f"{self.url}: gave up after several tries, the last one: {why}.{kept if self.have else ''}"
        )

    def _try(self) -> None:
        mark = self._mark()
        have = self.have if mark or self.expected.checksum else 0
        if self.expected.bytes is not None and have == self.expected.bytes:
            return
        with self._open(have, mark) as response:
            start, total = self._place(response, have)
            self._refuse_early(response, total)
            self._need_disk(None if total is None else total - start)
            self._note(response)
            self._receive(response, start, total)

    def _open(self, have: int, mark: str | None) -> Any:
        headers = {"User-Agent": f"densem/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if mark:
                headers["If-Range"] = mark
        try:
            return _opener().open(urllib.request.Request(self.url, headers=headers), timeout=TIMEOUT_S)
        except DownloadError:  # of a redirection; it is a ConnectionError, which would be tried again below
            raise
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, have)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadError(
                    f"{self.url}: the server's certificate is not valid ({error.reason.verify_message}); "
                    "check the clock of this machine, or fetch the file in a browser and give it with "
                    "--archive"
                ) from None
            raise _AgainError(f"the server cannot be reached ({error.reason}); is there a network?") from None
        except (OSError, http.client.HTTPException) as error:
            raise _AgainError(f"the connection broke ({error or type(error).__name__})") from None

    def _refused(self, error: urllib.error.HTTPError, have: int) -> NoReturn:
        if error.code == 416:
            self.forget()
            raise _AgainError(f"the server has no more than the {have} bytes that are here; beginning anew")
        if 300 <= error.code < 400:  # urllib itself refuses other schemes
            raise _elsewhere(self.url, error.headers.get("Location", "nowhere"))
        if error.code in AGAIN:
            wait = error.headers.get("Retry-After", "")
            seconds = min(float(wait), LONGEST_WAIT_S) if wait.isdigit() else 0.0
            raise _AgainError(f"the server answered {error.code} ({error.reason})", seconds)
        what = {401: "is not allowed", 403: "is not allowed", 404: "is not there", 410: "is no longer there"}
        raise DownloadError(
            f"{self.url}: the file {what.get(error.code, 'is not given out')} (HTTP {error.code}); look on "
            "the data set's page whether it has moved, and give another address with --url, or a file that "
            "you have already with --archive"
        )

    def _place(self, response: Any, have: int) -> tuple[int, int | None]:
        """Where the body begins in the file, and how long the file is."""
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        if response.status != 206:
            if have:
                logger.info("%s: the server sends it from the beginning", self.target.name)
            return 0, total
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not span or int(span[1]) > have:
            self.forget()
            raise _AgainError("the server sent another part than it was asked for; beginning anew")
        self.resumed = True
        start = int(span[1])
        known = None if span[2] == "*" else int(span[2])
        return start, known if known is not None else None if total is None else start + total

    def _refuse_early(self, response: Any, total: int | None) -> None:
        """What is known to be wrong is not fetched."""
        coding = response.headers.get("Content-Encoding", "identity")
        if coding not in ("identity", ""):
            raise DownloadError(
                f"{self.url}: expected the file as it is, the server sends it with Content-Encoding "
                f"{coding}; fetch it in a browser and give it with --archive"
            )
        if total is not None and self.expected.bytes not in (None, total):
            page = "text/html" in response.headers.get("Content-Type", "")
            found = "a web page" if page else "another file"
            raise IntegrityError(
                f"{self.url}: expected {self.expected.bytes} bytes, the server offers {found} of {total} "
                "bytes; give the address of the file itself with --url, or a file that you have already with "
                "--archive"
            )

    def _need_disk(self, more: int | None) -> None:
        free = shutil.disk_usage(self.target.parent).free
        if more is not None and free < more + SPARE:
            raise ResourceError(
                f"{self.target}: expected {(more + SPARE) / 1e6:.0f} MB of free disk for what is still to "
                f"come, found {free / 1e6:.0f} MB; free some, or choose a folder on another disk"
            )

    # ---- bytes -----------------------------------------------------------------------------------

    def _receive(self, response: Any, start: int, total: int | None) -> None:
        limit = self.expected.bytes
        self.part.touch()
        with open(self.part, "r+b") as file:
            file.truncate(start)
            file.seek(start)
            done = start
            while piece := _piece(response):
                done += len(piece)
                if limit is not None and done > limit:
                    raise IntegrityError(f"{self.url}: expected {limit} bytes, the server sends more")
                self._write(file, piece)
                self._tell(done, total or limit or done)
        if total is not None and done < total:
            raise _AgainError(f"the connection broke after {done} of {total} bytes")

    def _write(self, file: IO[bytes], piece: bytes) -> None:
        try:
            file.write(piece)
            file.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ResourceError(
                f"{self.part}: the disk is full; free some and give the same command again: it goes on from "
                "here"
            ) from None

    # ---- which version of the file -----------------------------------------------------------------

    def _mark(self) -> str | None:
        """The server's mark of the version whose first bytes are here."""
        try:
            noted = json.loads(self.notes.read_text())
        except (OSError, ValueError):
            return None
        return str(noted["mark"]) if noted.get("url") == self.url and noted.get("mark") else None

    def _note(self, response: Any) -> None:
        """A weak ETag does not promise the same bytes (RFC 9110, 13.1.5)."""
        tag = response.headers.get("ETag", "")
        mark = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
        self.notes.write_text(json.dumps({"url": self.url, "mark": mark}))

    # ---- whether it is right -------------------------------------------------------------------------

    def check(self) -> None:
        """Compare size and checksum.

        Raises:
            IntegrityError: and the file is put aside.
        """
        try:
            verify(self.part, self.expected, self.url)
        except IntegrityError as error:
            os.replace(self.part, self.aside)
            self.notes.unlink(missing_ok=True)
            raise IntegrityError(f"{error}; it was put aside as {self.aside}") from None


def verify(path: Path, expected: Expected, where: str, progress: Progress | None = None) -> None:
    """Compare a file's size and checksum with what was published.

    Raises:
        IntegrityError: saying which, what was expected, what was found and what to do.
    """
    found = path.stat().st_size
    if expected.bytes is not None and found != expected.bytes:
        raise IntegrityError(
            f"{where}: expected {expected.bytes} bytes, found {found}; the file is incomplete or another one"
        )
    if expected.checksum is None:
        return
    actual = Checksum.of(path, expected.checksum.algorithm, progress)
    if actual != expected.checksum:
        raise IntegrityError(
            f"{where}: expected {expected.checksum.algorithm} {expected.checksum.digest}, found "
            f"{actual.digest}; the file is damaged, or its publisher has changed it: try again, and if it "
            "stays so, compare with the data set's page and give a .toml file with the new checksum (densem "
            "datasets show NAME --toml)"
        )


def _piece(response: Any) -> bytes:
    try:
        return bytes(response.read(PIECE))
    except (OSError, http.client.HTTPException) as error:
        raise _AgainError(f"the connection broke ({error or type(error).__name__})") from None


def _elsewhere(url: str, place: str) -> DownloadError:
    what = "not encrypted" if urlsplit(place).scheme == "http" else "not on the web"
    return DownloadError(
        f"{url}: the server points to {place}, which is {what}; fetch the file in a browser and give it with "
        "--archive"
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirections stay on the web, and on its encrypted part once they are there."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Follow, or refuse with a reason."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise _elsewhere(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS alone: urllib's own default also opens local files and FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
