"""Shown: a window as networks are shown it, normalised, in their number format, as much as is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from densem.blocks import Triple, triple

Normalize = Callable[[np.ndarray], np.ndarray]


def as_it_is(image: np.ndarray) -> np.ndarray:
    """Values that are the network's input already."""
    return image


@dataclass(frozen=True)
class Shown:
    """A window.

    Attributes:
        image: grey values (Z, Y, X).
        normalize: makes the float32 input of some slices of it.
        device: where the network is.
        dtype: what it takes.
    """

    image: np.ndarray
    normalize: Normalize = as_it_is
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    @property
    def shape(self) -> Triple:
        """Of the window."""
        return triple(self.image.shape)

    def mirrored(self, axes: tuple[int, ...]) -> Shown:
        """The same mirrored along some axes of -3, -2, -1."""
        return replace(self, image=np.flip(self.image, axes)) if axes else self

    def slices(self, start: int, stop: int) -> Tensor:
        """(1, 1, n, Y, X) from slice `start` to `stop`."""
        values = np.ascontiguousarray(self.normalize(self.image[start:stop]), np.float32)
        return torch.from_numpy(values)[None, None].to(self.device, self.dtype)
