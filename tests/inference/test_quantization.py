"""8-bit integers: what they are calibrated on, and a network that has learnt something run in them."""

import importlib.util
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import EXACT, SCHEMA, VOXEL_SIZE, chunk_files, make_volume, scene, with_

from densem.errors import ConfigError, InputError, IntegrityError
from densem.inference import openvino_backend, predict, predict_box, quantization
from densem.inference.int8_form import Int8Form
from densem.inference.quantization import Calibration, check_installed, quantize
from densem.model import Model, TilePlan
from densem.volumes import Intensity, Volume

needs_nncf = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openvino", "nncf")),
    reason="OpenVINO or NNCF is not installed",
)
INT8 = EXACT.model_copy(update={"runtime": "openvino-int8", "core": (8, 32, 40), "threads": 1})


def grey(shape, seed):
    """A uint8 volume of a scene, and the classes behind it."""
    x, truth = scene(shape, torch.Generator().manual_seed(seed))
    array = np.clip(128 + 20 * x[0, 0].numpy(), 0, 255).astype(np.uint8)
    intensity = Intensity(128.0, 20.0, 0, 255, 1, 254, 1.0)
    record = {"intensity": intensity.to_dict(), "id": f"scene-{seed}"}
    return Volume(array, VOXEL_SIZE, attributes=record), truth[0].numpy()


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory):
    """The trained network as a model, with its form in 8-bit integers."""
    folder = tmp_path_factory.mktemp("models") / "bands"
    tile = TilePlan(core=(8, 32, 40), exact=trained.geometry.context)
    Model(trained, "hybrid-2d3d-no-pyramid", SCHEMA, VOXEL_SIZE, tile, name="bands").save(folder)
    (folder / "int8").mkdir()
    quantize(Model.load(folder), Calibration([grey((9, 64, 96), 3)[0]], patches=4), folder / "int8")
    return Model.load(folder)


# ---- patches ---------------------------------------------------------------------------------


def test_patches_are_normalised_voxels_of_the_volumes(monkeypatch):
    monkeypatch.setattr(quantization, "PATCH", (4, 10, 20))
    volumes = [make_volume((3, 31, 47), seed=1), make_volume((6, 22, 18), seed=2)]
    found = list(Calibration(volumes, patches=12).inputs((1, 4, 4)))
    assert {x.shape for x in found} == {(1, 1, 3, 12, 20), (1, 1, 4, 12, 20)}
    for x in found:
        volume = volumes[0] if x.shape[2] == 3 else volumes[1]
        z, _, side = (min(p, n) for p, n in zip((4, 10, 20), volume.shape, strict=True))
        array = (volume.read() - volume.intensity.mean) / volume.intensity.std
        windows = np.lib.stride_tricks.sliding_window_view(array, (z, 10, side))
        patch = x[0, 0, :, :10, :side]
        assert np.isclose(windows, patch, atol=1e-5).all(axis=(3, 4, 5)).sum() == 1
        np.testing.assert_array_equal(x[0, 0, :, 10], x[0, 0, :, 8])
    again = list(Calibration(volumes, patches=12).inputs((1, 4, 4)))
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    other = list(Calibration(volumes, patches=12, seed=1).inputs((1, 4, 4)))
    assert not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(found, other, strict=True))


def test_places_without_tissue_are_left_out(monkeypatch):
    monkeypatch.setattr(quantization, "PATCH", (2, 8, 8))
    array = np.full((2, 8, 400), 7, np.uint8)
    array[:, 3, 40:60] = 9
    record = {"intensity": Intensity(7.0, 1.0, 7, 9, 7, 9, 1.0).to_dict(), "id": "x"}
    found = list(Calibration([Volume(array, VOXEL_SIZE, attributes=record)], patches=5).inputs((1, 2, 2)))
    assert found
    assert all(x.max() == 2 for x in found)


def test_a_volume_of_one_value_is_refused():
    record = {"intensity": Intensity(7.0, 1.0, 7, 7, 7, 7, 1.0).to_dict(), "id": "x"}
    volume = Volume(np.full((2, 8, 9), 7, np.uint8), VOXEL_SIZE, attributes=record)
    with pytest.raises(InputError) as caught:
        list(Calibration([volume]).inputs((1, 1, 1)))
    assert str(caught.value) == (
        f"{volume.name}: expected grey values to calibrate on, found places of one value alone"
    )


# ---- a trained network -----------------------------------------------------------------------


@needs_nncf
def test_most_labels_stay_and_are_as_right_as_before(model):
    volume, truth = grey((12, 96, 120), 7)
    found = {
        runtime: predict_box(model, volume, options=with_(INT8, runtime=runtime)).argmax(0)
        for runtime in ("openvino", "openvino-int8")
    }
    assert 0 < (found["openvino"] != found["openvino-int8"]).mean() < 0.02
    right = {runtime: (labels == truth).mean() for runtime, labels in found.items()}
    assert right["openvino-int8"] > right["openvino"] - 0.005


@needs_nncf
def test_convolutions_are_in_8_bit_integers(model):
    import openvino

    graph = openvino.Core().read_model(*Int8Form.of(model).files())
    kinds = [op.get_type_name() for op in graph.get_ordered_ops()]
    assert kinds.count("FakeQuantize") >= kinds.count("Convolution") > 3
    stored = [
        op.get_element_type().get_type_name()
        for op in graph.get_ordered_ops()
        if op.get_type_name() == "Constant"
    ]
    assert "i8" in stored
    record = Int8Form.of(model).record
    assert record["model"] == model.id
    assert record["calibration"] == {
        "volumes": {"volume": "scene-3"}, "patches": 4, "shapes": [[9, 64, 96]], "seed": 0,
    }  # fmt: skip
    assert record["versions"]["openvino"] == openvino_backend.version()


@needs_nncf
def test_blocks_and_workers_change_no_byte_and_another_form_is_refused(model, tmp_path, monkeypatch):
    volume, _ = grey((8, 64, 80), 5)
    plan = predict(model, volume, tmp_path / "a", INT8).classes.provenance
    predict(model, volume, tmp_path / "b", with_(INT8, block=(8, 64, 80), workers=2))
    assert chunk_files(tmp_path / "a") == chunk_files(tmp_path / "b")
    assert (plan["backend"], plan["int8"]) == ("openvino-int8", [Int8Form.of(model).id])
    with monkeypatch.context() as m:
        m.setattr("densem.inference.prediction._Prediction.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            predict(model, volume, tmp_path / "c", INT8)
    (tmp_path / "other").mkdir()
    quantize(model, Calibration([volume], patches=1), tmp_path / "other")
    with pytest.raises(IntegrityError, match=r"int8 "):
        predict(replace(model, int8=tmp_path / "other"), volume, tmp_path / "c", INT8)
    finished = predict(model, volume, tmp_path / "c", with_(INT8, runtime="auto"))
    assert finished.classes.provenance["backend"] == "openvino-int8"


@needs_nncf
def test_handlers_of_others_on_its_logger_keep_their_level():
    logger, handler = logging.getLogger("nncf"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        quantization._nncf()
        assert (logger.level, handler.level) == (logging.ERROR, logging.NOTSET)
    finally:
        logger.removeHandler(handler)


def stop(*_):
    raise KeyboardInterrupt


# ---- messages --------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["openvino", "nncf"])
def test_a_missing_extra_is_named(monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(ConfigError) as caught:
        check_installed()
    assert str(caught.value) == (
        "densem quantize: expected OpenVINO and NNCF, of which at least one is not installed; "
        "pip install 'densem[quantize]'"
    )


def test_a_card_and_a_missing_openvino_are_refused_by_the_runtimes_name(monkeypatch):
    from densem.inference.runtime import Runtime

    if importlib.util.find_spec("openvino") is not None:
        with pytest.raises(ConfigError, match="--runtime openvino-int8 --device cuda: OpenVINO is used on"):
            Runtime.choose("cuda", "fp32", "openvino-int8")
    monkeypatch.setattr(openvino_backend, "installed", lambda: False)
    with pytest.raises(ConfigError, match="--runtime openvino-int8: expected OpenVINO, which is not"):
        Runtime.choose("cpu", "fp32", "openvino-int8")


@needs_nncf
def test_nncf_does_not_report_its_use():
    import os
    import subprocess
    import sys

    code = (
        "from densem.inference.quantization import _nncf; _nncf()\n"
        "from nncf.telemetry.wrapper import NNCFTelemetry, telemetry\n"
        "assert not isinstance(telemetry, NNCFTelemetry), telemetry\n"
        "import os; assert 'NNCF_CI' not in os.environ"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NNCF_CI"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
