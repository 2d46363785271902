"""Server: gives a site to browsers, over HTTP, read only.

1. Host and Origin have to be the server's own, the token has to be right: else 403 and not a word.
2. GET, HEAD and OPTIONS alone are answered, by the addresses that `Site` lists.
3. Files go from the disk to the socket in the ranges that are asked for; none is read into memory.
"""

from __future__ import annotations

import errno
import hmac
import json
import logging
import os
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from urllib.parse import unquote

from densem import __version__
from densem.errors import InputError, ResourceError
from densem.viewer.addresses import is_loopback, is_own, own_names, same_site, url_host
from densem.viewer.byte_range import UnsatisfiableError, byte_range
from densem.viewer.site import Site
from densem.viewer.state import state_of

log = logging.getLogger("densem.viewer")

METHODS = "GET, HEAD, OPTIONS"
BEAT_S = 15.0
"""How often the client is told that the server is still there."""
IDLE_S = 60.0
"""How long a connection may say nothing."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".wasm": "application/wasm",
    ".json": "application/json",
}
GUARDS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Origin",
}
POLICY = (
    "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page reads from this server alone and sends nothing elsewhere."""


class ViewServer(socketserver.ThreadingMixIn, HTTPServer):
    """A site on a socket; `serve_forever` gives it out, a thread for each connection."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"  # elsewhere it would let two servers share a port

    def __init__(self, site: Site, host: str, port: int) -> None:
        """Listen; use `open_server` for errors that speak to people."""
        self.site, self.host = site, host
        self.names, self.numbers = own_names(host), not is_loopback(host)
        self.ending = threading.Event()
        family, address = _resolve(host, port)
        self.address_family = family
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the machine's name, which can take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, int(self.server_address[1])

    @property
    def url(self) -> str:
        """What a browser is to open."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else "::1" if self.host == "::" else self.host
        return f"http://{url_host(host.strip('[]'))}:{self.server_port}/open/{self.site.token}"

    def server_close(self) -> None:
        """Stop listening, and let go of those that listen to events."""
        self.ending.set()
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error; others are for the log."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            log.warning("a request of the viewer failed", exc_info=True)


def open_server(site: Site, host: str = "127.0.0.1", port: int = 0) -> ViewServer:
    """Listen on an address; port 0 takes any free one.

    Raises:
        InputError: the host is none of this machine, the port is no port.
        ResourceError: the port is taken, or not for everyone.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: expected 0 (any that is free) to 65535")
    try:
        return ViewServer(site, host, port)
    except OSError as error:
        _refuse(error, host, port)


def _refuse(error: OSError, host: str, port: int) -> NoReturn:
    if error.errno == errno.EADDRINUSE:
        raise ResourceError(
            f"--port {port}: taken by another program on {host}; leave --port out for any that is free"
        ) from None
    if error.errno == errno.EACCES:
        raise ResourceError(f"--port {port}: needs more rights than you have; give one above 1023") from None
    raise InputError(
        f"--host {host}: expected an address of this machine, such as 127.0.0.1 ({error.strerror or error})"
    ) from None


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return found[0][0], found[0][4]


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version = f"densem/{__version__}"
    sys_version = ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        if (route := self._admitted()) is not None:
            self._answer(*route)

    do_HEAD = do_GET  # noqa: N815  the names are those of http.server

    def do_OPTIONS(self) -> None:
        if self._admitted() is not None:
            self._head(204, {"Allow": METHODS})

    def _refuse_method(self) -> None:
        if self._admitted() is not None:
            self._head(405, {"Allow": METHODS, "Connection": "close"})

    do_POST = do_PUT = do_DELETE = do_PATCH = _refuse_method  # noqa: N815

    # ---- who may ask -------------------------------------------------------------------------

    def _admitted(self) -> tuple[str, list[str]] | None:
        """The first word of the address and what follows the token; None where 403 was said."""
        names, numbers = self.server.names, self.server.numbers
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        parts = _parts(self.path)
        own = is_own(host, names, numbers) and (origin is None or same_site(origin, host, names, numbers))
        if own and parts is not None and len(parts) >= 2 and self._knows(parts[1]):
            return parts[0], parts[2:]
        self._head(403, {"Connection": "close"})
        return None

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.server.site.token.encode())

    # ---- what is said ------------------------------------------------------------------------

    def _answer(self, word: str, rest: list[str]) -> None:
        site = self.server.site
        path: Path | None = None
        match word, rest:
            case "open", [] | [""]:
                to = f"{self._base}/state/{site.token}/state.json"
                return self._head(302, {"Location": f"/v/{site.token}/#!{to}"})
            case "v", []:
                return self._head(302, {"Location": f"/v/{site.token}/"})
            case "v", [name]:
                path = site.client_file(name)
            case "events", []:
                return self._events()
            case "state", ["state.json"]:
                return self._json(state_of(site.scene, self._base, site.token))
            case "names", [key, "info"] if key in site.names:
                return self._json(site.names[key]())
            case "data", [key, *parts] if key in site.shares:
                path = site.shares[key].find(parts)
        return self._head(404) if path is None else self._file(path)

    @property
    def _base(self) -> str:
        return f"http://{self.headers['Host']}"

    def _head(self, status: int, headers: dict[str, str] | None = None) -> None:
        """Status and headers; without a Content-Type nothing follows them."""
        sent = {**GUARDS, **(self._cross_origin() if status < 400 else {}), **(headers or {})}
        if "Content-Type" not in sent and status != 204:
            sent["Content-Length"] = "0"
        self.send_response(status)
        for key, value in sent.items():
            self.send_header(key, value)
        self.end_headers()

    def _cross_origin(self) -> dict[str, str]:
        """For a page that was opened by another name of this very server (localhost, 127.0.0.1)."""
        origin = self.headers.get("Origin")
        if origin is None:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": "Range",
            "Access-Control-Expose-Headers": "Content-Range, Content-Length",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }

    def _json(self, value: dict[str, Any]) -> None:
        body = json.dumps(value, separators=(",", ":")).encode()
        self._head(200, {"Content-Type": TYPES[".json"], "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _file(self, path: Path) -> None:
        try:
            handle = path.open("rb")
        except OSError:
            return self._head(404)
        with handle:
            size = os.fstat(handle.fileno()).st_size
            try:
                asked = byte_range(self.headers.get("Range"), size)
            except UnsatisfiableError:
                return self._head(416, {"Content-Range": f"bytes */{size}"})
            self._send(handle, size, asked, TYPES.get(path.suffix, "application/octet-stream"))
        return None

    def _send(self, handle: BinaryIO, size: int, asked: tuple[int, int] | None, kind: str) -> None:
        first, last = asked or (0, size - 1)
        length = last - first + 1
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes", "Content-Length": str(length)}
        if asked is not None:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        if kind == TYPES[".html"]:
            headers["Content-Security-Policy"] = POLICY
        self._head(200 if asked is None else 206, headers)
        if self.command != "HEAD" and length:
            sent = self.connection.sendfile(handle, first, length)
            self.close_connection |= sent < length  # the file became shorter meanwhile

    def _events(self) -> None:
        """An open line on which nothing is said, so that the client knows that the server is there."""
        self._head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        while self.command != "HEAD":
            self.wfile.write(b":\n\n")
            if self.server.ending.wait(BEAT_S):
                break

    # ---- manners -----------------------------------------------------------------------------

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Of what is no HTTP: a status and nothing else."""
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *values: Any) -> None:
        """To the log, without the token."""
        log.debug("%s", (format % values).replace(self.server.site.token, "TOKEN"))


def _parts(path: str) -> list[str] | None:
    """The decoded parts of a request's path; None where it is no path."""
    if not path.startswith("/"):
        return None
    try:
        return [unquote(part, errors="strict") for part in path.partition("?")[0][1:].split("/")]
    except UnicodeDecodeError:
        return None
