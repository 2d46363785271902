"""Several devices for one prediction, played by copies of the network on the processor."""

import threading
import time
from dataclasses import dataclass

import pytest
import torch
from tiny_models import EXACT, chunk_files, make_model, make_volume, with_

from densem.inference import cards, fusion, prediction, prepared
from densem.inference.cards import CardTask, cards_of, labellers_for, spread
from densem.inference.fusion import Fusion
from densem.inference.labeller import Labeller
from densem.inference.runtime import Runtime
from densem.model import Ensemble

TILED = EXACT.model_copy(update={"core": (4, 16, 24), "threads": 1})  # 8 blocks


@pytest.fixture
def machine(monkeypatch):
    """Names of the cards that torch is told there are; the current one is number 1."""

    def has(*names, current=0):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda n: names[n])
        monkeypatch.setattr(torch.cuda, "current_device", lambda: current)

    return has


# ---- which cards -----------------------------------------------------------------------------


def test_cuda_means_all_cards_of_one_kind(machine, caplog):
    caplog.set_level("INFO", "densem")
    machine("H200", "T400", "H200", "H200")
    assert cards_of(Runtime("cuda", "bf16")) == ("cuda", "cuda:2", "cuda:3")
    assert caplog.messages == ["cuda:1 (T400) is not used: it is of another kind than cuda:0 (H200)"]


def test_the_first_is_the_one_that_torch_would_take(machine):
    machine("H200", "H200", current=1)
    assert cards_of(Runtime("cuda", "fp32")) == ("cuda", "cuda:0")


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:1"])
def test_a_device_that_is_named_stays_alone(machine, device):
    machine("H200", "H200")
    assert cards_of(Runtime(device, "fp32")) == (device,)


@pytest.mark.parametrize(("given", "devices", "workers"), [(None, 3, 3), (1, 1, 1), (2, 2, 2), (5, 3, 5)])
def test_workers_are_as_many_as_cards_unless_told(monkeypatch, tmp_path, given, devices, workers):
    monkeypatch.setattr(prepared, "cards_of", lambda runtime: ("cpu",) * 3)
    found = prepared.Prepared.prepare(
        Ensemble([make_model()]), make_volume(), tmp_path / "p", with_(TILED, workers=given)
    )
    assert (len(found.devices), found.workers) == (devices, workers)


def test_without_cards_there_is_one_worker(tmp_path):
    found = prepared.Prepared.prepare(Ensemble([make_model()]), make_volume(), tmp_path / "p", TILED)
    assert (found.devices, found.workers) == (("cpu",), 1)


# ---- one labeller for each -------------------------------------------------------------------


@dataclass(frozen=True)
class _Fusion:
    runtime: Runtime
    offsets: tuple = ()


@dataclass(frozen=True)
class _Labeller:
    fusion: _Fusion


def test_each_card_has_networks_of_its_own(monkeypatch):
    made = []

    def of(ensemble, runtime, flips, affinities):
        made.append((ensemble, flips))
        return _Fusion(runtime)

    monkeypatch.setattr(cards.Fusion, "of", of)
    labeller = _Labeller(_Fusion(Runtime("cuda", "bf16")))
    found = labellers_for(labeller, "ensemble", "yx", ("cuda", "cuda:2", "cuda:3"))
    assert found[0] is labeller
    assert [f.fusion.runtime for f in found[1:]] == [Runtime("cuda:2", "bf16"), Runtime("cuda:3", "bf16")]
    assert made == [("ensemble", "yx")] * 2


def test_the_networks_are_copies():
    ensemble = Ensemble([make_model()])
    labeller = Labeller.of(ensemble, make_volume(), TILED)
    first, second = labellers_for(labeller, ensemble, "", ("cpu", "cpu"))
    pairs = zip(*(f.fusion.networks[0].network.parameters() for f in (first, second)), strict=True)
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)
    assert (second.tiling, second.intensity) == (first.tiling, first.intensity)


# ---- who does what ---------------------------------------------------------------------------


class Card:
    """A task that notes which thread did which block."""

    def __init__(self):
        self.labeller = _Labeller(_Fusion(Runtime("cpu", "fp32")))
        self.done = []

    def __call__(self, index, box):
        time.sleep(0.01)
        self.done.append((threading.get_ident(), index))
        return {}


def test_threads_take_cards_in_turn_and_keep_them():
    found = [Card(), Card(), Card()]
    task, gate = CardTask(found), threading.Barrier(6, timeout=20)

    def work(first):
        gate.wait()
        for index in range(first, first + 4):
            task(index, None)

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    owners = [{thread for thread, _ in card.done} for card in found]
    assert [len(o) for o in owners] == [2, 2, 2]
    assert len(set().union(*owners)) == 6
    assert sorted(i for card in found for _, i in card.done) == sorted(
        10 * n + k for n in range(6) for k in range(4)
    )


def test_one_card_is_left_as_it_is():
    task, labeller = object(), object()
    assert spread(task, [labeller]) is task


# ---- a prediction ----------------------------------------------------------------------------


def test_a_prediction_on_three_devices_writes_the_same_bytes(tmp_path, monkeypatch):
    model, volume = make_model(), make_volume()
    prediction.predict(model, volume, tmp_path / "one", TILED)
    monkeypatch.setattr(prepared, "cards_of", lambda runtime: (runtime.device,) * 3)
    used, original = {}, Fusion.pieces

    def noted(self, *given):
        used.setdefault(id(self), set()).add(threading.get_ident())
        time.sleep(0.01)
        return original(self, *given)

    monkeypatch.setattr(Fusion, "pieces", noted)
    result = prediction.predict(model, volume, tmp_path / "three", TILED)
    assert result.report.done == 8
    assert len(used) == 3
    assert all(len(threads) == 1 for threads in used.values())
    assert len(set.union(*used.values())) == 3
    assert chunk_files(tmp_path / "three") == chunk_files(tmp_path / "one")
    assert result.classes.id == prediction.open_volume(tmp_path / "one/classes.zarr").id


def test_exact_arithmetic_holds_until_the_last_thread_is_done():
    """Torch's flags are those of the process: a thread that ends must not change another one's numbers."""
    flags = torch.backends.cudnn
    before = (flags.deterministic, flags.allow_tf32)
    first, second = fusion._exact_arithmetic("cuda"), fusion._exact_arithmetic("cuda:1")
    with flags.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert (flags.benchmark, flags.deterministic, flags.allow_tf32) == (False, True, False)
        second.__exit__(None, None, None)
        assert (flags.benchmark, flags.deterministic, flags.allow_tf32) == (True, False, True)
    assert (flags.deterministic, flags.allow_tf32) == before
