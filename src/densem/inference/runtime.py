"""Runtime: what this machine can do, and a network made ready for it.

Precision `auto` is bf16 where the processor multiplies it natively or on a graphics card that does,
else fp32. A ready network is a copy: normalisation folded into the convolutions, in eval mode.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from densem import networks
from densem.blocks import Triple
from densem.errors import ConfigError
from densem.networks.hardware import has_bf16, processor

SLAB = 300_000
"""Voxels of a slab on a processor: enough that calls cost nothing beside arithmetic, few for the memory."""
SLAB_ON_CARD = 4_000_000
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

    def slab(self, window: Triple) -> int:
        """Slices of a window (Z, Y, X) that are shown to a network at a time."""
        room = SLAB_ON_CARD if self.device.startswith("cuda") else SLAB
        return max(1, min(window[0], room // (window[1] * window[2])))

    def describe(self) -> dict[str, Any]:
        """All that decides the last bit of a result beside model and tile, as plain values."""
        kind = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else processor()
        return {"device": kind, "precision": self.precision, "torch": str(torch.__version__)}

    def prepare(self, network: nn.Module) -> nn.Module:
        """A copy of the network for prediction here; the given one is left as it is."""
        ready = networks.fold_normalization(copy.deepcopy(network).cpu()).eval()
        return ready.requires_grad_(False).to(device=self.device, dtype=self.dtype)
