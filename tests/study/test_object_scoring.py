"""Objects of a study against annotated ones: the command, its file, and what it refuses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from densem.cli.app import run
from densem.errors import ConfigError, InputError, NotFoundError, ShapeError, VoxelSizeError
from densem.evaluation import ObjectScores, ObjectVolumes, object_scores
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.intake import ImportRequest, import_volume
from densem.study.manifest import PredictionEntry, locked
from densem.study.object_scoring import ObjectRequest, evaluate_objects
from densem.volumes import Volume, open_stack
from densem.volumes.label_intake import import_labels, import_objects

SHAPE, SIZE = (5, 12, 17), (40.0, 10.0, 5.0)
DATA = Path(os.environ.get("DENSEM_TEST_DATA", "/nonexistent"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the data of DENSEM_TEST_DATA")


@pytest.fixture
def arrays():
    """Two cells, one with a mitochondrion; found a little too small, and the second one in two parts."""
    classes = np.zeros(SHAPE, np.uint8)
    classes[:, 1:11, 1:7], classes[:, 1:11, 9:16] = 1, 1
    classes[1:3, 3:6, 2:5] = 2
    classes[:, 0] = 255
    cells = np.zeros(SHAPE, np.uint16)
    cells[:, 1:11, 1:7], cells[:, 1:11, 9:16] = 7, 300
    found = np.zeros(SHAPE, np.uint16)
    found[:, 1:10, 1:7], found[:, 1:11, 9:13], found[:, 1:11, 13:16] = 1, 2, 3
    return {"classes": classes, "cells": cells, "found": found}


@pytest.fixture
def study(tmp_path, arrays):
    made = Study.create(tmp_path / "s", LabelSchema.resolve("platelet"))
    tifffile.imwrite(tmp_path / "image.tif", np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE))
    for name, array in arrays.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
    bring(made, image=tmp_path / "image.tif", labels=tmp_path / "classes.tif",
          instances=tmp_path / "cells.tif", voxel_size_nm=SIZE)  # fmt: skip
    return made


def bring(study, name="v", **request):
    import_volume(study, name, ImportRequest(**request), lambda done, total: None)


def evaluated(study, **request):
    return evaluate_objects(study.folder, ObjectRequest(**request), lambda done, total: None)


def with_objects(study, tmp_path, levels=(0,)):
    """A finished prediction, and objects made from it."""
    image, labels = study.image("v"), study.labels("v").read()
    tifffile.imwrite(tmp_path / "predicted.tif", np.where(labels == 255, 0, labels))
    classes = import_labels(
        open_stack(tmp_path / "predicted.tif"),
        study.prediction_folder("p") / "classes.zarr",
        study.schema,
        image,
    )
    with locked(study.path) as manifest:
        manifest.predictions["p"] = PredictionEntry(models=[], model_id="m", volume="v", volume_id=image.id)
    for level in levels:
        path = study.folder / "objects" / "mine" / f"objects-{level}.zarr"
        import_objects(open_stack(tmp_path / "found.tif"), path, image)
        record = json.loads((path / "zarr.json").read_text())
        own = record["attributes"]["densem"]
        own.update(level=level, classes=[("cell", "mitochondrion")[level]])
        own["provenance"]["input"] = classes.id
        (path / "zarr.json").write_text(json.dumps(record))
    (study.folder / "objects/mine/objects.csv").write_text("id,class,level\n")


def test_objects_that_are_not_finished_are_refused(study, tmp_path):
    """As a kill in level 1 leaves them."""
    with_objects(study, tmp_path)
    (study.folder / "objects/mine/objects.csv").unlink()
    with pytest.raises(
        InputError, match="objects 'mine' are not finished; run their  densem objects  command"
    ):
        evaluated(study, name="mine")
    assert not (study.folder / "objects/mine/scores.json").exists()


def test_a_file_of_object_ids_is_compared(study, tmp_path, arrays):
    result = evaluated(study, input=tmp_path / "found.tif", volume="v")
    assert result.file == study.folder / "reports" / "objects-v-found.json"
    record = json.loads(result.file.read_text())
    assert record == result.scores
    volumes = (Volume(arrays[name], SIZE) for name in ("cells", "found", "classes"))
    expected = object_scores(ObjectVolumes(*volumes), study.schema)
    assert ObjectScores.from_dict(record) == expected
    cell = record["classes"]["cell"]
    assert (cell["truth"], cell["predicted"], cell["matched"]) == (2, 3, 2)
    assert cell["sq"] == pytest.approx((54 / 60 + 40 / 70) / 2)
    assert record["left_out"]["voxels"] == SHAPE[0] * SHAPE[2]


def test_objects_of_the_study_know_their_prediction(study, tmp_path):
    with_objects(study, tmp_path)
    result = evaluated(study, name="mine")
    assert result.file == study.folder / "objects" / "mine" / "scores.json"
    assert (result.scores["volume"], result.scores["level"]) == ("v", 0)
    assert result.scores["classes"]["cell"]["predicted"] == 3
    (study.folder / "predictions" / "p" / "classes.zarr").rename(tmp_path / "gone.zarr")
    with pytest.raises(ConfigError, match=r"'mine': what they were made from is not in study s; give"):
        evaluated(study, name="mine")
    assert evaluated(study, name="mine", volume="v").scores["classes"] == result.scores["classes"]


def test_objects_made_from_labels_know_their_volume(study, tmp_path):
    with_objects(study, tmp_path)
    path = study.folder / "objects" / "mine" / "objects-0.zarr" / "zarr.json"
    record = json.loads(path.read_text())
    record["attributes"]["densem"]["provenance"]["input"] = study.labels("v").id
    path.write_text(json.dumps(record))
    (study.folder / "predictions" / "p" / "classes.zarr").rename(tmp_path / "gone.zarr")
    assert evaluated(study, name="mine").scores["classes"]["cell"]["matched"] == 2


def test_of_several_levels_one_is_named(study, tmp_path):
    with_objects(study, tmp_path, (0, 1))
    with pytest.raises(ConfigError, match=r"several levels \(0: cell; 1: mitochondrion\); say with --level"):
        evaluated(study, name="mine")
    with pytest.raises(NotFoundError, match=r"'mine': no level 2; there are 0: cell; 1: mitochondrion"):
        evaluated(study, name="mine", level=2)
    assert evaluated(study, name="mine", level=0).file.name == "scores-0.json"
    with pytest.raises(
        InputError,
        match=r"level 1 holds mitochondrion, but the true objects of volume 'v' are cell, so nothing",
    ):
        evaluated(study, name="mine", level=1)
    assert not (study.folder / "objects/mine/scores-1.json").exists()


def test_the_truth_can_be_a_file_and_ids_ignored(study, tmp_path, arrays):
    tifffile.imwrite(tmp_path / "other.tif", np.where(arrays["cells"] == 0, 99, arrays["found"]))
    options = {"truth": tmp_path / "other.tif", "ignored_id": 99, "output": tmp_path / "out.json"}
    result = evaluated(study, input=tmp_path / "found.tif", volume="v", **options)
    assert result.file == tmp_path / "out.json"
    assert (result.scores["all"]["pq"], result.scores["all"]["truth"]) == (1, 3)
    assert result.scores["partitions"]["adapted_rand_error"] == 0


def test_ids_beyond_uint32_are_objects_of_their_own(study, tmp_path, arrays):
    """Two true objects whose ids are one in 32 bits."""
    ids = np.where(arrays["cells"] == 300, np.uint64(2**40 + 7), arrays["cells"].astype(np.uint64))
    assert np.unique(ids).tolist() == [0, 7, 2**40 + 7]
    zarr.create_array(tmp_path / "large.zarr", data=ids)
    result = evaluated(study, input=tmp_path / "found.tif", volume="v", truth=tmp_path / "large.zarr")
    assert result.scores["all"] == evaluated(study, input=tmp_path / "found.tif", volume="v").scores["all"]
    assert result.scores["all"]["truth"] == 2


def test_classes_of_a_prediction_can_be_given(study, tmp_path):
    with_objects(study, tmp_path)
    result = evaluated(study, input=tmp_path / "found.tif", volume="v", prediction="p")
    assert result.scores["classes"]["cell"]["matched"] == 2


def test_the_command_prints_a_table_and_json(study, tmp_path, capsys):
    command = ["evaluate-objects", str(study.folder), "--input", str(tmp_path / "found.tif"), "--volume", "v"]
    assert run(command) == 0
    said = capsys.readouterr().out
    assert ["cell", "2", "3", "2", "0.589", "0.736", "0.800"] in [
        line.split()[:7] for line in said.splitlines()
    ]
    assert "adapted Rand error 0." in said
    assert "variation of information 0." in said
    assert said.splitlines()[-1].startswith("Scores: ")
    assert run([*command, "--inner", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["inner"], record["all"]["truth"]) == (True, 0)  # both touch the first slice


def test_the_table_fits_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    from densem.cli.tables import print_object_scores

    classes = np.full((1, 1, 4), 5, np.uint8)
    volumes = (Volume(a, SIZE) for a in (classes, classes, classes))
    found = object_scores(ObjectVolumes(*volumes), LabelSchema.resolve("platelet"))
    print_object_scores(found.to_dict())
    said = capsys.readouterr().out
    assert "dense_granule" in said
    assert "matched" in said
    assert "mean AP" in said
    assert "…" not in said


def test_objects_on_background_are_counted_and_said(study, tmp_path, arrays, capsys):
    """They are of no class: in the last line alone."""
    truth = arrays["cells"].copy()
    truth[1:4, 4:8, 7:9] = 5  # between the cells
    tifffile.imwrite(tmp_path / "more.tif", truth)
    command = ["evaluate-objects", str(study.folder), "--input", str(tmp_path / "found.tif"), "--volume", "v"]
    assert run([*command, "--truth", str(tmp_path / "more.tif")]) == 0
    said = capsys.readouterr().out
    assert "unlabelled voxels, and so in the last line alone: 1 true and 0 found objects" in said
    record = json.loads((study.folder / "reports/objects-v-found.json").read_text())
    assert (record["all"]["truth"], record["classes"]["cell"]["truth"]) == (3, 2)
    assert record["classless"] == {"true": 1, "predicted": 0}
    assert ObjectScores.from_dict(record).true_classless == 1
    assert run(command) == 0
    assert "of no class" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        ({}, ConfigError, "give --objects NAME of the study, or --input FILE"),
        ({"name": "a", "input": "found.tif"}, ConfigError, "give --objects NAME of the study, or --input"),
        ({"input": "found.tif"}, ConfigError, "give the volume it is of with  --volume NAME"),
        (
            {"input": "found.tif", "volume": "v", "level": 0},
            ConfigError,
            "--level: expected it with --objects",
        ),
        ({"input": "found.tif", "volume": "w"}, NotFoundError, "no volume 'w'"),
        ({"input": "none.tif", "volume": "v"}, NotFoundError, "no file or folder there"),
        ({"input": "found.tif", "volume": "v", "prediction": "q"}, NotFoundError, "no prediction 'q'"),
        ({"name": "mine"}, NotFoundError, "no objects 'mine'. It has none yet."),
        ({"input": "small.tif", "volume": "v"}, ShapeError, "has shape"),
        ({"input": "sized.tif", "volume": "v"}, VoxelSizeError, "both must lie on one grid"),
        (
            {"input": "found.tif", "volume": "v", "ignored_id": 0},
            ConfigError,
            "ignored id: expected an object",
        ),
        ({"input": "found.tif", "volume": "v", "output": "none/x.json"}, NotFoundError, "there is no folder"),
        ({"input": "found.tif", "volume": "v", "truth": "small.tif"}, ShapeError, "has shape"),
        (
            {"input": "found.tif", "volume": "v", "truth": "float.tif"},
            InputError,
            "true objects .*expected whole numbers",
        ),
    ],
)
def test_refusals_write_nothing(study, tmp_path, arrays, request_, kind, message):
    tifffile.imwrite(tmp_path / "small.tif", arrays["found"][:, :5])
    tifffile.imwrite(tmp_path / "float.tif", arrays["cells"].astype(np.float32))
    tifffile.imwrite(tmp_path / "sized.tif", arrays["found"], imagej=True, resolution=(100, 100),
                     metadata={"spacing": 0.03, "unit": "um", "axes": "ZYX"})  # fmt: skip
    paths = {key: tmp_path / v if key in ("input", "output", "truth") else v for key, v in request_.items()}
    before = sorted(study.folder.rglob("*.json"))
    with pytest.raises(kind, match=message):
        evaluated(study, **paths)
    assert sorted(study.folder.rglob("*.json")) == before


def test_a_volume_without_true_objects_is_refused(study, tmp_path):
    study.remove_annotation("v")
    with pytest.raises(
        InputError, match=r"'v' has no true objects to compare with; add them with  densem import"
    ):
        evaluated(study, input=tmp_path / "found.tif", volume="v")
    result = evaluated(study, input=tmp_path / "found.tif", volume="v", truth=tmp_path / "cells.tif")
    assert (result.scores["classes"], result.scores["all"]["matched"]) == ({}, 2)


@needs_data
def test_the_components_of_a_real_slice_merge_touching_cells():
    """Cells of platelets touch: three pairs or more become one, organelles are found nearly all."""
    from scipy.ndimage import label

    def real(name):
        return tifffile.imread(DATA / f"platelet-slices/50-{name}-z0.tif")

    semantic = real("semantic")
    volumes = (
        Volume(a, (40.0, 10.0, 10.0)) for a in (real("instance-cell"), label(semantic > 0)[0], semantic)
    )
    found = object_scores(ObjectVolumes(*volumes), LabelSchema.resolve("platelet"))
    cell = found.classes["cell"]
    assert (cell.truth, cell.predicted, cell.matched) == (16, 13, 13)
    assert found.partitions.vi_merge > 10 * found.partitions.vi_split


def test_of_volumes_with_equal_labels_the_one_the_objects_are_of_is_taken(study, tmp_path):
    bring(study, "w", image=tmp_path / "image.tif", labels=tmp_path / "classes.tif",
          instances=tmp_path / "found.tif", voxel_size_nm=SIZE)  # fmt: skip
    assert study.labels("v").id == study.labels("w").id
    assert run(["objects", str(study.folder), "--labels", "w"]) == 0
    record = evaluated(study, name="w-labels", level=0).scores
    assert record["volume"] == "w"
    assert record["truth_id"] == Study.open(study.folder).objects("w").id


def test_true_objects_in_colour_are_refused(study, tmp_path, arrays):
    rgb = np.stack([arrays["cells"].astype(np.uint8)] * 3, axis=-1)
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb")
    with pytest.raises(ShapeError, match=r"expected object ids, found 3 colour values .* --instances FILE"):
        evaluated(study, input=tmp_path / "found.tif", volume="v", truth=tmp_path / "rgb.tif")
