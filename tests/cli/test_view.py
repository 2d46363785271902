"""`densem view` as it is typed."""

import re
import socket

import numpy as np
import pytest

from densem.cli.app import run
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import VolumeEntry, locked
from densem.viewer import ViewServer
from densem.volumes import ome_zarr


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr("densem.study.viewing.find_client", lambda: tmp_path)
    made = Study.create(tmp_path / "st", LabelSchema.resolve("membrane"))
    path = made.folder / "volumes/vol.zarr"
    ome_zarr.create(path, (2, 3, 4), np.uint8)[:] = 7
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", (40.0, 10.0, 10.0))], (0.0, 0.0, 0.0), {})
    ome_zarr.finish(path)
    with locked(made.path) as manifest:
        manifest.volumes["vol"] = VolumeEntry(role="train", image="volumes/vol.zarr")
    return str(made.folder)


@pytest.fixture
def ended(monkeypatch):
    """Servers that were started; each ends as by Ctrl-C."""
    started = []

    def serve(server, poll_interval=0.5):
        started.append(server)
        raise KeyboardInterrupt

    monkeypatch.setattr(ViewServer, "serve_forever", serve)
    return started


@pytest.fixture
def opened(monkeypatch):
    addresses = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    monkeypatch.setattr("densem.cli.viewing._has_screen", lambda: True)
    return addresses


def test_says_its_address_opens_it_and_ends(study, ended, opened, capsys):
    assert run(["view", study]) == 0
    said = capsys.readouterr().out
    assert "Volume vol of study st: image" in said
    (url,) = re.findall(r"Open in a browser: (http://127\.0\.0\.1:\d+/open/[A-Za-z0-9_-]{40,})", said)
    assert opened == [url]
    assert said.endswith("Ctrl-C ends it.\nEnded.\n")
    assert ended[0].ending.is_set()
    assert ended[0].socket.fileno() == -1  # closed


def test_no_browser(study, ended, opened, capsys):
    assert run(["view", study, "--no-browser"]) == 0
    assert opened == []


@pytest.mark.filterwarnings("always::densem.errors.DensemWarning")
def test_host_says_who_can_see_it(study, ended, capsys, monkeypatch):
    at_home = (socket.AF_INET, ("127.0.0.1", 0))  # the test itself opens nothing to the network
    monkeypatch.setattr("densem.viewer.server._resolve", lambda host, port: at_home)
    assert run(["view", study, "--host", "0.0.0.0", "--no-browser"]) == 0
    said = capsys.readouterr().err
    assert re.search(r"densem: warning: --host 0.0.0.0: whoever reaches port \d+ of this machine", said)


def test_a_taken_port(study, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["view", study, "--port", str(port), "--no-browser"]) == 2
    assert f"densem: error: --port {port}: taken by another program" in capsys.readouterr().err


def test_without_neuroglancer(tmp_path, monkeypatch, capsys):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("densem.viewer.client.metadata.version", missing)
    assert run(["view", str(tmp_path)]) == 2
    assert "pip install 'densem[view]'" in capsys.readouterr().err
