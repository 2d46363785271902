"""A site of made-up files, on loopback."""

import http.client
import threading
from dataclasses import dataclass

import pytest

from densem.viewer import Focus, ImageLayer, Scene, Share, Site, Source, open_server, segment_names

SIZE = (40.0, 10.0, 12.0)


@dataclass
class Asked:
    """A server, and a way to ask it."""

    server: object
    site: Site

    def __call__(self, method, path, **headers):
        line = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        try:
            line.request(method, path.replace("TOKEN", self.site.token), headers=headers)
            answer = line.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            line.close()


@pytest.fixture
def site(tmp_path):
    client = tmp_path / "client"
    client.mkdir()
    (client / "index.html").write_text("<html>viewer</html>")
    (client / "main.abc.js").write_text("let a = 1")
    (client / "secret.toml").write_text("no")
    volume = tmp_path / "study" / "v.zarr"
    (volume / "s0" / "c" / "0" / "0").mkdir(parents=True)
    (volume / "zarr.json").write_text("{}")
    (volume / "notes.txt").write_text("no")
    (volume / "s0" / "c" / "0" / "0" / "1").write_bytes(bytes(range(256)) * 5)
    scene = Scene(
        "st eval", SIZE, Focus((0.0, 0.0, 0.0), (40.0, 100.0, 120.0)),
        (ImageLayer("image", Source("image", 3, SIZE, (0.5, 0.5, 0.5))),),
    )  # fmt: skip
    names = {"classes": lambda: segment_names([0, 2], ["background", "cell"])}
    return Site(scene, {"image": Share(volume)}, names, client)


@pytest.fixture
def ask(site):
    server = open_server(site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield Asked(server, site)
    server.shutdown()
    server.server_close()
    thread.join()
