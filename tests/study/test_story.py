"""The story of the README, told through the command line on a volume that trains in seconds."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from sklearn.metrics import jaccard_score

from densem.cli.app import run
from densem.evaluation import (
    BlockTables,
    Boundaries,
    Calibration,
    Scores,
    boundaries,
    calibration,
    scores,
)
from densem.study import Study
from densem.study.manifest import claimed, locked
from densem.volumes import ome_zarr, open_volume


@pytest.fixture(scope="module")
def told(tmp_path_factory, phantom_files, tiny_recipe):
    """A study with two volumes, a model, and a prediction."""
    folder = tmp_path_factory.mktemp("story") / "platelets"
    assert run(["new", str(folder), "--schema", "platelet"]) == 0
    files = ["--image", str(phantom_files.image), "--labels", str(phantom_files.semantic)]
    common = [*files, "--palette", "platelet-em", "--voxel-size", "40", "10", "10"]
    assert run(["import", str(folder), "train", *common, "--role", "train", "--slices", "0:3"]) == 0
    assert run(["import", str(folder), "eval", *common, "--role", "eval", "--slices", "3:5"]) == 0
    assert run(["train", str(folder), "--recipe", str(tiny_recipe), "--name", "first"]) == 0
    assert run(["predict", str(folder), "--model", "first", "--volume", "eval"]) == 0
    return folder


def test_the_story_ends_with_scores_and_a_page(told, capsys):
    assert run(["evaluate", str(told), "--prediction", "first-eval", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    truth = open_volume(told / "annotations/eval/semantic.zarr").read().ravel()
    labels = open_volume(told / "predictions/first-eval/classes.zarr").read().ravel()
    present = sorted(set(truth) | set(labels))
    expected = jaccard_score(truth, labels, labels=present, average="macro", zero_division=0)
    assert record["miou"] == pytest.approx(expected, abs=1e-9)
    page = (told / "reports/first-eval.html").read_text()
    assert "platelets: first-eval" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (told / "predictions/first-eval/scores-labelled.json").exists()


def test_boundaries_calibration_and_blocks_lie_beside_the_scores(told, capsys):
    arguments = ["evaluate", str(told), "--prediction", "first-eval", "--boundaries", "--tolerance", "25"]
    assert run([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    folder, schema = told / "predictions/first-eval", Study.open(told).schema
    assert json.loads((folder / "scores-labelled.json").read_text()) == record
    truth = open_volume(told / "annotations/eval/semantic.zarr")
    classes, confidence = (open_volume(folder / f"{part}.zarr") for part in ("classes", "confidence"))
    assert Boundaries.from_dict(record["boundaries"]) == boundaries(truth, classes, schema, tolerance_nm=25)
    assert Calibration.from_dict(record["calibration"]) == calibration(truth, classes, confidence, schema)
    tables = BlockTables.load(folder / "blocks-labelled.npz")
    assert scores(tables.whole()) == Scores.from_dict(record)
    assert tables.truth_id == truth.id
    page = (told / "reports/first-eval.html").read_text()
    assert "Surface Dice at 25 nm" in page
    assert "expected calibration error" in page
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "calibration error 0." in said
    assert "surface Dice at 25 nm" in " ".join(said.split())


def test_without_boundaries_and_confidence_their_parts_are_left_out(told, tmp_path, capsys):
    folder = tmp_path / "platelets"
    shutil.copytree(told, folder)
    shutil.rmtree(folder / "predictions/first-eval/confidence.zarr")
    assert run(["evaluate", str(folder), "--prediction", "first-eval", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert not {"boundaries", "calibration"} & set(record)
    assert "Confidence" not in (folder / "reports/first-eval.html").read_text()


def test_a_tolerance_needs_boundaries(told, capsys):
    assert run(["evaluate", str(told), "--prediction", "first-eval", "--tolerance", "25"]) == 2
    assert "--tolerance: expected it with --boundaries" in capsys.readouterr().err


def test_the_lineage_is_kept(told, capsys):
    assert run(["info", str(told), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["models"][0]["trained on"] == "train"
    assert facts["predictions"][0]["volume"] == "eval"
    classes = open_volume(told / "predictions/first-eval/classes.zarr")
    study = Study.open(told)
    assert classes.provenance["model_id"] == study.manifest.models["first"].id
    assert classes.voxel_size_nm == (40.0, 10.0, 10.0)
    assert run(["info", str(told / "models/first"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == study.manifest.models["first"].id


def test_predicting_without_a_study_gives_the_same_labels(told, tmp_path):
    volume, output = told / "volumes/eval.zarr", tmp_path / "out"
    model = str(told / "models/first")
    assert run(["predict", "--input", str(volume), "--model", model, "--output", str(output)]) == 0
    inside = open_volume(told / "predictions/first-eval/classes.zarr").read()
    assert np.array_equal(open_volume(output / "classes.zarr").read(), inside)


def test_a_box_and_a_mask_out_of_the_study(told):
    arguments = [
        "--model",
        "first",
        "--volume",
        "eval",
        "--box",
        "1:2,:,8:80",
        "--mask",
        "eval",
        "--name",
        "part",
    ]
    assert run(["predict", str(told), *arguments]) == 0
    whole = open_volume(told / "predictions/first-eval/classes.zarr").read()
    image = open_volume(told / "volumes/eval.zarr").read()
    wanted = np.zeros(whole.shape, bool)
    wanted[1:2, :, 8:80] = image[1:2, :, 8:80] != 0
    found = open_volume(told / "predictions/part/classes.zarr").read()
    np.testing.assert_array_equal(found, np.where(wanted, whole, 255))


def test_an_ensemble_with_flips_is_one_prediction(told):
    arguments = ["--model", "first", "--model", str(told / "models/first"), "--volume", "eval"]
    assert run(["predict", str(told), *arguments, "--flips", "yx", "--name", "both"]) == 0
    assert run(["evaluate", str(told), "--prediction", "both", "--protocol", "cells", "--workers", "1"]) == 0
    assert (
        told / "reports/both.cells.html"
    ).is_file()  # beside, not in place of, the page of the other protocol


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "STUDY", "--model", "frist", "--volume", "eval"], "no model 'frist'. Did you mean 'first'?"),
        (["predict", "STUDY", "--model", "first", "--volume", "evla"], "no volume 'evla'. Did you mean 'eval'?"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval"], "--overwrite"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--context", "some"], "expected practical, exact"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--flips", "q"], "axes of z, y, x"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--save", "logits"], "probabilities or entropy"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--name", "../x"], "prediction name '../x'"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--name", "b", "--block", "1", "7", "9"], "--block 1 7 9: expected whole multiples"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--precision", "fp64"], "'auto', 'bf16' or 'fp32'"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--name", "b", "--core", "0", "8", "8"], "--core 0 8 8: expected voxels, at least one in z, y and x"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--name", "b", "--box", "0:2,5"], "--box 0:2,5: expected three ranges"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--name", "b", "--box", "0:9,:,:"], "inside 0:2,0:72,0:88"),
        (["predict", "STUDY", "--model", "first", "--volume", "eval", "--name", "b", "--mask", "evl"], "Did you mean 'eval'?"),
        (["evaluate", "STUDY", "--prediction", "first-evl"], "Did you mean 'first-eval'?"),
        (["evaluate", "STUDY", "--prediction", "first-eval", "--protocol", "cell"], "Did you mean 'cells'?"),
        (["train", "STUDY", "--recipe", "defalt"], "Did you mean 'default'?"),
        (["train", "STUDY", "--name", "first"], "there is a model 'first' already"),
        (["train", "STUDY", "--start", "frist"], "Did you mean 'first'?"),
        (["train", "STUDY", "--start", "first", "--recipe", "unet-2d"], "beginning with model 'first': expected a recipe for its network"),
        (["train", "STUDY", "--set", "patches.rair=1"], "patches.rare"),
        (["train", "STUDY", "--volumes", "trian"], "Did you mean 'train'?"),
        (["train", "STUDY", "--volumes", "train", "--volumes", "trian"], "Did you mean 'train'?"),
        (["train", "STUDY", "--volumes", ","], "--volumes nothing: expected names, such as a or a,b"),
        (["recipes", "defalt"], "Did you mean 'default'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(told, capsys, arguments, message):
    before = sorted(p.name for p in (told / "predictions").iterdir())
    assert run([str(told) if a == "STUDY" else a for a in arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert sorted(p.name for p in (told / "predictions").iterdir()) == before


def test_a_volume_without_labels_cannot_be_scored_or_learnt_from(told, tmp_path, phantom_files, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(told, folder)
    assert run(["remove", str(folder), "eval", "--labels-only", "--yes"]) == 0
    assert run(["evaluate", str(folder), "--prediction", "first-eval"]) == 2
    assert "has no labels to compare with" in capsys.readouterr().err
    assert run(["train", str(folder), "--volumes", "eval"]) == 2
    assert "has no labels to learn from" in capsys.readouterr().err


@pytest.mark.filterwarnings("default::densem.errors.DensemWarning")
def test_a_model_is_trained_further_and_what_it_saw_before_is_remembered(told, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(told, folder)
    assert run(["train", str(folder), "--start", "first", "--volumes", "eval", "--name", "on"]) == 0
    assert (
        "Training on by the recipe of first, beginning with its weights, on eval 1x72x88"
        in capsys.readouterr().out
    )
    models = Study.open(folder).manifest.models
    assert models["on"].recipe == "as first"
    assert models["on"].trained_on.keys() == {"train", "eval"}
    assert run(["predict", str(folder), "--model", "on", "--volume", "train"]) == 0
    capsys.readouterr()
    assert run(["evaluate", str(folder), "--prediction", "on-train"]) == 0
    assert "Model on was trained on this volume" in capsys.readouterr().err
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / "models/first", elsewhere)
    assert run(["train", str(folder), "--start", str(elsewhere), "--volumes", "eval", "--name", "off"]) == 0
    assert Study.open(folder).manifest.models["off"].trained_on == models["on"].trained_on


@pytest.mark.filterwarnings("default::densem.errors.DensemWarning")
def test_one_image_under_two_names_is_noticed(told, tmp_path, phantom_files, tiny_recipe, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(told, folder)
    files = ["--image", str(phantom_files.image), "--labels", str(phantom_files.semantic)]
    common = [*files, "--palette", "platelet-em", "--voxel-size", "40", "10", "10", "--slices", "0:3"]
    assert run(["import", str(folder), "again", *common, "--role", "eval"]) == 0
    assert run(["role", str(folder), "eval", "test"]) == 0
    capsys.readouterr()
    assert run(["train", str(folder), "--recipe", str(tiny_recipe), "--name", "second"]) == 0
    assert "densem: warning: volumes 'train' and 'again' are the same image" in capsys.readouterr().err
    assert run(["predict", str(folder), "--model", "second", "--volume", "again"]) == 0
    capsys.readouterr()
    assert run(["evaluate", str(folder), "--prediction", "second-again"]) == 0
    assert "densem: warning: Model second was trained on this volume" in capsys.readouterr().err
    assert "was trained on this volume" in (folder / "reports/second-again.html").read_text()


def test_scoring_is_suggested_only_where_there_are_labels(told, tmp_path, phantom_files, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(told, folder)
    image = ["--image", str(phantom_files.image), "--voxel-size", "40", "10", "10", "--slices", "0:2"]
    assert run(["import", str(folder), "bare", *image]) == 0
    for volume, suggested in (("bare", False), ("eval", True)):
        capsys.readouterr()
        assert (
            run(["predict", str(folder), "--model", "first", "--volume", volume, "--name", f"p{volume}"]) == 0
        )
        assert ("Next: densem evaluate" in capsys.readouterr().out) == suggested


def test_a_file_given_to_predict_is_sent_to_import(told, tmp_path, phantom_files, capsys):
    arguments = ["--input", str(phantom_files.image), "--model", str(told / "models/first")]
    assert run(["predict", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert "found a file; bring it into a study first with densem import" in capsys.readouterr().err


def test_a_foreign_zarr_that_is_referred_to_can_be_learnt_from(told, tmp_path, phantom_files, tiny_recipe):
    folder, foreign = tmp_path / "copy", tmp_path / "foreign.zarr"
    shutil.copytree(told, folder)
    target = ome_zarr.create(foreign, (5, 72, 88), np.uint16)
    target[:] = tifffile.imread(phantom_files.image)
    ome_zarr.describe(ome_zarr.temporary(foreign), [("s0", (40.0, 10.0, 10.0))], (0.0, 0.0, 0.0), {})
    ome_zarr.finish(foreign)
    labels = ["--labels", str(phantom_files.semantic), "--palette", "platelet-em"]
    assert run(["import", str(folder), "far", "--image", str(foreign), *labels, "--role", "train"]) == 0
    assert run(["train", str(folder), "--recipe", str(tiny_recipe), "--volumes", "far", "--name", "f"]) == 0
    assert run(["predict", str(folder), "--model", "f", "--volume", "far"]) == 0


def test_without_an_eval_volume_slices_are_held_out(told, tmp_path, tiny_recipe, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(told, folder)
    assert run(["role", str(folder), "eval", "test"]) == 0
    capsys.readouterr()
    assert run(["train", str(folder), "--recipe", str(tiny_recipe)]) == 0
    said = capsys.readouterr().out
    assert "the last fifth of the labelled slices of train (slices 2 to 2) is held out" in said
    assert "Model tiny-1 " in said


def test_a_prediction_made_from_python_can_be_evaluated(told, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(told, folder)
    with locked(folder / "study.toml") as manifest:
        del manifest.predictions["first-eval"]
    assert run(["evaluate", str(folder), "--prediction", "first-eval"]) == 0
    assert Study.open(folder).manifest.predictions["first-eval"].models == ["first"]


def test_a_prediction_of_a_replaced_volume_is_not_scored(told, tmp_path, phantom_files, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(told, folder)
    files = ["--image", str(phantom_files.image), "--labels", str(phantom_files.semantic), "--overwrite"]
    common = ["--palette", "platelet-em", "--voxel-size", "40", "10", "10", "--slices", "1:3"]
    assert run(["import", str(folder), "eval", *files, *common]) == 0
    capsys.readouterr()
    assert run(["evaluate", str(folder), "--prediction", "first-eval"]) == 2
    assert "volume 'eval' was replaced since prediction 'first-eval' was made" in capsys.readouterr().err
    assert run(["info", str(folder), "--json"]) == 0


def test_an_eval_volume_without_a_label_is_refused_before_training(told, tmp_path, tiny_recipe, capsys):
    folder, empty = tmp_path / "copy", tmp_path / "empty.tif"
    shutil.copytree(told, folder)
    tifffile.imwrite(empty, np.full((2, 72, 88), 255, np.uint8))
    assert run(["import", str(folder), "eval", "--labels", str(empty), "--overwrite"]) == 0
    assert run(["train", str(folder), "--recipe", str(tiny_recipe), "--name", "none"]) == 2
    assert (
        "volume 'eval': expected labels to judge a model by, found every voxel unlabelled"
        in capsys.readouterr().err
    )
    assert not (folder / "runs/none/run.json").exists()


def test_two_trainings_of_one_name_do_not_meet(told, tiny_recipe, capsys):
    with claimed(told / "runs/twice", "training twice"):
        assert run(["train", str(told), "--recipe", str(tiny_recipe), "--name", "twice"]) == 2
    assert "another densem process is training twice; wait for it" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(["new", str(tmp_path / "file" / "study"), "--classes", "a,b"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "Not a directory" in said[0]


def test_answering_no_removes_nothing(told, monkeypatch, capsys):
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert run(["remove", str(told), "eval"]) == 0
    assert "Nothing was removed." in capsys.readouterr().out
    assert "eval" in Study.open(told).manifest.volumes
