"""Batch normalisation after training: statistics estimated anew, frozen, and folded into the convolutions."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from densem.errors import InputError
from densem.networks.layers import BatchNormalization, Convolution

Network = TypeVar("Network", bound=nn.Module)


def fold_normalization(network: Network) -> Network:
    """A copy for prediction, in eval mode, whose normalisations are part of its convolutions.

    With mean m, variance v, scale g and shift b of a channel, its weights become w g / sqrt(v + eps) and its
    bias (bias - m) g / sqrt(v + eps) + b. A network without normalisation is only copied.
    """
    folded = copy.deepcopy(network).eval()
    for m in folded.modules():
        if isinstance(m, Convolution) and m.normalization is not None:
            _fold(m.convolution, m.normalization)
            m.normalization = None
    return folded


def reestimate_normalization(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the running statistics by the plain mean over some batches; leaves the network in eval mode.

    Running averages lag behind weights that still move; about 100 patches with the final weights mend that.

    Args:
        network: changed in place; without batch normalisation nothing is run.
        batches: float (N, 1, Z, Y, X), as in training.

    Returns:
        The number of batches used.

    Raises:
        InputError: if there are no batches.
    """
    norms = [m for m in network.modules() if isinstance(m, BatchNormalization)]
    if not norms:
        network.eval()
        return 0
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    network.train()
    for part in network.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.eval()  # prediction drops nothing
    count = 0
    with torch.no_grad():
        for batch in batches:
            network(batch)
            count += 1
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    network.eval()
    if not count:
        raise InputError(
            "normalisation statistics: expected at least one batch to estimate them from, found none; "
            "give about 100 patches"
        )
    return count


@torch.no_grad()
def _fold(convolution: nn.Conv2d | nn.Conv3d, norm: BatchNormalization) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * gain
    if convolution.bias is not None:
        shift += convolution.bias.double() * gain
    weight = convolution.weight
    weight.mul_(gain.view(-1, *[1] * (weight.dim() - 1)).to(weight.dtype))
    convolution.bias = nn.Parameter(shift.to(weight.dtype))
