"""Orthogonalised momentum: the matrices are orthogonal, the rest is Adam, and it learns."""

import pytest
import torch
from torch import nn

from densem.training.orthogonal import OrthogonalMomentum, orthogonalized


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8), (1, 16, 16)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalized(matrices)
    assert found.shape == matrices.shape
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    middle = left.mT @ found @ right.mT
    assert torch.allclose(middle, torch.diag_embed(middle.diagonal(dim1=1, dim2=2)), atol=1e-3)
    large = values > 0.1 * values.amax(dim=1, keepdim=True)
    scaled = middle.diagonal(dim1=1, dim2=2)[large]
    assert scaled.min() > 0.6
    assert scaled.max() < 1.3


def test_a_zero_gradient_moves_nothing():
    assert orthogonalized(torch.zeros(1, 4, 5)).abs().max() == 0


def test_parameters_with_one_axis_move_as_with_adam():
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    a = OrthogonalMomentum([ours], lr=0.1, betas=(0.8, 0.9), eps=1e-6)
    b = torch.optim.Adam([theirs], lr=0.1, betas=(0.8, 0.9), eps=1e-6)
    for n in range(5):
        for parameter, optimizer in ((ours, a), (theirs, b)):
            optimizer.zero_grad()
            ((parameter - n) ** 3).sum().backward()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_kernels_move_by_a_step_as_large_as_adams():
    kernel = nn.Parameter(torch.zeros(8, 3, 3, 3))
    optimizer = OrthogonalMomentum([kernel], lr=0.01)
    kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    assert kernel.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.25)


def test_decay_shrinks_kernels_alone():
    kernel, bias = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3))
    optimizer = OrthogonalMomentum([kernel, bias], lr=0.1, weight_decay=0.5)
    kernel.grad, bias.grad = torch.zeros(2, 3), torch.zeros(3)
    optimizer.step()
    assert torch.allclose(kernel, torch.full((2, 3), 0.95))
    assert torch.allclose(bias, torch.ones(3))


def test_state_survives_saving():
    def steps(optimizer, kernel, count):
        for n in range(count):
            kernel.grad = torch.full_like(kernel, n + 1.0).cumsum(0)
            optimizer.step()

    first, second = (nn.Parameter(torch.ones(4, 6)) for _ in range(2))
    a = OrthogonalMomentum([first], lr=0.1)
    steps(a, first, 3)
    with torch.no_grad():
        second.copy_(first)
    b = OrthogonalMomentum([second], lr=0.1)
    b.load_state_dict(a.state_dict())
    steps(a, first, 2)
    steps(b, second, 2)
    assert torch.equal(first, second)
