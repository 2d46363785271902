"""Replacement: what is there after each step of it, and after a kill."""

import os

import pytest

from densem.replacement import put_back, take_place


@pytest.fixture
def made(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/new").write_text("new")
    return tmp_path / "made"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "place/old").write_text("old")
    return tmp_path / "place"


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_folder(made, place, tmp_path):
    take_place(made, place)
    assert names(tmp_path) == ["place", "place/new"]


def test_where_nothing_was(made, tmp_path):
    take_place(made, tmp_path / "place")
    assert names(tmp_path) == ["place", "place/new"]


def test_a_file(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    take_place(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "new"


def test_a_kill_in_the_middle(made, place, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            take_place(made, place)
    assert not place.exists()
    put_back(place)
    assert names(place) == ["old"]
    put_back(place)  # nothing left to do
    assert names(tmp_path) == ["made", "made/new", "place", "place/old"]
    take_place(made, place)
    assert names(tmp_path) == ["place", "place/new"]


def test_a_kill_in_the_middle_and_only_then_what_was_made(made, place, tmp_path):
    place.rename(tmp_path / ".place.old")
    take_place(made, place)
    assert names(tmp_path) == ["place", "place/new"]
