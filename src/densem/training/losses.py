"""Losses: weighted cross-entropy over labelled voxels, on every head of a network.

Computed in float32 on logits laid out voxel by voxel, which is a free view of channels-last memory.
The sum is divided by the sum of the weights, so patch size and share of labelled voxels do not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from densem.schema import UNLABELLED


class Batch(NamedTuple):
    """Training patches as tensors.

    image float32 (N, 1, Z, Y, X); labels uint8 (N, Z, Y, X), channels, 255 unlabelled;
    weights float32 (N, Z, Y, X).
    """

    image: Tensor
    labels: Tensor
    weights: Tensor


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy.

    Args:
        logits: (N, C, Z, Y, X), any float type.
        labels: uint8 (N, Z, Y, X), channels; 255 takes no part.
        weights: float32 (N, Z, Y, X), how much each voxel counts.

    Returns:
        A float32 scalar; 0 where nothing is labelled or all weights are 0.
    """
    table = logits.movedim(1, -1).reshape(-1, logits.shape[1]).float()
    target = labels.reshape(-1).long()
    voxelwise = F.cross_entropy(table, target, ignore_index=UNLABELLED, reduction="none")
    counted = weights.reshape(-1) * (target != UNLABELLED)
    return (voxelwise * counted).sum() / counted.sum().clamp_min(torch.finfo(torch.float32).tiny)


def middle(batch: Batch, outputs: Tensor) -> Batch:
    """The part of a batch that outputs (N, C, Z, Y, X) answer for."""
    inner = tuple(
        slice((n - m) // 2, (n - m) // 2 + m)
        for n, m in zip(batch.labels.shape[1:], outputs.shape[2:], strict=True)
    )
    return Batch(batch.image, batch.labels[:, *inner], batch.weights[:, *inner])


def loss_of(outputs: dict[str, Tensor], batch: Batch, auxiliary: float) -> Tensor:
    """Loss of the semantic head plus `auxiliary` times that of the auxiliary (2D) head, if there is one.

    Outputs that are smaller than the patch, of a network that does not pad, are those of its middle.
    """
    batch = middle(batch, outputs["semantic"])
    loss = cross_entropy(outputs["semantic"], batch.labels, batch.weights)
    if auxiliary and "auxiliary" in outputs:
        loss = loss + auxiliary * cross_entropy(outputs["auxiliary"], batch.labels, batch.weights)
    return loss
