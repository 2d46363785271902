"""What this machine trains on: device, precision, memory kept between steps, a quiet Lightning."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from densem.networks.hardware import has_bf16

KEPT_BYTES = 1 << 30  # between steps


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
        return cls(device, precision == "bfloat16" or (precision == "auto" and has_bf16(device)))

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
