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
    target = labels.reshape(-1).long()
    voxelwise = F.cross_entropy(_voxels(logits), target, ignore_index=UNLABELLED, reduction="none")
    return _mean(voxelwise, weights.reshape(-1) * (target != UNLABELLED))


def _voxels(logits: Tensor) -> Tensor:
    """(N, C, Z, Y, X) as float32, a row a voxel."""
    return logits.movedim(1, -1).reshape(-1, logits.shape[1]).float()


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)


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


def divergence(logits: Tensor, told: Tensor, temperature: float = 1.0) -> Tensor:
    """Divergence of a network's class probabilities from those of a teacher, times T^2, of every voxel.

    KL(q || p) with q and p softened alike: q ~ told^(1/T), p = softmax(logits / T). The factor T^2 keeps the
    size of its gradients.
    Source: Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015.

    Args:
        logits: float32 (V, C).
        told: float32 (V, C), probabilities, kept in 255ths: with T above 1 those below 1/510 count as that.
        temperature: T; larger ones let small probabilities speak.

    Returns:
        float32 (V,).
    """
    softened = told.clamp_min(0.5 / 255).pow(1 / temperature) if temperature != 1 else told
    softened = softened / softened.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    said = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * (torch.xlogy(softened, softened) - softened * said).sum(1)


def taught_loss(
    logits: Tensor, batch: Batch, soft: float, temperature: float = 1.0, class_weights: Tensor | None = None
) -> Tensor:
    """Weighted mean of what a network is told by labels and by a teacher.

    A labelled voxel counts as it does without a teacher, and its loss is the cross-entropy and the divergence
    in shares of 1 - soft and soft. One without a label learns from the teacher alone, and counts what its
    classes count in the teacher's eyes.

    Args:
        logits: (N, C, Z, Y, X), any float type.
        batch: labels, weights and soft targets.
        soft: share of the teacher where there is a label.
        temperature: of the divergence.
        class_weights: float32 (C,); all classes alike without them.
    """
    rows, target = _voxels(logits), batch.labels.reshape(-1).long()
    told = _voxels(batch.soft)
    told = told / told.sum(1, keepdim=True).clamp_min(1)
    labelled = target != UNLABELLED
    expected = told.sum(1) if class_weights is None else (told * class_weights.to(told)).sum(1)
    weights = torch.where(labelled, batch.weights.reshape(-1), expected)
    share = torch.where(labelled, soft, 1.0)
    hard = F.cross_entropy(rows, target, ignore_index=UNLABELLED, reduction="none")
    return _mean((1 - share) * hard + share * divergence(rows, told, temperature), weights)


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
        soft: share of the batch's soft targets, if it has any, where there is a label.
        temperature: of these targets.
        class_weights: float32 (C,), of voxels without a label; all classes alike without them.

    Outputs that are smaller than the patch, of a network that does not pad, are those of its middle.
    """
    batch = middle(batch, outputs["semantic"])

    def of_head(logits: Tensor) -> Tensor:
        if not soft or batch.soft.numel() == 0:
            return cross_entropy(logits, batch.labels, batch.weights)
        return taught_loss(logits, batch, soft, temperature, class_weights)

    loss = of_head(outputs["semantic"])
    if auxiliary and "auxiliary" in outputs:
        loss = loss + auxiliary * of_head(outputs["auxiliary"])
    return loss
