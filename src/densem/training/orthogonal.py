"""Orthogonalised momentum ("Muon") for convolution kernels, Adam for everything else, as one optimiser.

A kernel (out, in, ...) is seen as the matrix (out, in * ...). Its step is the orthogonal matrix nearest
to its momentum: every direction is learned equally fast, which makes short runs much shorter.
1. m <- mu m + (1 - mu) g;  u = mu m + (1 - mu) g                       (Nesterov)
2. X = u / |u|, five times: A = X X^T, X <- a X + (b A + c A A) X      (Newton-Schulz: singular values near 1)
3. w <- (1 - lr * decay) w - lr * 0.2 sqrt(longer side) X              (as large as a step of Adam)
Source: K. Jordan et al., "Muon" (2024); scale of step 3: J. Liu et al., "Muon is scalable" (2025).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
ADAM_RMS = 0.2


class OrthogonalMomentum(torch.optim.Optimizer):
    """Muon for parameters with two or more axes, Adam with decoupled decay for the others.

    Args:
        parameters: of the network.
        lr: learning rate of both.
        momentum: mu of the kernels.
        betas: moment decay of Adam.
        eps: of Adam.
        weight_decay: of the kernels.
        dtype: in which matrices are multiplied.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        every = list(parameters)
        groups = [
            {"params": [p for p in every if p.ndim > 1], "orthogonal": True},
            {"params": [p for p in every if p.ndim <= 1], "orthogonal": False},
        ]
        settings = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__([g for g in groups if g["params"]], settings)
        self.multiplied_in = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            if group["orthogonal"]:
                self._orthogonal_step(with_gradient, group)
            else:
                self._adam_step(with_gradient, group)
        return loss

    def _orthogonal_step(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        same_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for p in parameters:
            assert p.grad is not None
            state = self.state[p]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            update = p.grad.lerp(state["momentum"], group["momentum"])
            matrix = update.reshape(len(update), -1)
            same_shape[(matrix.shape[0], matrix.shape[1])].append((p, matrix))
        for shape, members in same_shape.items():
            updates = orthogonalized(torch.stack([m for _, m in members]), self.multiplied_in)
            size = group["lr"] * ADAM_RMS * max(shape) ** 0.5
            for (p, _), update in zip(members, updates, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.reshape(p.shape), alpha=-size)

    def _adam_step(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for p in parameters:
            assert p.grad is not None
            state = self.state[p]
            if "step" not in state:
                state |= {"step": 0, "first": torch.zeros_like(p), "second": torch.zeros_like(p)}
            state["step"] += 1
            state["first"].lerp_(p.grad, 1 - first)
            state["second"].lerp_(p.grad.square(), 1 - second)
            spread = (state["second"] / (1 - second ** state["step"])).sqrt().add_(group["eps"])
            p.addcdiv_(state["first"], spread, value=-group["lr"] / (1 - first ** state["step"]))


def orthogonalized(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices float32 (N, rows, columns) with their singular values moved to about 1 (0.7 to 1.2)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return (x.mT if tall else x).to(matrices.dtype)
