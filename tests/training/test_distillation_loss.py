import math

import pytest
import torch
from torch.nn import functional as F

from densem.training.losses import Batch, cross_entropy, divergence, loss_of

SHAPE = (2, 3, 2, 4, 5)  # N, C, Z, Y, X


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(SHAPE, generator=generator, requires_grad=True)
    soft = torch.softmax(2 * torch.randn(SHAPE, generator=generator), 1)
    return logits, (255 * soft).round().to(torch.uint8)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_that_of_torch(drawn, temperature):
    logits, soft = drawn
    told = soft.double() / soft.double().sum(1, keepdim=True)
    told = told.clamp_min(0.5 / 255).pow(1 / temperature) if temperature != 1 else told
    told = told / told.sum(1, keepdim=True)
    said = F.log_softmax(logits.double() / temperature, 1)
    expected = temperature**2 * F.kl_div(said, told, reduction="none").sum(1).mean()
    # With equal class weights every voxel weighs the same.
    assert divergence(logits, soft, torch.ones(3), temperature).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_it_is_zero_where_both_agree():
    soft = torch.tensor([51, 102, 102], dtype=torch.uint8).reshape(1, 3, 1, 1, 1)
    logits = torch.log(soft.float() / 255)
    for temperature in (1.0, 2.0):
        assert divergence(logits, soft, torch.ones(3), temperature).item() == pytest.approx(0, abs=1e-6)


def test_voxels_weigh_what_their_classes_weigh():
    """Two voxels, sure of different classes; the network is undecided about both, differently."""
    soft = torch.zeros(1, 2, 1, 1, 2, dtype=torch.uint8)
    soft[0, 0, 0, 0, 0] = soft[0, 1, 0, 0, 1] = 255
    logits = torch.zeros(1, 2, 1, 1, 2)
    logits[0, :, 0, 0, 1] = torch.tensor([math.log(3.0), 0.0])  # p = 3/4, 1/4
    first, second = math.log(2), math.log(4)
    assert divergence(logits, soft, torch.tensor([1.0, 3.0])).item() == pytest.approx(
        (first + 3 * second) / 4
    )


def test_the_mixture(drawn):
    logits, soft = drawn
    labels = torch.randint(0, 3, (2, 2, 4, 5), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labels[:, 0] = 255
    weights = (labels != 255).float()
    batch = Batch(torch.zeros(2, 1, 2, 4, 5), labels, weights, soft)
    hard, told = cross_entropy(logits, labels, weights), divergence(logits, soft, torch.ones(3), 2.0)
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
