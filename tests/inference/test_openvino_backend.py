"""Predictions by OpenVINO: seamless, the same bytes however they are cut up, and PyTorch's labels."""

import importlib.util

import numpy as np
import pytest
import torch
from tiny_models import EXACT, chunk_files, make_model, make_volume, scene, whole_pass, with_

from densem.blocks import Box
from densem.errors import ConfigError, InputError, IntegrityError
from densem.inference import openvino_backend, predict, predict_box
from densem.inference.fusion import Fusion
from densem.inference.openvino_backend import OpenVinoNetwork
from densem.inference.runtime import Runtime
from densem.inference.shown import Shown
from densem.inference.tiles import Tiling
from densem.networks.streaming import Ends

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)
OPENVINO = EXACT.model_copy(update={"runtime": "openvino"})
TILED = OPENVINO.model_copy(update={"core": (4, 16, 24), "threads": 1})


# ---- parts along z ---------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("depth", [3, 4, 11, 29])
@pytest.mark.parametrize("room", [1, 9 * 50, 4_000_000])
def test_parts_keep_every_slice_once_and_with_all_its_context(monkeypatch, zeros, depth, room):
    monkeypatch.setattr(openvino_backend, "ROOM", room)
    network = OpenVinoNetwork(make_model("deeper").network, "fp32")
    context = network.geometry.context[0]
    found = []
    for part, kept in network.parts(depth, 50, zeros):
        low, high = part.start + kept.start, part.start + kept.stop
        found += range(low, high)
        assert part.start in (0, low - context) or part.start < low - context
        assert part.stop == depth or part.stop >= high + context
        assert part.start == 0 or part.start <= low - context
    first, last = 0 if zeros[0] else context, depth - (0 if zeros[1] else context)
    assert found == list(range(first, last))


def test_a_long_window_is_cut_into_parts_of_one_length(monkeypatch):
    monkeypatch.setattr(openvino_backend, "ROOM", 1)
    network = OpenVinoNetwork(make_model("no-pyramid").network, "fp32")
    assert network.geometry.context[0] == 3
    assert network.parts(14, 50, (True, False)) == [
        (slice(0, 6), slice(0, 3)),
        (slice(0, 9), slice(3, 6)),
        (slice(3, 12), slice(3, 6)),
        (slice(5, 14), slice(4, 6)),
    ]
    assert network.run_on(14, 50, (True, False)) == 6 + 3 * 9


# ---- the same as in PyTorch ------------------------------------------------------------------


@needs_openvino
@pytest.mark.parametrize(("config", "room"), [("whole-family", 1), ("deeper", 4_000_000)])
def test_tiles_equal_one_pass_over_the_whole_volume(monkeypatch, config, room):
    monkeypatch.setattr(openvino_backend, "ROOM", room)
    model = make_model(config, seed=3)
    volume = make_volume((29, 47, 21), seed=1)
    assert volume.shape[0] > 2 * model.tile.exact[0]
    found = predict_box(model, volume, options=with_(OPENVINO, core=(15, 24, 24)))
    np.testing.assert_allclose(found, whole_pass(model, volume), atol=1e-4)


@needs_openvino
def test_mirrored_inputs():
    model, volume = make_model(), make_volume((9, 30, 44))
    options = with_(EXACT, flips="zy", core=(9, 16, 44))
    expected = predict_box(model, volume, options=options)
    found = predict_box(model, volume, options=with_(options, runtime="openvino"))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_openvino
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_of_a_trained_network_less_than_one_label_in_1000_differs_between_runtimes(trained, precision):
    x, _ = scene((24, 96, 96), torch.Generator().manual_seed(7))
    found = {}
    for backend in ("torch", "openvino"):
        runtime = Runtime("cpu", precision, backend)
        ready = runtime.prepare(trained)
        with torch.inference_mode():
            slabs = list(ready.slabs(Shown(x[0, 0].numpy(), dtype=runtime.dtype), Ends()))
        found[backend] = torch.cat([s.float() for s in slabs], dim=1).argmax(0)
    assert (found["torch"] != found["openvino"]).float().mean() <= 1e-3
    assert len(found["torch"].unique()) == 4


@needs_openvino
@pytest.mark.parametrize("kept", [1, 4])
def test_the_context_in_y_and_x_is_cut_down_as_in_pytorch(monkeypatch, kept):
    monkeypatch.setattr(openvino_backend, "KEPT", kept)
    network = make_model("whole-family", seed=2).network
    first, second = (Runtime("cpu", "fp32", b).prepare(network) for b in ("torch", "openvino"))
    image = np.random.default_rng(0).standard_normal((9, 60, 48), np.float32)
    for margins in ((16, 4, 0, 8), (0, 20, 12, 12), (16, 4, 0, 8)):
        ends = Ends((True, False), margins)
        expected, found = (
            np.concatenate([s.numpy() for s in ready.slabs(Shown(image), ends)], axis=1)
            for ready in (first, second)
        )
        assert found.shape[2:] == (60 - sum(margins[:2]), 48 - sum(margins[2:]))
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(second._compiled) == min(kept, 2)


@needs_openvino
def test_start_up_is_measured():
    ready = Runtime("cpu", "fp32", "openvino").prepare(make_model("planar").network)
    assert ready.start_up == (0.0, 0.0)
    list(ready.slabs(Shown(np.zeros((3, 32, 32), np.float32)), Ends()))
    assert all(0 < s < 60 for s in ready.start_up)
    assert Runtime("cpu", "fp32").prepare(make_model("planar").network).start_up == (0.0, 0.0)


# ---- the same bytes --------------------------------------------------------------------------


@needs_openvino
def test_blocks_and_workers_change_no_byte(tmp_path):
    model, volume = make_model(), make_volume((7, 45, 24))
    plan = predict(model, volume, tmp_path / "a", TILED).classes.provenance
    predict(model, volume, tmp_path / "b", with_(TILED, block=(8, 64, 48), workers=2))
    assert chunk_files(tmp_path / "a") == chunk_files(tmp_path / "b")
    assert (plan["backend"], plan["openvino"]) == ("openvino", openvino_backend.version())


@needs_openvino
def test_an_unfinished_prediction_keeps_its_runtime_and_refuses_another(tmp_path, monkeypatch):
    model, volume, folder = make_model(), make_volume((7, 16, 24)), tmp_path / "p"
    with monkeypatch.context() as m:
        m.setattr("densem.inference.prediction._Prediction.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            predict(model, volume, folder, TILED)
    with pytest.raises(IntegrityError, match=r"backend .*openvino.*torch"):
        predict(model, volume, folder, with_(TILED, runtime="torch"))
    monkeypatch.setattr("densem.inference.prepared.WORTH", 0)
    monkeypatch.setattr("densem.inference.contest.Contest.decide", stop)
    finished = predict(model, volume, folder, with_(TILED, runtime="auto"))
    assert finished.classes.provenance["backend"] == "openvino"


def stop(*_):
    raise KeyboardInterrupt


# ---- messages --------------------------------------------------------------------------------


@needs_openvino
def test_values_that_are_no_numbers_are_refused_with_their_place(model):
    tiling = Tiling((4, 32, 48), (4, 16, 24), (4, 10, 10), (1, 2, 2))
    window = tiling.window(Box((0, 16, 24), (4, 32, 48)))
    image = np.zeros(window.shape, np.float32)
    image[0, 20, 20] = np.nan
    with pytest.raises(InputError, match=r"values that are not numbers at z 0:4, y 16:32, x 24:48"):
        list(Fusion.of(model, Runtime("cpu", "fp32", "openvino")).pieces(image, window))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(openvino_backend, "installed", lambda: False)
    with pytest.raises(ConfigError) as caught:
        Runtime.choose("cpu", "fp32", "openvino")
    assert str(caught.value) == (
        "--runtime openvino: expected OpenVINO, which is not installed; pip install 'densem[openvino]', "
        "or give --runtime torch"
    )


@needs_openvino
def test_a_card_is_refused():
    with pytest.raises(ConfigError) as caught:
        Runtime.choose("cuda", "fp32", "openvino")
    assert str(caught.value) == (
        "--runtime openvino --device cuda: OpenVINO is used on processors alone; give --device cpu, "
        "or --runtime torch"
    )
    assert Runtime.choose("auto", "fp32", "openvino") == Runtime("cpu", "fp32", "openvino")
