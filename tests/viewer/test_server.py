"""The server: what is given, in which ranges, and to whom not a word is said."""

import http.client
import json
import os
import socket

import pytest

from densem.errors import InputError, ResourceError
from densem.viewer import open_server

CHUNK = bytes(range(256)) * 5
DATA = "/data/TOKEN/image/s0/c/0/0/1"


def test_whole_file_and_head(ask):
    status, headers, body = ask("GET", DATA)
    assert (status, body) == (200, CHUNK)
    assert headers["Accept-Ranges"] == "bytes"
    status, headers, body = ask("HEAD", DATA)
    assert (status, headers["Content-Length"], body) == (200, "1280", b"")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=7-99", 7, 99), ("bytes=1270-", 1270, 1279), ("bytes=-16", 1264, 1279),
     ("bytes=1000-9999", 1000, 1279), ("bytes=-5000", 0, 1279), ("Bytes=3-4", 3, 4)],
)  # fmt: skip
def test_ranges(ask, asked, first, last):
    status, headers, body = ask("GET", DATA, Range=asked)
    assert status == 206
    assert headers["Content-Range"] == f"bytes {first}-{last}/1280"
    assert body == CHUNK[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=1280-", "bytes=-0", "bytes=5000-6000"])
def test_ranges_behind_the_end(ask, asked):
    status, headers, body = ask("GET", DATA, Range=asked)
    assert (status, headers["Content-Range"], body) == (416, "bytes */1280", b"")


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "bytes=9-3", "bytes=-", "lines=0-1", "bytes=a-b"])
def test_ranges_that_are_none_give_the_whole(ask, asked):
    status, _, body = ask("GET", DATA, Range=asked)
    assert (status, body) == (200, CHUNK)


def test_several_requests_on_one_connection(ask):
    line = http.client.HTTPConnection("127.0.0.1", ask.server.server_port, timeout=10)
    path = DATA.replace("TOKEN", ask.site.token)
    for method, status, body in (("HEAD", 200, b""), ("GET", 206, CHUNK[-4:]), ("OPTIONS", 204, b"")):
        line.request(method, path, headers={"Range": "bytes=-4"} if method == "GET" else {})
        answer = line.getresponse()
        assert (answer.status, answer.read()) == (status, body)
    line.close()


def test_client_and_state(ask):
    status, headers, body = ask("GET", "/open/TOKEN")
    host, token = f"127.0.0.1:{ask.server.server_port}", ask.site.token
    assert status == 302
    assert headers["Location"] == f"/v/{token}/#!http://{host}/state/{token}/state.json"
    assert ask.server.url == f"http://{host}/open/{token}"
    status, headers, body = ask("GET", "/v/TOKEN/")
    assert (status, body) == (200, b"<html>viewer</html>")
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    status, headers, body = ask("GET", "/v/TOKEN/main.abc.js")
    assert (status, headers["Content-Type"], body) == (200, "text/javascript", b"let a = 1")
    status, _, body = ask("GET", "/state/TOKEN/state.json")
    url = f"http://{host}/data/{token}/image/|zarr3:"
    assert json.loads(body)["layers"][0]["source"]["url"] == url
    status, _, body = ask("GET", "/names/TOKEN/classes/info")
    assert json.loads(body)["inline"]["ids"] == ["0", "2"]


def test_state_follows_a_tunnel(ask):
    _, headers, _ = ask("GET", "/open/TOKEN", Host="localhost:9000")
    assert "#!http://localhost:9000/state/" in headers["Location"]


def test_events_stay_open_until_the_end(ask):
    with socket.create_connection(("127.0.0.1", ask.server.server_port), timeout=10) as line:
        line.sendall(f"GET /events/{ask.site.token}?c=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        said = b""
        while b":\n\n" not in said:
            said += line.recv(4096)
        assert said.startswith(b"HTTP/1.1 200")
        assert b"text/event-stream" in said
        ask.server.ending.set()
        while line.recv(4096):
            pass


@pytest.mark.parametrize(
    "path",
    ["/", "/open/wrong", "/data/wrong/image/zarr.json", "/TOKEN", "/nothing", "/v/TOKENx/", "/open/%ff",
     "/favicon.ico", "http://evil/open/TOKEN"],
)  # fmt: skip
def test_without_the_token_nothing_is_said(ask, path):
    status, headers, body = ask("GET", path)
    assert (status, body) == (403, b"")
    assert headers["Content-Length"] == "0"
    assert ask("POST", path)[::2] == (403, b"")
    assert ask("OPTIONS", path)[::2] == (403, b"")


@pytest.mark.parametrize(
    "path",
    ["/data/TOKEN/image/notes.txt", "/data/TOKEN/image/", "/data/TOKEN/image", "/data/TOKEN/image/s0/c/0/0",
     "/data/TOKEN/image/s0/c/0/0/2", "/data/TOKEN/other/zarr.json", "/data/TOKEN/image/../v.zarr/zarr.json",
     "/data/TOKEN/image/%2e%2e/v.zarr/zarr.json", "/data/TOKEN/image/..%2fv.zarr/zarr.json",
     "/data/TOKEN/image/s0//c/0/0/1", "/data/TOKEN/image/s0/c/0/0/1%00", "/data/TOKEN/image/%2fetc/0",
     "/v/TOKEN/secret.toml", "/v/TOKEN/..%2fmain.abc.js", "/v/TOKEN/a/main.abc.js", "/names/TOKEN/other/info",
     "/names/TOKEN/classes", "/state/TOKEN/", "/events/TOKEN/x", "/study.toml/TOKEN"],
)  # fmt: skip
def test_what_is_not_served(ask, path):
    status, _, body = ask("GET", path)
    assert (status, body) == (404, b"")


def test_links_out_of_a_share_are_not_followed(ask, tmp_path):
    outside = tmp_path / "7"
    outside.write_text("out")
    volume = tmp_path / "study" / "v.zarr"
    (volume / "7").symlink_to(outside)
    (volume / "s1").symlink_to(tmp_path)
    (volume / "8").symlink_to(volume / "zarr.json")
    (volume / "9").symlink_to(volume / "9")
    os.mkfifo(volume / "6")
    assert ask("GET", "/data/TOKEN/image/7")[0] == 404
    assert ask("GET", "/data/TOKEN/image/s1/7")[0] == 404
    assert ask("GET", "/data/TOKEN/image/8")[::2] == (200, b"{}")
    assert ask("GET", "/data/TOKEN/image/9")[0] == 404
    assert ask("GET", "/data/TOKEN/image/6")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods(ask, method):
    status, headers, body = ask(method, DATA)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD, OPTIONS", b"")
    assert ask("BREW", DATA)[::2] == (501, b"")


def test_options(ask):
    status, headers, body = ask("OPTIONS", DATA)
    assert (status, headers["Allow"], body) == (204, "GET, HEAD, OPTIONS", b"")
    assert headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "a b"]
)
def test_rebound_names_are_refused(ask, host):
    assert ask("GET", DATA, Host=host)[::2] == (403, b"")


def test_pages_of_others_are_refused(ask):
    port = ask.server.server_port
    for origin in ("http://evil.example", "null", f"http://localhost:{port + 1}", f"ftp://localhost:{port}"):
        status, headers, body = ask("GET", DATA, Origin=origin)
        assert (status, body) == (403, b"")
        assert headers["Access-Control-Allow-Origin"] is None


def test_own_page_by_another_name_may_read(ask):
    origin = f"http://localhost:{ask.server.server_port}"
    status, headers, body = ask("GET", DATA, Origin=origin, Range="bytes=0-1")
    assert (status, body) == (206, CHUNK[:2])
    assert headers["Access-Control-Allow-Origin"] == origin
    assert headers["Vary"] == "Origin"
    status, headers, _ = ask("OPTIONS", DATA, Origin=origin)
    assert (status, headers["Access-Control-Allow-Headers"]) == (204, "Range")


def test_it_listens_on_loopback_alone(ask):
    assert ask.server.server_address[0] == "127.0.0.1"


def test_tokens_are_long_and_new(site):
    from dataclasses import replace

    other = type(site)(site.scene, site.shares, site.names, site.client)
    assert len(site.token) >= 40
    assert other.token != site.token
    assert site.token not in repr(site)
    assert replace(site, token="x").token == "x"


def test_taken_and_wrong_addresses(ask, site):
    port = ask.server.server_port
    with pytest.raises(
        ResourceError, match=rf"--port {port}: taken by another program on 127.0.0.1; leave --port out"
    ):
        open_server(site, port=port)
    with pytest.raises(InputError, match="--port 70000: expected 0"):
        open_server(site, port=70000)
    with pytest.raises(InputError, match=r"--host 192.0.2.1: expected an address of this machine"):
        open_server(site, "192.0.2.1")


def test_open_to_the_network_takes_plain_numbers(site, monkeypatch):
    at_home = (socket.AF_INET, ("127.0.0.1", 0))  # the test itself opens nothing to the network
    monkeypatch.setattr("densem.viewer.server._resolve", lambda host, port: at_home)
    server = open_server(site, "0.0.0.0")
    try:
        assert server.url.startswith(f"http://127.0.0.1:{server.server_port}/open/")
        assert server.numbers
    finally:
        server.server_close()


def test_the_log_does_not_hold_the_token(ask, caplog):
    with caplog.at_level("DEBUG", logger="densem.viewer"):
        ask("GET", DATA)
    assert "/data/TOKEN/image" in caplog.text
    assert ask.site.token not in caplog.text
