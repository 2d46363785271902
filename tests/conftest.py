"""A web server on loopback that breaks off, forgets ranges and refuses as it is told."""

import http.server
import threading

import pytest


class Web:
    """What the server gives out, and how it misbehaves.

    `cuts`: for each of the next answers, after how many bytes of the body it breaks off (None: not);
    `answers`: status and headers to give instead of the file, one for each of the next requests.
    """

    def __init__(self):
        self.files = {}
        self.cuts, self.answers, self.asked = [], [], []
        self.ranges, self.tag, self.shift = True, '"v1"', 0
        self.headers = {}
        self.address = ""

    def url(self, name):
        return f"{self.address}/{name}"


def handler_of(web):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            web.asked.append(dict(self.headers))
            if web.answers:
                status, headers = web.answers.pop(0)
                self.answer(status, headers, b"")
                return
            body = web.files.get(self.path.lstrip("/").partition("?")[0])
            if body is None:
                self.answer(404, {}, b"gone")
                return
            self.give(body)

        def give(self, body):
            headers = {"ETag": web.tag} if web.tag else {}
            asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
            if web.ranges and asked and condition in (None, web.tag):
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(body):
                    self.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
                    return
                start = max(0, start - web.shift)
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                self.answer(206, headers, body[start:])
                return
            self.answer(200, headers, body)

        def answer(self, status, headers, body):
            cut = web.cuts.pop(0) if web.cuts else None
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers, **web.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])

    return Handler


@pytest.fixture
def web(monkeypatch):
    """A server on loopback; pauses between tries take no time."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("densem.datasets.download.PAUSES_S", (0.0, 0.0))
    made = Web()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(made))
    made.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
