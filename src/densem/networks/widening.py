"""Widening: further output channels for any network, by a wider last layer.

The channels that were there keep their weights, and what leads to the last layer is the same: the classes
come out as without it. The new channels follow behind those of the classes in the output `semantic`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densem.networks.deepvess import DeepVess
from densem.networks.hybrid import Hybrid2D3D
from densem.networks.unet import UNet2DValid


def widen(network: nn.Module, extra: int) -> nn.Module:
    """Give a freshly made network `extra` more output channels; changed in place.

    Args:
        network: one of the table, with logits (N, n_classes, Z, Y, X).
        extra: number of new channels, with Glorot's variance and biases of zero.

    Returns:
        The same network, with logits (N, n_classes + extra, Z, Y, X).
    """
    layer = last_layer(network)
    classes: int = network.config.n_classes  # type: ignore[union-attr, assignment]
    rows = extra * (layer.out_channels // classes)
    layer.weight = nn.Parameter(_with_rows(layer.weight, rows))
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.cat([layer.bias.detach(), layer.bias.new_zeros(rows)]))
    layer.out_channels += rows
    return network


def last_layer(network: nn.Module) -> nn.Conv2d | nn.Conv3d:
    """The convolution whose output channels are the logits."""
    if isinstance(network, UNet2DValid):
        network = network.inner
    if isinstance(network, Hybrid2D3D):
        layer: nn.Module | None = network.head_3d or network.head_2d
    elif isinstance(network, DeepVess):
        layer = network.second
    else:
        layer = network.get_submodule("head")
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    return layer


def _with_rows(weight: Tensor, rows: int) -> Tensor:
    """Weights (f, c, ...) with so many output channels more, laid out in memory as before."""
    new = torch.empty_like(weight[:1].expand(rows, *weight.shape[1:]), memory_format=torch.contiguous_format)
    nn.init.kaiming_normal_(new, nonlinearity="linear")
    found = torch.cat([weight.detach(), new])
    planar = torch.channels_last if weight.dim() == 4 else torch.channels_last_3d
    return found.contiguous(memory_format=planar if weight.is_contiguous(memory_format=planar) else
                            torch.contiguous_format)  # fmt: skip
