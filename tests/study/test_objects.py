"""Objects inside a study: what is noted, what is refused, and a study that was moved."""

import csv
import shutil

import numpy as np
import pytest

from densem.cli.app import run
from densem.errors import ExistsError, InputError, NotFoundError
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.lineage import describe_study
from densem.study.manifest import PredictionEntry, locked
from densem.study.objects import ObjectsRequest, find_in_study
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
        from densem.study.manifest import VolumeEntry

        manifest.volumes["vol"] = VolumeEntry(
            role="eval", image="volumes/vol.zarr", semantic="annotations/vol/semantic.zarr"
        )
        manifest.volumes["bare"] = VolumeEntry(role="eval", image="volumes/vol.zarr")
        manifest.predictions["first"] = PredictionEntry(
            models=["m"], model_id="x", volume="vol", volume_id=image.id
        )
    return made


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
        {"objects": "first", "volume": "vol", "of": "prediction first", "finished": True}
    ]
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
