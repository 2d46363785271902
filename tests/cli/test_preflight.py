"""`densem predict --dry-run` at three widths, as JSON, and when it refuses."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from densem.cli.app import run
from densem.inference.measurement import measure_here

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
from tiny_models import make_model, make_volume, write_volume

module = importlib.import_module("densem.inference.preflight")
fits = importlib.import_module("densem.inference.fits")


def listing(folder):
    return sorted((str(p.relative_to(folder)), p.stat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model and a volume; the window is measured in this process."""
    monkeypatch.setattr(module, "measure", measure_here)
    monkeypatch.setattr(module, "SECONDS", 0.1)
    make_model("planar").save(tmp_path / "tiny")
    write_volume(make_volume(), tmp_path / "v.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ARGUMENTS = ["predict", "--input", "v.zarr", "--model", "tiny", "--dry-run"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_page_of_facts_and_nothing_written(place, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    before = listing(place)
    assert run(ARGUMENTS) == 0
    assert listing(place) == before
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    names = [line.split()[0] for line in said.splitlines() if line[:1].isalpha()]
    wanted = ["volume", "models", "tiles", "blocks", "disk", "files", "memory", "measured", "time"]
    assert names[: len(wanted)] == wanted
    flat = " ".join(said.split())
    assert "v: 7 x 53 x 70 voxels (z y x) of 40 x 10 x 8 nm, uint8: 25,970 voxels" in flat
    assert "It fits. Nothing was written; the same command without --dry-run does it." in flat


def test_json(place, capsys):
    assert run([*ARGUMENTS, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["volume"]["shape"] == [7, 53, 70]
    assert facts["folder"] == "v-tiny"


def test_a_refusal_is_said_after_the_facts(place, capsys, monkeypatch):
    monkeypatch.setattr(fits.psutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    before = listing(place)
    assert run([*ARGUMENTS, "--json"]) == 2
    said = capsys.readouterr()
    (refusal,) = json.loads(said.out)["refusals"]
    assert said.err.endswith(f"densem: error: does not fit: {refusal}\n")
    assert refusal.startswith("v-tiny: expected up to ")
    assert "found 1 kB free there; free " in refusal
    assert run(ARGUMENTS) == 2
    assert "It fits." not in capsys.readouterr().out
    assert listing(place) == before


def test_json_alone_is_refused(place, capsys):
    assert run([*ARGUMENTS[:-1], "--json"]) == 2
    assert "--json says what --dry-run finds; give both, or neither" in capsys.readouterr().err
    assert not (place / "v-tiny").exists()


def test_in_a_study_nothing_changes(place, capsys):
    study = place / "s"
    assert run(["new", str(study), "--classes", "a,b"]) == 0
    assert run(["import", str(study), "one", "--image", "v.zarr"]) == 0
    capsys.readouterr()
    before = listing(study)
    assert (
        run(["predict", str(study), "--volume", "one", "--model", "tiny", "--dry-run", "--save", "entropy"])
        == 0
    )
    assert "predictions/tiny-one" in "".join(capsys.readouterr().out.split())
    assert listing(study) == before
    assert (
        run(["predict", str(study), "--volume", "one", "--model", "tiny", "--dry-run", "--engine", "slurm"])
        == 2
    )
    assert "expected this cluster's settings in" in capsys.readouterr().err
    assert listing(study) == before


def test_another_voxel_size_is_refused_before_anything_is_measured(place, capsys, monkeypatch):
    volume = make_volume(voxel_size_nm=(40.0, 10.0, 4.0))
    write_volume(volume, place / "w.zarr")
    monkeypatch.setattr(module, "measure", None)
    assert run(["predict", "--input", "w.zarr", "--model", "tiny", "--dry-run"]) == 2
    assert "found 40 x 10 x 4 nm; give --resample" in capsys.readouterr().err
