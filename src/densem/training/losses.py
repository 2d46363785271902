"""Losses: weighted cross-entropy over labelled voxels, on every head of a network; soft targets beside it.

Computed in float32 on logits laid out voxel by voxel, which is a free view of channels-last memory.
The sum is divided by the sum of the weights, so patch size and share of labelled voxels do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from densem.blocks import Triple
from densem.schema import UNLABELLED
from densem.training.affinities import affinity_loss, affinity_targets

NO_SOFT = torch.zeros(0, dtype=torch.uint8)
NO_OBJECTS = torch.zeros(0, dtype=torch.int32)


class Batch(NamedTuple):
    """Training patches as tensors.

    image float32 (N, 1, Z, Y, X); labels uint8 (N, Z, Y, X), channels, 255 unlabelled;
    weights float32 (N, Z, Y, X); soft uint8 (N, C, Z, Y, X), probabilities in 255ths, or (N, 0) without any;
    objects int32 (N, Z, Y, X), ids within a patch, or (N, 0) where no affinities are learnt.
    """

    image: Tensor
    labels: Tensor
    weights: Tensor
    soft: Tensor = NO_SOFT
    objects: Tensor = NO_OBJECTS


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
    """The part of a batch that outputs (N, C, Z, Y, X) answer for; its objects stay whole."""
    inner = _inner(batch.labels, outputs)
    soft = batch.soft[:, :, *inner] if batch.soft.numel() else batch.soft
    return Batch(batch.image, batch.labels[:, *inner], batch.weights[:, *inner], soft, batch.objects)


def _inner(whole: Tensor, outputs: Tensor) -> tuple[slice, ...]:
    """Where in a patch (N, Z, Y, X) the outputs (N, C, Z, Y, X) lie: in its middle."""
    pairs = zip(whole.shape[1:], outputs.shape[2:], strict=True)
    return tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in pairs)


def loss_with_affinities(
    outputs: dict[str, Tensor],
    batch: Batch,
    offsets: Sequence[Triple],
    share: float,
    loss_of_classes: Callable[[dict[str, Tensor]], Tensor],
) -> Tensor:
    """Loss of the classes plus `share` times that of the affinities.

    Args:
        outputs: logits by head; the last K channels of `semantic` are those of the affinities.
        batch: what they are compared with; its objects are those of the whole patch.
        offsets: of the K affinities; none: the loss of the classes alone.
        share: of the affinities.
        loss_of_classes: given the outputs with the logits of classes alone.
    """
    if not offsets:
        return loss_of_classes(outputs)
    logits = outputs["semantic"]
    classes, pairs = logits[:, : -len(offsets)], logits[:, -len(offsets) :]
    targets = affinity_targets(batch.objects, offsets)[:, :, *_inner(batch.objects, logits)]
    heads = {**outputs, "semantic": classes}
    return loss_of_classes(heads) + share * affinity_loss(pairs, targets)


def divergence(logits: Tensor, soft: Tensor, class_weights: Tensor, temperature: float = 1.0) -> Tensor:
    """Weighted mean divergence of a network's class probabilities from those of a teacher, times T^2.

    KL(q || p) with q and p softened alike: q ~ soft^(1/T), p = softmax(logits / T). The factor T^2 keeps the
    size of its gradients. A voxel weighs what its classes weigh in the teacher's eyes.
    Source: Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015.

    Args:
        logits: (N, C, Z, Y, X), any float type.
        soft: uint8 (N, C, Z, Y, X), probabilities in 255ths.
        class_weights: float32 (C,).
        temperature: T; larger ones let small probabilities speak.

    Returns:
        A float32 scalar.
    """
    classes = logits.shape[1]
    told = soft.movedim(1, -1).reshape(-1, classes).float()
    told = told / told.sum(1, keepdim=True).clamp_min(1)
    weights = told @ class_weights.to(told)
    softened = told.clamp_min(0.5 / 255).pow(1 / temperature) if temperature != 1 else told
    softened = softened / softened.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    table = logits.movedim(1, -1).reshape(-1, classes).float()
    said = F.log_softmax(table / temperature, dim=1)
    voxelwise = (torch.xlogy(softened, softened) - softened * said).sum(1)
    total = weights.sum().clamp_min(torch.finfo(torch.float32).tiny)
    return temperature**2 * (voxelwise * weights).sum() / total


def loss_of(
    outputs: dict[str, Tensor],
    batch: Batch,
    auxiliary: float,
    soft: float = 0.0,
    temperature: float = 1.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Loss of the semantic head plus `auxiliary` times that of the auxiliary (2D) head, if there is one.

    Args:
        outputs: logits by head.
        batch: what they are compared with.
        auxiliary: share of the auxiliary head.
        soft: share of the divergence from the batch's soft targets, if it has any; the rest is cross-entropy.
        temperature: of that divergence.
        class_weights: float32 (C,), for that divergence; all classes alike without them.

    Outputs that are smaller than the patch, of a network that does not pad, are those of its middle.
    """
    batch = middle(batch, outputs["semantic"])

    def of_head(logits: Tensor) -> Tensor:
        hard = cross_entropy(logits, batch.labels, batch.weights)
        if not soft or batch.soft.numel() == 0:
            return hard
        weights = logits.new_ones(logits.shape[1]) if class_weights is None else class_weights
        return (1 - soft) * hard + soft * divergence(logits, batch.soft, weights, temperature)

    loss = of_head(outputs["semantic"])
    if auxiliary and "auxiliary" in outputs:
        loss = loss + auxiliary * of_head(outputs["auxiliary"])
    return loss
