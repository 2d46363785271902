import math

import pytest
import torch
from torch.nn import functional as F

from densem.training.losses import Batch, cross_entropy, divergence, loss_of, taught_loss

SHAPE = (2, 3, 2, 4, 5)  # N, C, Z, Y, X


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(SHAPE, generator=generator, requires_grad=True)
    soft = torch.softmax(2 * torch.randn(SHAPE, generator=generator), 1)
    return logits, (255 * soft).round().to(torch.uint8)


def rows(array):
    return array.movedim(1, -1).reshape(-1, array.shape[1]).float()


def batch_of(logits, soft, labels=None, weights=None):
    """A batch; nothing is labelled without labels."""
    shape = (logits.shape[0], *logits.shape[2:])
    labels = torch.full(shape, 255, dtype=torch.uint8) if labels is None else labels
    weights = (labels != 255).float() if weights is None else weights
    return Batch(torch.zeros(shape)[:, None], labels, weights, soft)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_that_of_torch(drawn, temperature):
    logits, soft = drawn
    told = rows(soft) / rows(soft).sum(1, keepdim=True)
    softer = told.double().clamp_min(0.5 / 255).pow(1 / temperature) if temperature != 1 else told.double()
    softer = softer / softer.sum(1, keepdim=True)
    said = F.log_softmax(rows(logits).double() / temperature, 1)
    expected = temperature**2 * F.kl_div(said, softer, reduction="none").sum(1)
    found = divergence(rows(logits), told, temperature)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    # Where nothing is labelled and all classes weigh the same, the loss is the plain mean.
    alone = taught_loss(logits, batch_of(logits, soft), 0.4, temperature)
    assert alone.item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_it_is_zero_where_both_agree():
    soft = torch.tensor([51, 102, 102], dtype=torch.uint8).reshape(1, 3, 1, 1, 1)
    told = rows(soft) / 255
    for temperature in (1.0, 2.0):
        assert divergence(torch.log(told), told, temperature).item() == pytest.approx(0, abs=1e-6)


def test_voxels_without_a_label_weigh_what_their_classes_weigh():
    """Two voxels, sure of different classes; the network is undecided about both, differently."""
    soft = torch.zeros(1, 2, 1, 1, 2, dtype=torch.uint8)
    soft[0, 0, 0, 0, 0] = soft[0, 1, 0, 0, 1] = 255
    logits = torch.zeros(1, 2, 1, 1, 2)
    logits[0, :, 0, 0, 1] = torch.tensor([math.log(3.0), 0.0])  # p = 3/4, 1/4
    first, second = math.log(2), math.log(4)
    loss = taught_loss(logits, batch_of(logits, soft), 0.7, class_weights=torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx((first + 3 * second) / 4)


def test_labelled_voxels_weigh_what_their_labels_weigh():
    """The teacher takes both voxels for class 0; the label of the second says 1, which weighs 5."""
    soft = torch.zeros(1, 2, 1, 1, 2, dtype=torch.uint8)
    soft[0, 0] = 255
    logits = torch.zeros(1, 2, 1, 1, 2)
    logits[0, :, 0, 0, 1] = torch.tensor([math.log(3.0), 0.0])  # p = 3/4, 1/4
    labels = torch.tensor([0, 1], dtype=torch.uint8).reshape(1, 1, 1, 2)
    weights = torch.tensor([2.0, 5.0]).reshape(1, 1, 1, 2)
    loss = taught_loss(
        logits, batch_of(logits, soft, labels, weights), 0.7, class_weights=torch.tensor([1.0, 9.0])
    )
    second = 0.3 * math.log(4) + 0.7 * math.log(4 / 3)
    assert loss.item() == pytest.approx((2 * math.log(2) + 5 * second) / 7)


def test_the_mixture(drawn):
    logits, soft = drawn
    labels = torch.randint(0, 3, (2, 2, 4, 5), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    batch = batch_of(logits, soft, labels)
    hard = cross_entropy(logits, labels, batch.weights)
    told = divergence(rows(logits), rows(soft) / rows(soft).sum(1, keepdim=True), 2.0).mean()
    outputs = {"semantic": logits, "auxiliary": logits}
    found = loss_of(outputs, batch, 0.5, soft=0.7, temperature=2.0)
    assert found.item() == pytest.approx(1.5 * (0.3 * hard + 0.7 * told).item(), rel=1e-5)
    without = loss_of(outputs, Batch(*batch[:3]), 0.5, soft=0.7)
    assert without.item() == pytest.approx(1.5 * hard.item(), rel=1e-6)


def test_an_unlabelled_patch_still_teaches(drawn):
    logits, soft = drawn
    labels = torch.full((2, 2, 4, 5), 255, dtype=torch.uint8)
    batch = Batch(torch.zeros(2, 1, 2, 4, 5), labels, torch.zeros(2, 2, 4, 5), soft)
    loss = loss_of({"semantic": logits}, batch, 0.0, soft=0.7)
    loss.backward()
    assert loss.item() > 0
    assert logits.grad.abs().min() > 0
