"""Losses: equal to torch's own, and silent about unlabelled voxels."""

import pytest
import torch
from torch.nn import functional as F

from densem.training.losses import Batch, cross_entropy, loss_of

SHAPE = (2, 3, 4, 5)


def draw(classes=4):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, classes, 3, 4, 5), generator=generator, requires_grad=True)
    labels = torch.randint(0, classes, SHAPE, generator=generator).to(torch.uint8)
    labels[0, 1] = 255
    return logits, labels, torch.rand(SHAPE, generator=generator) + 0.1


def test_equal_to_torch_with_class_weights():
    logits, labels, _ = draw()
    table = torch.tensor([0.1, 2.0, 0.5, 1.0])
    weights = torch.cat([table, torch.zeros(252)])[labels.long()]
    expected = F.cross_entropy(logits, labels.long(), weight=table, ignore_index=255).item()
    assert cross_entropy(logits, labels, weights).item() == pytest.approx(expected, rel=1e-5)


def test_channels_last_and_half_precision_give_the_same():
    logits, labels, weights = draw()
    expected = cross_entropy(logits, labels, weights).item()
    last = logits.detach().to(memory_format=torch.channels_last_3d)
    assert cross_entropy(last, labels, weights).item() == pytest.approx(expected, rel=1e-5)
    found = cross_entropy(last.bfloat16(), labels, weights)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-2)


def test_unlabelled_voxels_have_exactly_zero_gradient_whatever_their_weight():
    logits, labels, weights = draw()
    cross_entropy(logits, labels, weights).backward()
    gradient = logits.grad.movedim(1, -1)
    assert (gradient[labels == 255] == 0).all()
    assert (gradient[labels != 255].abs().sum(-1) > 0).all()


def test_independent_of_patch_size_and_of_the_scale_of_weights():
    logits, labels, weights = draw()
    once = cross_entropy(logits, labels, weights).item()
    twice = cross_entropy(
        logits.repeat(2, 1, 1, 1, 1), labels.repeat(2, 1, 1, 1), 7 * weights.repeat(2, 1, 1, 1)
    )
    assert twice.item() == pytest.approx(once, rel=1e-5)


def test_nothing_labelled_is_zero():
    logits, labels, weights = draw()
    loss = cross_entropy(logits, torch.full_like(labels, 255), weights)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_the_auxiliary_head_counts_for_its_share():
    logits, labels, weights = draw()
    other = logits.detach().flip(1)
    batch = Batch(torch.zeros(2, 1, 3, 4, 5), labels, weights)
    main, side = (cross_entropy(head, labels, weights).item() for head in (logits, other))
    both = {"semantic": logits, "auxiliary": other}
    assert loss_of(both, batch, 0.33).item() == pytest.approx(main + 0.33 * side, rel=1e-5)
    assert loss_of(both, batch, 0.0).item() == pytest.approx(main, rel=1e-5)
    assert loss_of({"semantic": logits}, batch, 0.33).item() == pytest.approx(main, rel=1e-5)


def test_an_output_of_the_middle_is_compared_with_the_middle():
    logits, labels, weights = draw()
    inner = logits.detach()[..., 1:3, 1:4]
    batch = Batch(torch.zeros(2, 1, 3, 4, 5), labels, weights)
    expected = cross_entropy(inner, labels[..., 1:3, 1:4], weights[..., 1:3, 1:4])
    assert loss_of({"semantic": inner}, batch, 0.0).item() == pytest.approx(expected.item())
