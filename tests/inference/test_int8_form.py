"""The form in 8-bit integers on disk: what it says, what it is refused for. Nothing here runs it."""

from dataclasses import replace

import pytest
from tiny_models import EXACT, make_model, make_volume, with_

from densem.errors import IntegrityError, NotFoundError
from densem.inference import openvino_backend, predict
from densem.inference.int8_form import Int8Form
from densem.inference.prepared import Prepared
from densem.model import Ensemble, Model

INT8 = EXACT.model_copy(update={"runtime": "openvino-int8"})


@pytest.fixture
def saved(tmp_path):
    """A model folder with a form, whose graph is none that could be run."""
    make_model().save(tmp_path / "tiny")
    folder = tmp_path / "tiny/int8"
    folder.mkdir()
    (folder / "graph.xml").write_text("<net/>")
    (folder / "graph.bin").write_bytes(b"\1\2\3")
    Int8Form.write(folder, make_model(), {"calibration": {"patches": 3, "shapes": [(2, 4, 6)]}})
    return tmp_path / "tiny"


def test_it_is_found_with_the_model_and_is_no_part_of_its_id(saved):
    model = Model.load(saved)
    assert model.int8 == saved / "int8"
    assert model.id == make_model().id
    form = Int8Form.of(model)
    assert form.record["calibration"] == {"patches": 3, "shapes": [[2, 4, 6]]}
    assert len(form.id) == 16
    assert form.files() == (saved / "int8/graph.xml", saved / "int8/graph.bin")


def test_saving_takes_it_along_and_training_anew_does_not(saved, tmp_path):
    model = Model.load(saved)
    model.save(tmp_path / "copy")
    model.save(saved, overwrite=True)
    assert Int8Form.of(Model.load(tmp_path / "copy")).id == Int8Form.of(Model.load(saved)).id
    make_model(seed=1).save(saved, overwrite=True)
    assert Model.load(saved).int8 is None


def test_a_model_without_one_is_named():
    with pytest.raises(NotFoundError) as caught:
        Int8Form.of(make_model(name="first"))
    assert str(caught.value) == (
        "--runtime openvino-int8: model 'first' has no form in 8-bit integers; make one with  densem quantize "
        "STUDY --model first , or give --runtime openvino"
    )


def test_one_of_another_model_is_refused(saved):
    other = replace(make_model(seed=1), int8=saved / "int8")
    with pytest.raises(IntegrityError) as caught:
        Int8Form.of(other)
    assert str(caught.value) == (
        f"{saved / 'int8/record.toml'}: expected format 1 and model {other.id}, found format 1 and model "
        f"{make_model().id}: it was made of another model; make it anew with  densem quantize STUDY --model "
        "tiny --overwrite"
    )


@pytest.mark.parametrize("text", ["", "format = 1", "not toml", 'format = 1\nmodel = "x"\nid = [', "\x00"])
def test_a_damaged_record_is_refused(saved, text):
    (saved / "int8/record.toml").write_text(text)
    with pytest.raises(IntegrityError, match=r"record\.toml: damaged .*; make it anew with"):
        Int8Form.of(Model.load(saved))


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin"])
def test_a_changed_or_missing_graph_is_refused(saved, name):
    form = Int8Form.of(Model.load(saved))
    (saved / "int8" / name).write_bytes(b"\1\2\4")
    with pytest.raises(IntegrityError, match=rf"int8: expected id {form.id}, found \w{{16}}: the graph was"):
        form.files()
    (saved / "int8" / name).unlink()
    with pytest.raises(IntegrityError, match=rf"int8: expected id {form.id}, found no graph: the graph was"):
        form.files()


def test_the_plan_of_a_prediction_names_it(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_backend, "installed", lambda: True)
    monkeypatch.setattr(openvino_backend, "version", lambda *_: "2030.1")
    model, volume = Model.load(saved), make_volume((4, 16, 24))
    plans = {
        runtime: Prepared.prepare(Ensemble([model]), volume, tmp_path, with_(EXACT, runtime=runtime)).plan()
        for runtime in ("openvino", "openvino-int8")
    }
    assert plans["openvino-int8"].pop("int8") == [Int8Form.of(model).id]
    assert plans["openvino-int8"].pop("backend") == "openvino-int8"
    assert plans["openvino"].pop("backend") == "openvino"
    assert plans["openvino-int8"] == plans["openvino"]


def test_a_missing_form_is_said_before_a_cluster_is_asked(tmp_path):
    options = INT8.model_copy(update={"engine": "dask", "scheduler": "tcp://127.0.0.1:1"})
    with pytest.raises(NotFoundError, match="has no form in 8-bit integers"):
        predict(make_model(), make_volume(), tmp_path / "p", options)
    assert not (tmp_path / "p").exists()
