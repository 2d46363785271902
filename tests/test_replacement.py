"""Replacement: what is there after each step of it, and after a kill."""

import os

import pytest

from densem.errors import FormatError, InputError
from densem.replacement import nothing_if_refused, put_back, take_place


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


@pytest.mark.parametrize("other", [False, True])
def test_a_refusal_leaves_nothing_but_what_is_of_others(made, other):
    (made / "work/blocks").mkdir(parents=True)
    if other:
        (made / "notes.txt").write_text("mine")
    remove = nothing_if_refused(made, "work", lambda folder: (folder / "new").unlink())
    with pytest.raises(InputError, match="no class"), remove:
        raise InputError("no class")
    assert made.exists() == other
    assert not other or names(made) == ["notes.txt"]


@pytest.mark.parametrize("error", [OSError("full"), FormatError("cannot be read")])
def test_what_is_no_refusal_is_kept_for_the_next_attempt(made, error):
    (made / "work").mkdir()
    with pytest.raises(type(error)), nothing_if_refused(made, "work", lambda folder: 1 / 0):
        raise error
    assert names(made) == ["new", "work"]
