"""Runtime: how the forward pass of a model is executed on this machine, and a network made ready for it.

Precision `auto` is bf16 where the processor multiplies it natively or on a graphics card that does,
else fp32. A ready network is a copy: normalisation folded into the convolutions, in eval mode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from densem.errors import ConfigError
from densem.inference import openvino_backend
from densem.inference.int8_form import Int8Form
from densem.inference.openvino_backend import OpenVinoNetwork
from densem.inference.shown import Shown
from densem.inference.torch_backend import TorchNetwork, room
from densem.networks import Geometry
from densem.networks.hardware import has_bf16, processor
from densem.networks.streaming import Ends

Backend = Literal["torch", "openvino", "openvino-int8"]
Precision = Literal["auto", "bf16", "fp32"]
ENTRIES = ("device", "precision", "backend", "slab", "torch", "openvino")
"""What a runtime may write into a plan."""


class Ready(Protocol):
    """A network made ready for a runtime."""

    @property
    def geometry(self) -> Geometry:
        """What a runner must know of it."""

    @property
    def streams(self) -> bool:
        """Whether a window may be cut along z on the way."""

    @property
    def start_up(self) -> tuple[float, float]:
        """Seconds that were spent once before its first pass, and for each shape of what it is run on."""

    def whole(self, x: Tensor) -> Tensor:
        """Logits (C, Z, Y, X) of a window (1, 1, Z, Y, X)."""

    def slabs(self, shown: Shown, ends: Ends) -> Iterator[Tensor]:
        """Logits (C, n, Y', X') of a window (Z, Y, X), for the core in y and x.

        In all Z slices, less the context at either end in z that is not an end of the volume.
        """

    def run_on(self, depth: int, side: int, zeros: tuple[bool, bool]) -> int:
        """Slices it is run on for a window of `depth` slices with `side` voxels each."""


@dataclass(frozen=True)
class Runtime:
    """By what, on what, and in which number format networks are run.

    Attributes:
        device: `cpu`, `cuda` or `cuda:<n>`.
        precision: `bf16` or `fp32`, settled; with `openvino-int8`, of what is not in 8-bit integers.
        backend: `torch`, or on a processor `openvino` or `openvino-int8`.
    """

    device: str
    precision: Literal["bf16", "fp32"]
    backend: Backend = "torch"

    @classmethod
    def choose(
        cls, device: str = "auto", precision: Precision = "auto", backend: Backend = "torch"
    ) -> Runtime:
        """Settle what was left to `auto`.

        Raises:
            ConfigError: for a device or a backend that this machine does not have.
        """
        if backend != "torch":
            openvino_backend.version(backend)
            device = _processor_only(device, backend)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        _check_device(device)
        if precision == "auto":
            precision = "bf16" if has_bf16(device) else "fp32"
        return cls(device, precision, backend)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the input, as torch names it; OpenVINO is given float32."""
        return torch.bfloat16 if (self.backend, self.precision) == ("torch", "bf16") else torch.float32

    def describe(self) -> dict[str, Any]:
        """All that decides the last bit of a result beside model and tile, as plain values."""
        kind = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else processor()
        versions = {"torch": str(torch.__version__)}
        if self.backend != "torch":
            versions["openvino"] = openvino_backend.version()
        slab = room(self.device) if self.backend == "torch" else openvino_backend.ROOM
        settled = {"precision": self.precision, "backend": self.backend, "slab": slab}
        return {"device": kind, **settled, **versions}

    def prepare(self, network: nn.Module, int8: Int8Form | None = None) -> Ready:
        """A copy of the network for prediction here; the given one is left as it is.

        Args:
            network: of a model.
            int8: the model's form in 8-bit integers, which `openvino-int8` runs in its place.
        """
        if self.backend != "torch":
            assert (self.backend == "openvino-int8") == (int8 is not None)
            return OpenVinoNetwork(network, self.precision, int8)
        return TorchNetwork.of(network, self.device, self.dtype)


def _check_device(device: str) -> None:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ConfigError(f"--device {device}: expected auto, cpu, cuda or cuda:<n>")
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: no usable NVIDIA card was found; give --device cpu")
    number, there = device.partition(":")[2], [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    if number and int(number) >= len(there):
        raise ConfigError(f"--device {device}: expected one of the cards that are here, {', '.join(there)}")


def _processor_only(device: str, backend: Backend) -> str:
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"--runtime {backend} --device {device}: OpenVINO is used on processors alone; "
            "give --device cpu, or --runtime torch"
        )
    return "cpu"
