"""Objects inside a study: what is noted, what is refused, and a study that was moved."""

import csv
import shutil
import sys

import numpy as np
import pytest

from densem.cli.app import run
from densem.errors import ExistsError, IncompleteError, InputError, NotFoundError
from densem.objects import finding
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.lineage import describe_study
from densem.study.manifest import PredictionEntry, VolumeEntry, locked
from densem.study.objects import ObjectsRequest, find_in_study
from densem.study.progress import statuses
from densem.study.scoring import next_commands
from densem.volumes import ome_zarr

SIZE = (40.0, 10.0, 10.0)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def write(path, array, record=None):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], (0.0, 0.0, 0.0), record or {})
    return ome_zarr.finish(path)


@pytest.fixture
def study(tmp_path):
    made = Study.create(tmp_path / "st", LabelSchema.resolve("platelet"))
    classes = np.zeros((6, 30, 37), np.uint8)
    classes[1:5, 4:20, 3:17] = 1
    classes[2:4, 6:10, 5:9] = 2
    classes[:, 22:, 20:] = 1
    image = write(tmp_path / "image.zarr", (classes * 20 + 3).astype(np.uint8))
    write(made.folder / "predictions/first/classes.zarr", classes, {"provenance": {"input": image.id}})
    write(made.folder / "annotations/vol/semantic.zarr", classes)
    shutil.copytree(tmp_path / "image.zarr", made.folder / "volumes/vol.zarr")
    with locked(made.path) as manifest:
        manifest.volumes["vol"] = VolumeEntry(
            role="eval", image="volumes/vol.zarr", semantic="annotations/vol/semantic.zarr"
        )
        manifest.volumes["bare"] = VolumeEntry(role="eval", image="volumes/vol.zarr")
        manifest.predictions["first"] = PredictionEntry(
            models=["m"], model_id="x", volume="vol", volume_id=image.id
        )
    return made


def test_what_to_type_next(study, capsys):
    """On the page of an evaluation, and once there are objects."""
    entry = study.manifest.predictions["first"]
    commands = [command for _, command in next_commands(study, "first", entry)]
    assert f"densem objects {study.folder} --prediction first" in commands
    assert run(["objects", str(study.folder), "--prediction", "first", "--name", "mine"]) == 0
    see = f"densem report-objects {study.folder} --objects mine"
    assert f"See them:  {see}   (a page with a 3D view)" in capsys.readouterr().out
    commands = [command for _, command in next_commands(Study.open(study.folder), "first", entry)]
    assert see in commands
    assert not any(c.startswith("densem objects") for c in commands)


def test_tuned_affinities_without_any_name_the_file_of_the_choice(study, capsys):
    file = study.folder / "tuned/x.toml"
    file.parent.mkdir()
    file.write_text('[cell]\nsettings = { method = "mutex", mutex_bias = 0.35 }\n')
    command = ["objects", str(study.folder), "--prediction", "first"]
    for asked in ([], ["--set", "cell.min_volume_nm3=1"]):
        assert run([*command, *asked]) == 2
        said = capsys.readouterr().err
        assert f'{file}: [cell] method = "mutex", as densem tune-objects chose: expected a prediction' in said
        assert "found none; predict without --no-affinities" in said
        assert "such as --set cell.method=components, or give --untuned" in said
    assert run([*command, "--set", "cell.method=components", "--name", "asked"]) == 0
    assert run([*command, "--untuned"]) == 0


def test_command_writes_tables_and_is_noted(study, capsys):
    assert run(["objects", str(study.folder), "--prediction", "first"]) == 0
    said = capsys.readouterr().out
    assert "cell                     2" in said
    assert "mitochondrion            1" in said
    with (study.folder / "objects/first/objects.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["class"], r["parent"], r["voxels"], r["touches_border"]) for r in rows] == [
        ("cell", "0", "816", "True"), ("cell", "0", "896", "False"), ("mitochondrion", "2", "32", "False"),
    ]  # fmt: skip
    entry = study.manifest.objects["first"]
    assert (entry.source, entry.name, entry.volume) == ("prediction", "first", "vol")
    assert "objects first" in study.users_of("vol")
    assert describe_study(study)["objects"] == [
        {"objects": "first", "volume": "vol", "of": "prediction first", "finished": True,
         "found": "cell 2, mitochondrion 1"}
    ]  # fmt: skip
    assert run(["objects", str(study.folder), "--prediction", "first"]) == 2
    assert "give another --name or --overwrite" in capsys.readouterr().err


def test_objects_of_labels(study):
    found = find_in_study(
        study.folder, ObjectsRequest(labels="vol", overrides=("cell.min_volume_nm3=3.4e6",))
    )
    assert found.folder.name == "vol-labels"
    assert found.counts() == {"cell": 1, "mitochondrion": 1}
    study.rename_volume("vol", "renamed")
    assert study.manifest.objects["vol-labels"].name == "renamed"


def test_a_study_that_was_moved(study, tmp_path):
    find_in_study(study.folder, ObjectsRequest(prediction="first"))
    moved = tmp_path / "elsewhere" / "st"
    shutil.move(study.folder, moved)
    found = find_in_study(moved, ObjectsRequest(prediction="first", overwrite=True))
    assert found.volumes[0].path == (moved / "objects/first/objects-0.zarr").resolve()
    shutil.rmtree(moved / "predictions/first")
    with pytest.raises(
        NotFoundError, match=r"stands in study.toml, but its folder .* is gone; was the study moved"
    ):
        find_in_study(moved, ObjectsRequest(prediction="first", overwrite=True))
    assert (moved / "objects/first/objects.csv").exists()


def test_what_is_refused(study, capsys):
    folder = study.folder
    with pytest.raises(NotFoundError, match=r"no prediction 'frist'\. Did you mean 'first'"):
        find_in_study(folder, ObjectsRequest(prediction="frist"))
    with pytest.raises(NotFoundError, match=r"no volume 'vo'\. Did you mean 'vol'"):
        find_in_study(folder, ObjectsRequest(labels="vo"))
    with pytest.raises(InputError, match="volume 'bare' has no labels"):
        find_in_study(folder, ObjectsRequest(labels="bare"))
    for request in (ObjectsRequest(), ObjectsRequest(prediction="first", labels="vol")):
        with pytest.raises(InputError, match="give either --prediction NAME or --labels VOLUME"):
            find_in_study(folder, request)
    find_in_study(folder, ObjectsRequest(prediction="first", name="mine"))
    with pytest.raises(ExistsError, match="objects 'mine' are of prediction 'first'; give another --name"):
        find_in_study(folder, ObjectsRequest(labels="vol", name="mine"))
    assert run(["objects", str(folder), "--labels", "vol", "--block", "0", "4", "4"]) == 2
    assert "--block 0 4 4: expected three voxel counts above zero" in capsys.readouterr().err
    assert not (folder / "objects/vol-labels").exists()


def test_a_prediction_that_study_toml_does_not_know(study):
    with locked(study.path) as manifest:
        del manifest.predictions["first"]
    find_in_study(study.folder, ObjectsRequest(prediction="first"))
    assert study.manifest.objects["first"].volume == "vol"


def test_a_prediction_that_is_not_finished(study):
    folder = study.folder / "predictions/second/journal"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="'second' is not finished; run its  densem predict  command again"):
        find_in_study(study.folder, ObjectsRequest(prediction="second"))
    assert not (study.folder / "objects").exists()


def test_a_schema_without_things(tmp_path, capsys):
    made = Study.create(tmp_path / "st", LabelSchema.resolve("membrane"))
    labels = (np.arange(6 * 7 * 8).reshape(6, 7, 8) % 2).astype(np.uint8)
    write(made.folder / "volumes/vol.zarr", labels)
    write(made.folder / "annotations/vol/semantic.zarr", labels)
    with locked(made.path) as manifest:
        manifest.volumes["vol"] = VolumeEntry(
            role="eval", image="volumes/vol.zarr", semantic="annotations/vol/semantic.zarr"
        )
    assert run(["objects", str(made.folder), "--labels", "vol"]) == 2
    said = capsys.readouterr().err
    assert "the schema has no class with thing = true (its classes: " in said
    assert "mark those that come in countable objects in study.toml" in said
    assert not (made.folder / "objects").exists()


def test_nothing_found_is_said(study, capsys):
    empty = np.zeros((6, 30, 37), np.uint8)
    shutil.rmtree(study.folder / "annotations/vol/semantic.zarr")
    write(study.folder / "annotations/vol/semantic.zarr", empty)
    assert run(["objects", str(study.folder), "--labels", "vol"]) == 0
    said = capsys.readouterr().out
    assert "No object was found: there is no voxel of a thing class. The tables are empty." in said
    assert describe_study(study)["objects"][0]["found"] == "none"
    command = ["objects", str(study.folder), "--prediction", "first", "--name", "big"]
    large = [f"{kind}.min_volume_nm3=1e12" for kind in ("cell", "mitochondrion")]
    assert run([*command, *[word for text in large for word in ("--set", text)]]) == 0
    assert "No object was found: all are below min_volume_nm3." in capsys.readouterr().out


def test_without_pyarrow_it_says_so(study, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(["objects", str(study.folder), "--prediction", "first"]) == 0
    assert "No Parquet was written: pip install 'densem[objects]' brings pyarrow." in capsys.readouterr().out
    assert not (study.folder / "objects/first/objects.parquet").exists()


def test_a_damaged_table_is_told(study):
    find_in_study(study.folder, ObjectsRequest(prediction="first"))
    table = study.folder / "objects/first/objects.csv"
    table.write_bytes(table.read_bytes()[:-30])
    said = describe_study(study)["objects"][0]["found"]
    assert "line 4: damaged or cut off, expected" in said
    assert "--overwrite" in said


def test_nothing_that_is_stored_is_an_absolute_path(study):
    found = find_in_study(study.folder, ObjectsRequest(prediction="first"))
    texts = [p.read_text() for p in found.folder.rglob("*.json")] + [study.path.read_text()]
    assert not any(str(study.folder) in text for text in texts)


class Killed(BaseException):
    pass


@pytest.fixture
def interrupted(study, monkeypatch):
    """A study in which a run ended while measuring."""

    def dying(self, index, box):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(finding.MeasureTask, "__call__", dying)
        with pytest.raises(Killed):
            find_in_study(study.folder, ObjectsRequest(prediction="first"))
    return study


def test_a_moved_study_goes_on_where_it_was(interrupted, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere"
    shutil.move(interrupted.folder, moved)

    labelled, real = [], finding.LabelTask.__call__

    def noted(self, index, box):
        labelled.append(self.level.number)
        return real(self, index, box)

    monkeypatch.setattr(finding.LabelTask, "__call__", noted)
    assert find_in_study(moved, ObjectsRequest(prediction="first")).counts() == {
        "cell": 2,
        "mitochondrion": 1,
    }
    assert labelled == [1]  # the cells were labelled before


def test_status_tells_of_objects_that_are_not_finished(interrupted, capsys):
    home = interrupted.folder / "objects/first"
    for folder in (interrupted.folder, home):
        assert run(["status", str(folder)]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0] == f"{home}: level 0, pass 4, measure: stopped"
        assert said[1] == "  blocks   0 of 1 done (0.0 %), 1 left"
    find_in_study(interrupted.folder, ObjectsRequest(prediction="first"))
    assert run(["status", str(interrupted.folder)]) == 0
    assert capsys.readouterr().out == "Nothing is unfinished.\n"
    assert run(["status", str(home)]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"{home}: finished", "  blocks   1 of 1 done (100.0 %), 0 left"
    ]  # fmt: skip


def test_status_tells_of_blocks_that_failed(study, monkeypatch):
    def failing(self, index, box):
        raise ValueError("no luck")

    monkeypatch.setattr(finding.SeamTask, "__call__", failing)
    seen = []
    with pytest.raises(IncompleteError, match=r"1 of 1 blocks are missing .*no luck"):
        find_in_study(
            study.folder, ObjectsRequest(prediction="first"), lambda *_: seen.extend(statuses(study.folder))
        )
    assert {s.state for s in seen} == {"running"}
    (status,) = statuses(study.folder)
    assert (status.state, status.engine) == ("incomplete", "local")
    assert [f.message for f in status.failures] == ["ValueError: no luck"]
