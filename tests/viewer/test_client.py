"""Where the client is found, and what is said where it is not."""

from importlib import metadata

import pytest

from densem.errors import NotFoundError
from densem.viewer.client import find_client


def version(monkeypatch, value):
    def known(name):
        if value is None:
            raise metadata.PackageNotFoundError(name)
        return value

    monkeypatch.setattr("densem.viewer.client.metadata.version", known)


def test_the_wheel_brings_its_client():
    pytest.importorskip("neuroglancer")
    folder = find_client()
    assert (folder / "index.html").is_file()
    assert list(folder.glob("main.*.js"))


def test_missing(monkeypatch):
    version(monkeypatch, None)
    with pytest.raises(NotFoundError, match=r"densem view needs Neuroglancer: pip install 'densem\[view\]'"):
        find_client()


def test_too_old(monkeypatch):
    version(monkeypatch, "2.40.1")
    with pytest.raises(NotFoundError, match=r"2.41 or newer, found 2.40.1.*without --only-binary"):
        find_client()


def test_without_its_client(monkeypatch):
    version(monkeypatch, "2.41.2")
    monkeypatch.setattr("densem.viewer.client.importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotFoundError, match="installed without its client"):
        find_client()
