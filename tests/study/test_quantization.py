"""`densem quantize`: kept when it costs little, refused with the numbers when not."""

import importlib.util
import json
import shutil
import tomllib

import pytest

from densem.cli.app import run
from densem.inference import quantization as calibration
from densem.model import Model
from densem.study import Study, quantization
from densem.study.manifest import ModelEntry, locked
from densem.study.quantization import Comparison
from densem.volumes import open_volume

needs_nncf = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openvino", "nncf")),
    reason="OpenVINO or NNCF is not installed",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, phantom_files, tiny_recipe):
    """A study with a train and an eval volume, and a model."""
    folder = tmp_path_factory.mktemp("quantised") / "platelets"
    assert run(["new", str(folder), "--schema", "platelet"]) == 0
    files = ["--image", str(phantom_files.image), "--labels", str(phantom_files.semantic)]
    common = [*files, "--palette", "platelet-em", "--voxel-size", "40", "10", "10"]
    assert run(["import", str(folder), "train", *common, "--role", "train", "--slices", "0:3"]) == 0
    assert run(["import", str(folder), "eval", *common, "--role", "eval", "--slices", "3:5"]) == 0
    assert run(["train", str(folder), "--recipe", str(tiny_recipe), "--name", "first"]) == 0
    return folder


@pytest.fixture
def study(trained, tmp_path, monkeypatch):
    """A copy of it, and nothing that needs OpenVINO or NNCF."""
    monkeypatch.setattr(calibration, "check_installed", lambda: None)
    return shutil.copytree(trained, tmp_path / "platelets")


@pytest.fixture
def costing(monkeypatch):
    """Makes a form without a graph, which costs so much MIoU."""

    def say(loss):
        before = {"miou": 0.6, "iou": {"background": 0.8, "cell": 0.4}}
        after = {"miou": 0.6 - loss, "iou": {"background": 0.8, "cell": 0.4 - 2 * loss}}
        monkeypatch.setattr(quantization, "compare", lambda *_: Comparison(before, after, 4000, 60))
        monkeypatch.setattr(calibration, "quantize", fake)

    def fake(model, asked, folder):
        (folder / "graph.xml").write_text("<net/>")
        (folder / "graph.bin").write_bytes(b"\1")
        return calibration.Int8Form.write(folder, model, {"calibration": {"patches": asked.patches}})

    return say


def quantize(folder, *more):
    return run(["quantize", str(folder), "--model", "first", *more])


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in (folder / "models/first").rglob("*"))


@needs_nncf
def test_the_command_makes_a_form_that_labels(trained, tmp_path, capsys):
    folder = shutil.copytree(trained, tmp_path / "platelets")
    assert quantize(folder, "--patches", "2", "--limit", "1") == 0
    said = capsys.readouterr().out
    assert said.startswith("Calibrating first on 2 patches of train.\nComparing on eval.\nMIoU 0.")
    assert "--runtime openvino-int8" in said
    assert "Statistics collection" not in said
    record = tomllib.loads((folder / "models/first/int8/record.toml").read_text())
    assert record["calibration"]["volumes"] == {"train": Study.open(folder).image("train").id}
    assert record["scores"]["limit"] == 1
    assert list(record["scores"]["volumes"]) == ["eval"]
    predict = ["predict", str(folder), "--model", "first", "--volume", "eval", "--precision", "fp32"]
    miou, labels = {}, {}
    for runtime, form in (("openvino", "float32"), ("openvino-int8", "int8")):
        assert run([*predict, "--runtime", runtime, "--name", runtime]) == 0
        capsys.readouterr()
        assert run(["evaluate", str(folder), "--prediction", runtime, "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)
        labels[runtime] = open_volume(folder / f"predictions/{runtime}/classes.zarr").read()
        miou[form] = (scores["miou"], record["scores"][form]["miou"])
        assert record["scores"][form]["iou"].keys() == {
            n for n, c in scores["classes"].items() if c["iou"] is not None
        }
    assert miou["float32"][0] == pytest.approx(miou["float32"][1], abs=1e-4)
    assert miou["int8"][0] == pytest.approx(miou["int8"][1], abs=5e-3)  # there in fp32 beside the integers
    assert record["scores"]["voxels"] == labels["openvino"].size
    changed = (labels["openvino"] != labels["openvino-int8"]).sum()
    assert record["scores"]["changed"] == pytest.approx(changed, rel=0.2, abs=20)


def test_what_costs_little_is_kept_with_its_record(study, costing, capsys):
    before = Model.load(study / "models/first").id
    costing(0.004)
    assert quantize(study, "--patches", "7") == 0
    assert capsys.readouterr().out.splitlines() == [
        "Calibrating first on 7 patches of train.",
        "Comparing on eval.",
        "MIoU 0.6000 in float32, 0.5960 in 8-bit integers: loss 0.0040; most of all cell (0.4000 to 0.3920); "
        "1.50 % of 4000 labels differ.",
        f"Kept in {study / 'models/first/int8'}. Next: densem predict {study} --model first --volume VOLUME "
        "--runtime openvino-int8",
    ]
    model = Model.load(study / "models/first")
    record = calibration.Int8Form.of(model).record
    assert model.id == before
    assert record["calibration"] == {"patches": 7}
    assert record["scores"]["limit"] == 0.005
    assert record["scores"]["int8"] == {"miou": 0.596, "iou": {"background": 0.8, "cell": 0.392}}
    assert [f for f in files(study) if "part" in f or "old" in f] == []


def test_what_is_better_than_before_is_kept(study, costing):
    costing(-0.01)
    assert quantize(study, "--limit", "0") == 0
    assert Model.load(study / "models/first").int8 is not None


@pytest.mark.parametrize(
    ("loss", "limit"), [(0.005, "0.005"), (0.02, "0.005"), (0.0, "0"), (float("nan"), "1")]
)
def test_what_costs_too_much_is_refused_and_nothing_is_written(study, costing, capsys, loss, limit):
    before = files(study)
    costing(loss)
    assert quantize(study, "--limit", limit) == 2
    assert files(study) == before
    assert capsys.readouterr().err == (
        f"densem: error: model 'first': expected 8-bit integers to cost less than {limit} MIoU, found {loss:.4f} on "
        "eval; nothing was written. Stay with bf16 or fp32, train longer, or raise --limit\n"
    )


def test_a_form_that_is_there_stays_unless_it_is_to_be_replaced(study, costing, capsys):
    costing(0.001)
    assert quantize(study) == 0
    capsys.readouterr()
    assert quantize(study) == 2
    assert capsys.readouterr().err == (
        f"densem: error: {study / 'models/first/int8'}: a form in 8-bit integers lies there already; --overwrite "
        "replaces it\n"
    )
    costing(0.1)
    assert quantize(study, "--overwrite") == 2
    record = tomllib.loads((study / "models/first/int8/record.toml").read_text())
    assert record["scores"]["int8"]["miou"] == 0.599
    costing(0.002)
    assert quantize(study, "--overwrite") == 0
    record = tomllib.loads((study / "models/first/int8/record.toml").read_text())
    assert record["scores"]["int8"]["miou"] == 0.598
    assert [f for f in files(study) if "part" in f or "old" in f] == []


def test_an_interrupt_leaves_nothing(study, costing, monkeypatch):
    before = files(study)
    costing(0.001)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(quantization, "compare", interrupted)
    assert quantize(study) == 130
    assert files(study) == before


# ---- messages --------------------------------------------------------------------------------


def test_without_an_eval_volume_it_is_refused(study, capsys):
    for change in (lambda s: s.remove_annotation("eval"), lambda s: s.set_role("eval", "test")):
        change(Study.open(study))
        assert quantize(study) == 2
        assert capsys.readouterr().err == (
            "densem: error: study platelets: expected a labelled volume of role eval that 'first' did not learn from, "
            "found none: what 8-bit integers cost has to be measured; import one with --labels, --role eval\n"
        )


def test_an_eval_volume_that_was_learned_from_does_not_count(study, capsys):
    Study.open(study).set_role("train", "eval")
    Study.open(study).set_role("eval", "test")
    assert quantize(study) == 2
    assert "role eval that 'first' did not learn from" in capsys.readouterr().err


@pytest.mark.parametrize(("trained_on", "listed"), [({}, "unknown volumes"), ({"gone": "a b"}, "gone")])
def test_a_model_whose_training_data_is_elsewhere_is_refused(study, capsys, trained_on, listed):
    with locked(Study.open(study).path) as manifest:
        entry = manifest.models["first"]
        manifest.models["first"] = ModelEntry(id=entry.id, recipe=entry.recipe, trained_on=trained_on)
    assert quantize(study) == 2
    assert capsys.readouterr().err == (
        f"densem: error: study platelets: model 'first' learned from {listed}, of which nothing is in this study any "
        "more: 8-bit integers are calibrated on a model's own training data; import that under its old name, "
        "or train here\n"
    )


def test_a_volume_that_was_replaced_since_does_not_count(study, capsys):
    with locked(Study.open(study).path) as manifest:
        manifest.models["first"].trained_on["train"] = "0123456789abcdef 0123456789abcdef"
    assert quantize(study) == 2
    assert "learned from train, of which nothing is in this study any more" in capsys.readouterr().err


def test_a_part_of_a_volume_was_learned_from(study, costing):
    with locked(Study.open(study).path) as manifest:
        record = manifest.models["first"].trained_on
        image, labels = record["train"].split()
        record["train"] = f"{image}[z 0:2, y 0:72, x 0:88] {labels}[z 0:2, y 0:72, x 0:88]"
    costing(0.001)
    assert quantize(study) == 0


def test_a_model_that_is_not_there_is_named(study, capsys):
    assert run(["quantize", str(study), "--model", "frist"]) == 2
    assert (
        capsys.readouterr().err == "densem: error: study platelets: no model 'frist'. Did you mean 'first'?\n"
    )


def test_predicting_without_a_form_says_how_to_make_one(study, capsys):
    asked = ["--model", "first", "--volume", "eval", "--runtime", "openvino-int8"]
    assert run(["predict", str(study), *asked]) == 2
    assert "make one with densem quantize STUDY --model first , or give" in capsys.readouterr().err
    assert not (study / "predictions").exists()
