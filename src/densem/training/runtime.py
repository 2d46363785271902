"""What this machine trains on: device, precision, memory kept between steps, a quiet Lightning."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30


@dataclass(frozen=True)
class Runtime:
    """Device and precision of a run."""

    device: torch.device
    bfloat16: bool

    @classmethod
    def choose(cls, precision: str) -> Runtime:
        """The first CUDA device if there is one, else the processor.

        Args:
            precision: float32, bfloat16, or auto: bfloat16 where the hardware computes with it.
        """
        device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        return cls(device, precision == "bfloat16" or (precision == "auto" and has_bfloat16(device)))

    @property
    def lightning_precision(self) -> Literal["bf16-mixed", "32-true"]:
        """As Lightning calls it."""
        return "bf16-mixed" if self.bfloat16 else "32-true"

    @property
    def dtype(self) -> torch.dtype:
        """In which matrices are multiplied."""
        return torch.bfloat16 if self.bfloat16 else torch.float32

    def autocast(self) -> torch.autocast:
        """The context in which a network is run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16 itself; emulation would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(probe() for probe in probes if probe is not None)


def keep_memory() -> None:
    """Have the C library keep freed memory instead of giving it back after each step (Linux only)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL("libc.so.6")
            library.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
            library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's remarks on devices, workers and itself."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
