"""Plain networks: densem's networks as plain PyTorch would run them, to be measured against.

Within `plain()` every layer is the eager 3D operation on tensors with channels first, as in the reference: 1x3x3
kernels of `conv3d`, `max_pool3d`, `conv_transpose3d`. Same weights, same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densem.networks import hybrid, layers


@contextmanager
def plain() -> Iterator[None]:
    """While active, the layers of the 2D-3D networks are the plain ones."""
    methods: list[tuple[Any, str, Any]] = [
        (layers.PlanarConvolution, "forward", _planar),
        (layers.VolumetricConvolution, "forward", _volumetric),
        (layers.UpSampling, "forward", _up),
        (layers.BatchNormalization, "forward", _normalize),
        (hybrid, "pool", lambda x: F.max_pool3d(x, (1, 2, 2))),
        (hybrid, "channels_last", lambda x: x),
        (hybrid, "concatenate", lambda *parts: torch.cat(parts, dim=1)),
        (hybrid, "probabilities", lambda x: x.softmax(dim=1)),
        (layers, "concatenate", lambda *parts: torch.cat(parts, dim=1)),
    ]
    with ExitStack() as stack:
        for owner, name, way in methods:
            stack.enter_context(mock.patch.object(owner, name, way))
        yield


def channels_first(network: nn.Module) -> nn.Module:
    """The same network with its weights in plain order."""
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    return network


def _planar(self: layers.PlanarConvolution, x: Tensor) -> Tensor:
    side = self.kernel_size[0] // 2
    return F.conv3d(x, self.weight[:, :, None], self.bias, padding=(0, side, side))


def _volumetric(self: layers.VolumetricConvolution, x: Tensor) -> Tensor:
    return F.conv3d(x, self.weight, self.bias, padding=1)


def _up(self: layers.UpSampling, x: Tensor) -> Tensor:
    return F.conv_transpose3d(x, self.weight[:, :, None], self.bias, stride=(1, 2, 2))


def _normalize(self: layers.BatchNormalization, x: Tensor) -> Tensor:
    return F.batch_norm(
        x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
    )
