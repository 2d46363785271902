import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from densem.networks import hardware
from densem.networks.hardware import M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_memory


@pytest.fixture
def flags(monkeypatch):
    return lambda *names: monkeypatch.setattr(hardware, "_flags", lambda: frozenset(names))


@pytest.fixture
def told(monkeypatch):
    """What the C library is told, on a machine with 300 bytes free whose peak was 100."""
    said = {}
    library = SimpleNamespace(mallopt=lambda option, value: said.setdefault(option, value) is not None)
    monkeypatch.setattr(hardware.sys, "platform", "linux")
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(hardware.psutil, "virtual_memory", lambda: SimpleNamespace(available=300))
    monkeypatch.setattr(hardware, "_peak", lambda: 100)
    return said


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("avx2", "avx512f"), False), (("avx2", "avx512_bf16"), True), (("amx_bf16",), True)],
)
@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_bf16_is_read_off_the_flags_of_the_processor(flags, device, names, expected):
    flags(*names)
    assert hardware.has_bf16(device) is expected


@pytest.mark.parametrize("expected", [True, False])
def test_without_flags_torch_is_asked_for_bf16(flags, monkeypatch, expected):
    flags()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: expected, raising=False)
    assert hardware.has_bf16("cpu") is expected


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda", 0)])
def test_a_card_that_only_emulates_bf16_has_none(monkeypatch, device):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation)
    )
    assert hardware.has_bf16(device) is False
    assert asked == [False]


def test_the_processor_is_named_by_what_decides_the_last_bit(flags):
    flags("sse2", "avx512f", "avx2")
    assert hardware.processor() == "cpu avx2+avx512f"
    assert not hardware.has_amx()
    flags("amx_bf16", "avx2")
    assert hardware.processor() == "cpu amx_bf16+avx2"
    assert hardware.has_amx()


def test_a_processor_that_lists_no_flags_is_named_by_torch(flags):
    flags()
    assert hardware.processor() == f"cpu {torch.backends.cpu.get_cpu_capability()}"


def test_all_memory_is_kept_where_there_is_plenty(told):
    assert keep_memory() is True
    assert told == {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}


def test_no_memory_is_kept_where_it_is_scarce(told):
    assert keep_memory(2) is False
    assert told == {}


def test_the_memory_that_a_process_may_still_have_is_compared(told):
    assert keep_memory(1, free=299) is False
    assert told == {}
    assert keep_memory(2, free=600) is True


def test_memory_up_to_a_limit_is_kept_without_comparing(told):
    assert keep_memory(times=0, limit=1 << 30) is True
    assert told == {M_MMAP_THRESHOLD: 1 << 30, M_TRIM_THRESHOLD: 1 << 30}


def test_a_refused_threshold_does_not_keep_the_other_from_being_set(told, monkeypatch):
    said = []
    library = SimpleNamespace(mallopt=lambda option, value: said.append(option) or option == M_TRIM_THRESHOLD)
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name: library)
    assert keep_memory(0, 1 << 30) is False
    assert said == [M_MMAP_THRESHOLD, M_TRIM_THRESHOLD]


def test_other_c_libraries_are_left_alone(told, monkeypatch):
    def missing(name):
        raise OSError("no such library")

    monkeypatch.setattr(hardware.ctypes, "CDLL", missing)
    assert keep_memory() is False
    monkeypatch.setattr(hardware.sys, "platform", "darwin")
    assert keep_memory(0) is False


KEEP_AND_RETURN = """
import ctypes, psutil
from densem.networks.hardware import keep_memory, return_memory
keep_memory(times=0)
library = ctypes.CDLL("libc.so.6")
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def held(): return psutil.Process().memory_info().rss / 2**20
places = [library.malloc(2**20) for _ in range(200)]
for place in places: ctypes.memset(place, 1, 2**20)
for place in places[:-1]: library.free(place)  # the last one keeps the heap from shrinking by itself
before = held()
return_memory()
print(before - held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone is told to keep memory")
def test_kept_memory_is_returned():
    done = subprocess.run([sys.executable, "-c", KEEP_AND_RETURN], capture_output=True, text=True, check=True)
    assert 180 < float(done.stdout) < 220


def test_where_there_is_no_such_library_nothing_is_returned(monkeypatch):
    def missing(name):
        raise OSError("no such library")

    monkeypatch.setattr(hardware.ctypes, "CDLL", missing)
    hardware.return_memory()
