import json
import logging
import pickle
from dataclasses import replace

import pytest
from tiny_models import EXACT, make_model, make_volume

from densem.inference import contest, openvino_backend, predict
from densem.inference.contest import Contest, Pace, Verdict, Work, candidates
from densem.inference.job import runtime_there
from densem.inference.runtime import Runtime
from densem.inference.tiles import Tiling
from densem.model import Ensemble

RUNTIMES = (Runtime("cpu", "fp32"), Runtime("cpu", "fp32", "openvino"))
TILING = Tiling((40, 53, 70), (8, 16, 24), (2, 10, 10), (1, 2, 2))


@pytest.fixture
def a_contest(tmp_path, monkeypatch):
    """One of two runtimes, whose measuring is counted and not done."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_backend, "installed", lambda: True)
    monkeypatch.setattr(contest, "candidates", lambda device, precision: RUNTIMES)
    monkeypatch.setattr(openvino_backend, "version", lambda *_: "2030.1")
    made = Contest.of(Ensemble([make_model()]), TILING, ("cpu", "fp32"), 2)
    made = replace(made, work=Work(windows=10, shapes=20))
    measured = []

    def measure(self, runtimes):
        measured.append(self)
        return {"torch": Pace(3.0), "openvino": Pace(1.0, once=5.0, shape=0.25)}

    monkeypatch.setattr(Contest, "measure", measure)
    return made, measured


def test_the_window_in_the_middle_of_the_volume_is_taken():
    made = Contest.of(Ensemble([make_model()]), TILING, ("cpu", "fp32"), 2)
    assert made.window == (12, 36, 44)
    assert made.margins == (10, 10, 10, 10)
    assert made.zeros == (False, False)


def test_the_fastest_is_taken_and_remembered(a_contest):
    made, measured = a_contest
    first, second = made.decide(), made.decide()
    assert first == second == Verdict("openvino", {"torch": 30.0, "openvino": 20.0})
    assert len(measured) == 1
    assert first.line() == (
        "Runtime: openvino, measured here 1.50 times as fast as torch, start-up included (--runtime overrides)"
    )


def test_what_starts_slowly_is_not_taken_for_little_work(a_contest):
    made, measured = a_contest
    assert replace(made, work=Work(4, 20)).decide() == Verdict("torch", {"torch": 12.0, "openvino": 14.0})
    assert replace(made, work=Work(6, 20)).decide() == Verdict("openvino", {"torch": 18.0, "openvino": 16.0})
    assert replace(made, work=Work(6, 36)).decide() == Verdict("torch", {"torch": 18.0, "openvino": 20.0})
    assert len(measured) == 1


def test_windows_and_their_shapes_are_counted():
    work = Contest.of(Ensemble([make_model()]), TILING, ("cpu", "fp32"), 2).work
    along_z, along_y, along_x = 10 + 3 * 12 + 10, 26 + 36 + 32 + 16, 34 + 44 + 32
    assert work.windows == pytest.approx(along_z * along_y * along_x / (12 * 36 * 44))
    assert work.shapes == 2 * 4 * 3
    half = Contest.of(Ensemble([make_model()]), TILING, ("cpu", "fp32"), 2, share=0.5).work
    assert half == Work(work.windows / 2, work.shapes)


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 1},
        {"precision": "bf16"},
        {"window": (12, 36, 46)},
        {"members": ('["hybrid-2d", {}]',)},
    ],
)
def test_another_contest_is_measured_anew(a_contest, change):
    made, measured = a_contest
    made.decide()
    replace(made, **change).decide()
    assert len(measured) == 2
    made.decide()
    assert len(measured) == 2


def test_another_version_is_measured_anew(a_contest, monkeypatch):
    made, measured = a_contest
    made.decide()
    monkeypatch.setattr(openvino_backend, "version", lambda *_: "2031.0")
    made.decide()
    assert len(measured) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '{"KEY": {"torch": "x"}}',
        '{"KEY": {"torch": 3.0, "openvino": 2.0}}',
        '{"KEY": {"torch": {"window": 1.0, "once": 0.0, "shape": 0.0}}}',
    ],
)
def test_a_corrupt_cache_is_ignored_and_mended(a_contest, text):
    made, measured = a_contest
    contest.cache().parent.mkdir(parents=True)
    contest.cache().write_text(text.replace("KEY", made._key(RUNTIMES)))
    assert made.decide().taken == "openvino"
    assert len(measured) == 1
    (kept,) = json.loads(contest.cache().read_text()).values()
    assert kept == {
        "torch": {"window": 3.0, "once": 0.0, "shape": 0.0},
        "openvino": {"window": 1.0, "once": 5.0, "shape": 0.25},
    }


def test_a_cache_that_cannot_be_written_costs_no_more_than_a_line(a_contest, tmp_path, monkeypatch, caplog):
    made, _ = a_contest
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO):
        assert made.decide().taken == "openvino"
    assert "cannot be remembered" in caplog.text


def test_one_candidate_is_not_measured(monkeypatch):
    monkeypatch.setattr(openvino_backend, "installed", lambda: False)
    assert candidates("cpu", "fp32") == RUNTIMES[:1]
    made = Contest.of(Ensemble([make_model()]), TILING, ("cpu", "fp32"), 2)
    monkeypatch.setattr(Contest, "measure", None)
    assert made.decide() == Verdict("torch", {})
    assert made.decide().line() == ""


def test_all_that_compete_have_the_settled_precision(monkeypatch):
    monkeypatch.setattr(openvino_backend, "installed", lambda: True)
    monkeypatch.setattr(openvino_backend, "version", lambda *_: "2030.1")
    for precision in ("fp32", "bf16"):
        assert {r.precision for r in candidates("cpu", precision)} == {precision}
        assert [r.backend for r in candidates("cpu", precision)] == ["torch", "openvino"]


def test_small_volumes_are_not_worth_a_contest_and_larger_ones_are(tmp_path, monkeypatch):
    model, volume, asked = make_model("planar"), make_volume((3, 20, 30)), []
    monkeypatch.setattr(Contest, "decide", lambda self: asked.append(self) or Verdict("torch", {}))
    predict(model, volume, tmp_path / "a", EXACT)
    assert asked == []
    monkeypatch.setattr("densem.inference.prepared.WORTH", volume.box.size)
    result = predict(model, volume, tmp_path / "b", EXACT.model_copy(update={"threads": 1}))
    assert [c.threads for c in asked] == [1]
    assert result.classes.provenance["backend"] == "torch"


def test_runtimes_are_measured_on_windows_of_the_prediction():
    pytest.importorskip("openvino")
    made = Contest.of(Ensemble([make_model("planar")]), TILING, ("cpu", "fp32"), 2)
    found = made.measure(RUNTIMES)
    assert set(found) == {"torch", "openvino"}
    assert all(0 < p.window < 60 for p in found.values())
    assert (found["torch"].once, found["torch"].shape) == (0.0, 0.0)
    assert 0 < found["openvino"].once < 60
    assert 0 < found["openvino"].shape < 60


def test_on_a_cluster_the_first_worker_holds_the_contest(a_contest):
    made, measured = a_contest
    found = runtime_there("cpu", "fp32", "torch", made)
    assert (found["backend"], found["openvino"]) == ("openvino", "2030.1")
    assert len(measured) == 1
    assert runtime_there("cpu", "fp32", "torch", None)["backend"] == "torch"
    assert pickle.loads(pickle.dumps(made)) == made
