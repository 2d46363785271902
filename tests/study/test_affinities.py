"""From annotated objects to separated ones: a tiny training tells touching balls apart, and what is refused."""

import tomllib

import numpy as np
import pytest
import tifffile
import tomli_w
import torch

from densem.cli.app import run
from densem.errors import ConfigError, InputError, NotFoundError, ResourceError, VoxelSizeError
from densem.model import Model
from densem.objects import ClassRule
from densem.study import Study, object_tuning
from densem.study.manifest import claimed, locked
from densem.study.object_tuning import _same_grid, tune_objects, tuned_file, tuned_settings
from densem.study.objects import merged
from densem.study.training import hold_out, labelled
from densem.volumes import Volume, open_volume
from densem.volumes.affinities import Affinities

SCHEMA = """[classes]
outside = { id = 0, color = "#000000", background = true }
ball = { id = 1, color = "#0101e0", thing = true }
"""
RECIPE = """
[network]
architecture = "hybrid-2d"
[network.config]
filters = 4
depth = 2
convs_per_block = 1
normalization = "batch"
[patches]
shapes = [[6, 48, 48]]
batch = 2
[optimizer]
name = "muon"
lr = 0.02
precision = "float32"
[schedule]
steps = 120
warmup = 5
ema = 0.9
validations = 1
probe_patches = 4
final_patches = 8
[augmentation]
elastic = { probability = 0.0 }
rotation = { probability = 0.0 }
scale = { probability = 0.0 }
missing_section = { probability = 0.0 }
blurred_section = { probability = 0.0 }
"""
PAIRS = [(7, 14, 14), (7, 14, 56), (7, 44, 20), (7, 44, 62), (7, 70, 30), (7, 70, 68)]
SHAPE = (14, 84, 92)


def touching_balls(seed=0):
    """Pairs of balls that overlap by a third, with a faint membrane between them: image, classes, ids."""
    z, y, x = np.indices(SHAPE)
    distance, nearest = np.full(SHAPE, np.inf), np.zeros(SHAPE, np.uint16)
    second = np.full(SHAPE, np.inf)
    for number, (cz, cy, cx) in enumerate((p[0], p[1], p[2] + d) for p in PAIRS for d in (0, 13)):
        here = np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
        closer = here < distance
        second = np.minimum(np.where(closer, distance, here), second)
        nearest[closer] = number + 1
        distance = np.minimum(distance, here)
    inside = distance < 9
    image = np.where(inside, 180.0, 60.0)
    image[inside & (second - distance < 2.5)] = 140
    image += np.random.default_rng(seed).normal(0, 6, SHAPE)
    return np.clip(image, 0, 255).astype(np.uint8), inside.astype(np.uint8), np.where(inside, nearest, 0)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with balls to learn from, balls to be judged by, and a volume without objects."""
    folder = tmp_path_factory.mktemp("balls")
    (folder / "schema.toml").write_text(SCHEMA)
    (folder / "recipe.toml").write_text(RECIPE)
    assert run(["new", str(folder / "st"), "--schema", str(folder / "schema.toml")]) == 0
    for seed, name in enumerate(("train", "eval", "bare")):
        for what, array in zip(("image", "labels", "ids"), touching_balls(seed), strict=True):
            tifffile.imwrite(folder / f"{name}-{what}.tif", array)
        more = [] if name == "bare" else ["--instances", str(folder / f"{name}-ids.tif")]
        role = "unlabelled" if name == "bare" else name
        files = ["--image", str(folder / f"{name}-image.tif"), "--labels", str(folder / f"{name}-labels.tif")]
        told = ["--voxel-size", "10", "10", "10", "--role", role]
        assert run(["import", str(folder / "st"), name, *files, *more, *told]) == 0
    return Study.open(folder / "st")


@pytest.fixture(scope="module")
def predicted(study):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        recipe = str(study.folder.parent / "recipe.toml")
        told = ["--recipe", recipe, "--set", "affinities.share=1", "--name", "m"]
        assert run(["train", str(study.folder), *told]) == 0
        assert run(["predict", str(study.folder), "--model", "m", "--volume", "eval", "--name", "p"]) == 0
    finally:
        torch.set_num_threads(threads)
    return study


def test_balls_that_components_cannot_tell_apart_are_separated(predicted, capsys):
    told = Affinities.beside(predicted.prediction_folder("p") / "classes.zarr")
    assert told.classes == ("ball",)
    assert len(told.offsets) == 9
    assert Model.load(predicted.model_folder("m")).affinities.offsets == told.offsets
    for name, more in (
        ("apart", ["--set", "ball.mutex_bias=0.35"]),
        ("joined", ["--set", "ball.method=components"]),
    ):
        shared = ["--set", "ball.min_volume_nm3=100000", "--untuned", "--prediction", "p", "--name", name]
        assert run(["objects", str(predicted.folder), *shared, *more]) == 0
    capsys.readouterr()
    counts = {n: _ids(predicted, n) for n in ("apart", "joined")}
    assert len(np.unique(counts["joined"])) - 1 == len(PAIRS)
    assert len(np.unique(counts["apart"])) - 1 == 2 * len(PAIRS)
    truth = predicted.objects("eval").read()
    for number in range(1, 2 * len(PAIRS) + 1):
        own = counts["apart"][truth == number]
        most = np.bincount(own[own > 0]).argmax()
        meet = np.count_nonzero((truth == number) & (counts["apart"] == most))
        assert meet > 0.7 * np.count_nonzero((truth == number) | (counts["apart"] == most))


def _ids(study, name):
    return open_volume(study.objects_folder(name) / "objects-0.zarr").read().astype(np.int64)


def test_settings_are_chosen_on_the_eval_volume_and_used_from_then_on(predicted, capsys, monkeypatch):
    monkeypatch.setattr(object_tuning, "H_STEPS", (0.5, 4.0))
    monkeypatch.setattr(object_tuning, "BIASES", (0.35,))
    before = Study.open(predicted.folder)
    assert tuned_settings(before, before.manifest.models["m"].id) == {}
    tuned = tune_objects(predicted.folder, "p")
    chosen = tuned.settings["ball"]
    assert tuned.scores["ball"] > 0.9
    assert tuned.tried["ball"] == 4 * 9
    record = tomllib.loads(tuned.file.read_text())["ball"]
    assert (record["volume"], record["metric"], record["settings"]) == ("eval", "pq", chosen)
    assert record["score"] == tuned.scores["ball"]
    best = max(row["pq"] for row in record["tried"])
    assert best == pytest.approx(tuned.scores["ball"], abs=1e-4)
    components = [row["pq"] for row in record["tried"] if row["method"] == "components"]
    assert max(components) < 0.5 < best  # pairs in one
    assert list(tuned.file.parent.iterdir()) == [tuned.file]
    capsys.readouterr()
    asked = ["objects", str(predicted.folder), "--prediction", "p", "--name"]
    assert run([*asked, "chosen"]) == 0
    said = capsys.readouterr().out
    assert "ball                     12" in said
    assert "Begun with what densem tune-objects chose; --untuned leaves it away." in said
    facts = open_volume(predicted.objects_folder("chosen") / "objects-0.zarr").provenance
    assert facts["rules"]["ball"] == {**facts["rules"]["ball"], **chosen}
    assert facts["tuned"] == {"ball": chosen}
    assert run([*asked, "plain", "--untuned"]) == 0
    facts = open_volume(predicted.objects_folder("plain") / "objects-0.zarr").provenance
    rule = facts["rules"]["ball"]
    assert (rule["method"], rule["mutex_bias"]) == ("mutex", ClassRule().mutex_bias)
    assert "tuned" not in facts
    are = tune_objects(predicted.folder, "p", "are")
    assert are.scores["ball"] < 0.05
    tuned.file.unlink()


def test_chosen_by_a_file_beside_what_was_chosen_for_other_classes(predicted, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(object_tuning, "H_STEPS", ())
    monkeypatch.setattr(object_tuning, "BIASES", (0.35,))
    file = tuned_file(predicted, predicted.manifest.models["m"].id)
    file.parent.mkdir(exist_ok=True)
    earlier = {"box": {"metric": "pq", "settings": {"method": "components"}}}
    file.write_text(tomli_w.dumps(earlier))
    asked = ["tune-objects", str(predicted.folder), "--prediction", "p", "--truth"]
    truth = predicted.objects("eval").read()
    tifffile.imwrite(tmp_path / "shifted.tif", truth[1:])
    tifffile.imwrite(tmp_path / "beside.tif", (truth == 0).astype(np.uint16))
    for name, said in (
        ("shifted.tif", f"shifted.tif: expected the shape of the prediction, {SHAPE} (z, y, x), found"),
        ("beside.tif", "cover no thing class (ball) of volume 'eval' for the most part"),
        ("nowhere.tif", "nowhere.tif"),
    ):
        assert run([*asked, str(tmp_path / name)]) != 0
        assert said in " ".join(capsys.readouterr().err.split())
        assert tomllib.loads(file.read_text()) == earlier
    tifffile.imwrite(tmp_path / "right.tif", np.where(np.isin(truth, (1, 2)), truth, 0))  # most of the rest
    assert run([*asked, str(tmp_path / "right.tif")]) != 0  # is in no object now
    tifffile.imwrite(tmp_path / "right.tif", truth * 3)
    assert run([*asked, str(tmp_path / "right.tif")]) == 0
    found = tomllib.loads(file.read_text())
    assert found["box"] == earlier["box"]
    assert found["ball"]["score"] == pytest.approx(tune_objects(predicted.folder, "p").scores["ball"])
    assert set(tuned_settings(predicted, predicted.manifest.models["m"].id)) == {
        "ball"
    }  # box is no class here
    with claimed(file.with_name(f".{file.stem}"), "choosing"), pytest.raises(ResourceError, match="another"):
        tune_objects(predicted.folder, "p")
    with pytest.raises(VoxelSizeError, match=r"expected voxels of 10 x 10 x 10 nm .* found 9 x 10 x 10 nm"):
        _same_grid(Volume(truth, (9.0, 10.0, 10.0)), Volume(truth, (10.0, 10.0, 10.0)), tmp_path / "t.tif")
    file.unlink()


def test_what_was_asked_for_goes_before_what_was_chosen():
    chosen = {
        "ball": {"method": "mutex", "mutex_bias": 0.3, "min_volume_nm3": 9.0},
        "box": {"method": "components"},
    }
    assert merged(chosen, {}) == chosen
    assert merged(chosen, {"ball": {"mutex_bias": 0.6}})["ball"] == {**chosen["ball"], "mutex_bias": 0.6}
    assert merged(chosen, {"ball": {"method": "watershed"}})["ball"] == {"method": "watershed"}
    assert merged(chosen, {"ball": {"method": "mutex", "mutex_bias": 0.1}})["ball"]["min_volume_nm3"] == 9.0
    assert merged(chosen, {"other": {"h_nm": 3.0}}) == {**chosen, "other": {"h_nm": 3.0}}


def test_settings_are_never_chosen_on_what_was_learnt_or_is_judged(predicted, capsys):
    told = ["--model", "m", "--volume", "train", "--name", "seen"]
    assert run(["predict", str(predicted.folder), *told]) == 0
    capsys.readouterr()
    for role in ("train", "test"):
        with locked(predicted.path) as manifest:
            manifest.volumes["train"].role = role
        with pytest.raises(InputError, match=f"of role eval, found 'train' of role {role}: what a model"):
            tune_objects(predicted.folder, "seen")
    assert run(["tune-objects", str(predicted.folder), "--prediction", "p", "--metric", "iou"]) != 0
    assert "--metric iou: expected pq or are" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(NotFoundError, match="no prediction 'q'"):
        tune_objects(predicted.folder, "q")
    with locked(predicted.path) as manifest:
        manifest.volumes["train"].role = "eval"
        there, manifest.volumes["train"].objects = manifest.volumes["train"].objects, None
    with pytest.raises(InputError, match="'train' has no annotated objects to choose settings by"):
        tune_objects(predicted.folder, "seen")
    with locked(predicted.path) as manifest:
        manifest.volumes["train"].role, manifest.volumes["train"].objects = "train", there


def test_damaged_choices_are_refused(study):
    (study.folder / "tuned").mkdir(exist_ok=True)
    for text in ("settings = ", 'metric = "pq"', "[ball]", "[ball]\nsettings = 3"):
        (study.folder / "tuned/x.toml").write_text(text)
        with pytest.raises(ConfigError, match=r"x.toml: damaged, or of an earlier version .* tune again"):
            tuned_settings(study, "x")


def test_left_out_on_request_and_then_mutex_is_refused(predicted, capsys):
    told = ["--model", "m", "--volume", "eval", "--name", "without", "--no-affinities"]
    assert run(["predict", str(predicted.folder), *told]) == 0
    assert not (predicted.prediction_folder("without") / "affinities.zarr").exists()
    asked = ["objects", str(predicted.folder), "--prediction", "without", "--set", "ball.method=mutex"]
    assert run(asked) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert 'method = "mutex": expected a prediction with affinities of ball, found none' in said
    assert not predicted.objects_folder("without").exists()
    labels = ["objects", str(predicted.folder), "--labels", "eval", "--set", "ball.method=mutex"]
    assert run(labels) != 0


def test_a_head_without_annotated_objects_is_refused(study, capsys):
    recipe = str(study.folder.parent / "recipe.toml")
    told = ["--recipe", recipe, "--set", "affinities.share=1", "--name", "n", "--volumes", "bare"]
    assert run(["train", str(study.folder), *told]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "affinities.share: affinities are learnt from annotated objects, and bare has none" in said
    assert not study.model_folder("n").exists()


def test_objects_are_held_out_with_their_slices(study):
    learn, judge, _ = hold_out([labelled(study, "train")])
    depth = learn[0].labels.shape[0]
    assert 0 < depth < SHAPE[0]
    whole = study.objects("train").read()
    np.testing.assert_array_equal(learn[0].objects.read(), whole[:depth])
    np.testing.assert_array_equal(judge[0].objects.read(), whole[depth:])
