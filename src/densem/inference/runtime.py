"""Runtime: what this machine can do, and a network made ready for it.

Precision `auto` is bf16 where the processor multiplies it natively or on a graphics card that does,
else fp32. A ready network is a copy: normalisation folded into the convolutions, in eval mode.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from torch import nn

from densem import networks
from densem.errors import ConfigError

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class Runtime:
    """On what, and in which number format, networks are run.

    Attributes:
        device: `cpu`, `cuda` or `cuda:<n>`.
        precision: `bf16` or `fp32`, settled.
    """

    device: str
    precision: Literal["bf16", "fp32"]

    @classmethod
    def choose(cls, device: str = "auto", precision: Precision = "auto") -> Runtime:
        """Settle what was left to `auto`.

        Raises:
            ConfigError: for a device that this machine does not have.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.split(":")[0] not in ("cpu", "cuda"):
            raise ConfigError(f"--device {device}: expected auto, cpu, cuda or cuda:<n>")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"--device {device}: no usable NVIDIA card was found; give --device cpu")
        if precision == "auto":
            precision = "bf16" if has_bf16(device) else "fp32"
        return cls(device, precision)

    @property
    def dtype(self) -> torch.dtype:
        """The number format as torch names it."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def describe(self) -> dict[str, Any]:
        """All that decides the last bit of a result beside model and tile, as plain values."""
        kind = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else processor()
        return {"device": kind, "precision": self.precision, "torch": str(torch.__version__)}

    def prepare(self, network: nn.Module) -> nn.Module:
        """A copy of the network for prediction here; the given one is left as it is."""
        ready = networks.fold_normalization(copy.deepcopy(network).cpu()).eval()
        return ready.requires_grad_(False).to(device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Doctor:
    """Facts about this machine for a person to read."""

    torch: str
    processor: str
    threads: int
    bf16: bool
    cuda: str | None

    @classmethod
    def look(cls) -> Doctor:
        """Ask the system."""
        card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
        device = "cuda" if card else "cpu"
        return cls(str(torch.__version__), processor(), torch.get_num_threads(), has_bf16(device), card)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def has_bf16(device: str) -> bool:
    """Whether bf16 is multiplied natively there."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool({"avx512_bf16", "amx_bf16"} & _flags())


def processor() -> str:
    """Instruction sets of the processor that change the last bit of a convolution, as one word."""
    known = sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & _flags())
    return "cpu " + ("+".join(known) or str(torch.backends.cpu.get_cpu_capability()))


@functools.cache
def _flags() -> frozenset[str]:
    """Feature flags of the processor; empty where the system does not list them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def keep_memory(times: int = 1) -> bool:
    """Tell the C library to keep freed memory for the next tile, where there is plenty of memory.

    To be called after a first tile: its peak is what is compared with the free memory. Large tensors are
    otherwise returned to the system and zeroed again for every layer: about a fifth of the time. Kept
    memory is up to twice as much. Linux with glibc only.

    Args:
        times: how many tiles will be in work at the same time for each one until now.

    Returns:
        Whether it was told so.
    """
    if not sys.platform.startswith("linux"):
        return False
    import resource

    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if psutil.virtual_memory().available < 3 * times * peak:
        return False
    trim_threshold, mmap_max = -1, -4
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(mmap_max, 0) and library.mallopt(trim_threshold, 2**31 - 1))
    except (OSError, AttributeError):
        return False
