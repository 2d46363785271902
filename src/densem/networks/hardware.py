"""Hardware: what the processor or card computes natively, and memory kept between passes.

Facts about a machine that decide how networks are run on it, for training and prediction alike.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4


def has_bf16(device: str | torch.device) -> bool:
    """Whether bf16 is multiplied natively there; emulation would be slower than fp32."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = _flags()
    return bool({"avx512_bf16", "amx_bf16"} & flags) if flags else _torch_finds_bf16()


def processor() -> str:
    """Instruction sets of the processor that change the last bit of a convolution, as one word."""
    known = sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & _flags())
    return "cpu " + ("+".join(known) or str(torch.backends.cpu.get_cpu_capability()))


def has_amx() -> bool:
    """Whether the processor multiplies whole matrices (AMX)."""
    return "amx_bf16" in _flags()


@functools.cache
def _flags() -> frozenset[str]:
    """Feature flags of the processor; empty where the system does not list them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def _torch_finds_bf16() -> bool:
    """Torch's own answer, for systems that do not list flags; it is not part of torch's public face."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    probes = (getattr(torch.cpu, name, None) for name in names)
    return any(probe() for probe in probes if probe is not None)


def keep_memory(times: int = 1, limit: int | None = None, free: int | None = None) -> bool:
    """Tell the C library to keep freed memory for the next pass, where there is plenty of memory.

    Large tensors are otherwise returned to the system and zeroed again for every layer: about a fifth of
    the time. Kept memory is up to twice as much. Linux with glibc only.

    Args:
        times: how many passes will be in work at the same time for each one until now. To be called after
            a first pass: its peak is what is compared with the free memory. 0: nothing is compared.
        limit: bytes; larger tensors are returned at once, and no more than this is kept. None: all is kept.
        free: bytes that may still be had, where a container or a scheduler gives less than the machine has.

    Returns:
        Whether it was told so.
    """
    there = psutil.virtual_memory().available if free is None else free
    if not sys.platform.startswith("linux") or there < 3 * times * _peak():
        return False
    if limit is None:
        options = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
    else:
        options = {M_MMAP_THRESHOLD: limit, M_TRIM_THRESHOLD: limit}
    try:
        library = ctypes.CDLL("libc.so.6")
        # Some versions refuse a high threshold for mapping and still keep what was not mapped.
        answers = [library.mallopt(option, value) for option, value in options.items()]
    except (OSError, AttributeError):
        return False
    return all(answers)


def return_memory() -> None:
    """Give the system back what the C library kept and nobody uses, for what comes next has other sizes.

    Kept memory of one size serves no larger one: without this a process grows with every new size. Takes a
    twentieth of a second for half a gigabyte. Linux with glibc only.
    """
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _peak() -> int:
    """Bytes of memory this process held at most."""
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
