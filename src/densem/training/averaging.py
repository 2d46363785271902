"""Averaged weights: an exponential moving average of a network's parameters, in float32.

The average forgets the random start: its decay at update n is min(decay, (1 + n) / (10 + n)).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AveragedWeights:
    """Moving average of the parameters of one network."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values: dict[str, Tensor] = {
            name: value.detach().float().clone() for name, value in network.named_parameters()
        }

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the parameters after a step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        now = [p.detach() for p in network.parameters()]
        torch._foreach_lerp_(list(self.values.values()), now, 1 - decay)

    def applied_to(self, network: nn.Module) -> nn.Module:
        """A copy of the network with the averaged parameters, in eval mode."""
        averaged = copy.deepcopy(network)
        averaged.load_state_dict(self.values, strict=False)
        return averaged.eval()
