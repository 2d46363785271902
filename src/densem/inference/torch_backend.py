"""PyTorch as a runtime: channels last throughout, normalisation folded, windows shown slab by slab."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from densem import networks
from densem.inference.shown import Shown
from densem.networks import Geometry
from densem.networks.streaming import Ends, Stream

SLAB = 240_000
"""Voxels of a slab on a processor: enough that calls cost nothing beside arithmetic, few for the memory."""
SLAB_ON_CARD = 4_000_000


def room(device: str) -> int:
    """Voxels of a slab on a device."""
    return SLAB_ON_CARD if device.startswith("cuda") else SLAB


@dataclass(frozen=True)
class TorchNetwork:
    """A network made ready.

    Attributes:
        network: a copy with its normalisation folded, in eval mode, on its device.
    """

    network: nn.Module

    @classmethod
    def of(cls, network: nn.Module, device: str, dtype: torch.dtype) -> TorchNetwork:
        """Make a copy ready; the given one is left as it is."""
        ready = networks.fold_normalization(copy.deepcopy(network).cpu()).eval()
        return cls(ready.requires_grad_(False).to(device=device, dtype=dtype))

    @property
    def streams(self) -> bool:
        """Whether it can be shown a window slab by slab."""
        return networks.streams(self.network)

    @property
    def geometry(self) -> Geometry:
        """What a runner must know of it."""
        found = self.network.geometry
        assert isinstance(found, Geometry)
        return found

    @property
    def start_up(self) -> tuple[float, float]:
        """None: it is ready at once, for any shape."""
        return 0.0, 0.0

    def whole(self, x: Tensor) -> Tensor:
        """Logits (C, Z, Y, X) of a window (1, 1, Z, Y, X)."""
        logits: Tensor = self.network(x)["semantic"][0]
        return logits

    def slabs(self, shown: Shown, ends: Ends) -> Iterator[Tensor]:
        """Logits (C, n, Y', X') of a window (Z, Y, X), for the core in y and x.

        In all Z slices, less the context at either end in z that is not an end of the volume.
        """
        depth, n = self.depth(shown), shown.shape[0]
        slabs = (shown.slices(z, min(n, z + depth)) for z in range(0, n, depth))
        for outputs in Stream(ends).outputs(self.network, slabs):
            yield outputs["semantic"][0]

    def run_on(self, depth: int, side: int, zeros: tuple[bool, bool]) -> int:
        """Slices it is run on for a window of so many slices: each once."""
        del side, zeros
        return depth

    @staticmethod
    def depth(shown: Shown) -> int:
        """Slices of a window that are shown at a time."""
        z, y, x = shown.shape
        return max(1, min(z, room(shown.device) // (y * x)))
