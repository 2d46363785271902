import copy

import pytest
import torch
from tiny_models import make_model

from densem.errors import ConfigError
from densem.inference import Runtime, torch_backend
from densem.networks import hardware


@pytest.fixture
def flags(monkeypatch):
    return lambda *names: monkeypatch.setattr(hardware, "_flags", lambda: frozenset(names))


@pytest.mark.parametrize(
    ("names", "precision"),
    [
        (("avx2",), "fp32"),
        (("avx2", "avx512_bf16"), "bf16"),
        (("avx2", "amx_bf16"), "bf16"),
        (("sse2",), "fp32"),
    ],
)
def test_auto_takes_bf16_where_the_processor_has_it(flags, names, precision):
    flags(*names)
    assert Runtime.choose("cpu") == Runtime("cpu", precision)


def test_what_is_asked_for_is_taken(flags):
    flags("sse2")
    assert Runtime.choose("cpu", "bf16").dtype == torch.bfloat16
    assert Runtime.choose("cpu", "fp32").dtype == torch.float32


def test_a_card_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError) as caught:
        Runtime.choose("cuda")
    assert str(caught.value) == "--device cuda: no usable NVIDIA card was found; give --device cpu"
    assert Runtime.choose("auto", "fp32").device == "cpu"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:", "cuda:-1", "cuda1", "cpu:0"])
def test_an_unknown_device_is_refused(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError) as caught:
        Runtime.choose(device, "fp32")
    assert str(caught.value) == f"--device {device}: expected auto, cpu, cuda or cuda:<n>"


def test_a_card_of_a_number_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Runtime.choose("cuda:1", "fp32").device == "cuda:1"
    with pytest.raises(ConfigError) as caught:
        Runtime.choose("cuda:9", "fp32")
    assert str(caught.value) == "--device cuda:9: expected one of the cards that are here, cuda:0, cuda:1"


def test_the_given_network_is_left_as_it_is():
    network = make_model("whole-family").network.train()
    before = copy.deepcopy(network.state_dict())
    ready = Runtime("cpu", "bf16").prepare(network).network
    assert network.training
    assert not ready.training
    assert all(
        torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in network.state_dict().items()
    )
    assert {p.dtype for p in ready.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in ready.parameters())


def test_what_decides_the_last_bit_is_described(flags):
    flags("avx2", "avx512f", "sse")
    described = Runtime("cpu", "fp32").describe()
    assert described == {
        "device": "cpu avx2+avx512f",
        "precision": "fp32",
        "backend": "torch",
        "slab": torch_backend.SLAB,
        "torch": str(torch.__version__),
    }
