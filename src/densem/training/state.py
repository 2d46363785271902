"""State of a run: everything a resumed run needs to go on as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from densem.training.module import TrainingModule
from densem.training.plan import Plan
from densem.training.recipe import Schedule


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        seed: of the attempt in hand; another one after each restart.
        step: steps done in this attempt.
        seconds: spent in all attempts, over all sessions.
        plan: number of steps and validations, once decided.
        restarts: one record per attempt given up: seed, step, reason.
        best_score: best score on the eval volume; `best` are the averaged weights that got it.
        metrics_position: bytes of the metrics file that belong to this state.
    """

    seed: int
    step: int = 0
    seconds: float = 0.0
    plan: Plan | None = None
    restarts: list[dict[str, Any]] = field(default_factory=list)
    best_score: float | None = None
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    metrics_position: int = 0

    def restarted(self, seed: int, reason: str) -> RunState:
        """The state of the next attempt; with a time budget it has the steps that are left."""
        record = {"seed": self.seed, "step": self.step, "reason": reason}
        return RunState(seed, seconds=self.seconds, plan=self.plan, restarts=[*self.restarts, record])

    def has_fixed_statistics(self, step: int, schedule: Schedule) -> bool:
        """Whether the weights of a step were trained with batch statistics that stay as they are."""
        plan = self.plan
        return bool(schedule.frozen) and plan is not None and step > plan.freezing_step(schedule)

    def pack(self, module: TrainingModule) -> dict[str, Any]:
        """As plain values and tensors, with the weights and the optimiser."""
        return {
            "seed": self.seed,
            "step": self.step,
            "seconds": self.seconds,
            "plan": self.plan.to_dict() if self.plan else None,
            "restarts": self.restarts,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "best": self.best,
            "metrics_position": self.metrics_position,
            "network": module.network.state_dict(),
            "averaged": module.averaged.values,
            "updates": module.averaged.updates,
            "optimizer": module.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> RunState:
        """From what `pack` gave, without the weights."""
        plain = {name: data[name] for name in cls.__dataclass_fields__ if name != "plan"}
        return cls(**plain, plan=Plan.from_dict(data["plan"]) if data["plan"] else None)


def restore(module: TrainingModule, data: dict[str, Any]) -> None:
    """Put weights, averages, optimiser and random state back."""
    module.network.load_state_dict(data["network"])
    for name, value in module.averaged.values.items():
        value.copy_(data["averaged"][name])
    module.averaged.updates = data["updates"]
    module.optimizer.load_state_dict(data["optimizer"])
    torch.set_rng_state(data["random"])
