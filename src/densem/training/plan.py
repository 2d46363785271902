"""Plans: how many steps a run takes, when it is validated, and its learning rate at each step.

With a time budget the plan is made after 3 + 20 steps and one validation were timed, and then stays:
    steps = 23 + (budget - spent - validations - final statistics) / seconds per step
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from densem.training.recipe import Optimizer, Schedule

WARM_STEPS, TIMED_STEPS = 3, 20
MEASURED_STEPS = WARM_STEPS + TIMED_STEPS
SHARE_OF_FINAL_STATISTICS = 0.03
FEWEST_FINAL_PATCHES = 8


@dataclass(frozen=True)
class Timing:
    """What was measured, in seconds: of the run so far, a step, a validation, a patch of re-estimation."""

    spent: float
    step: float
    validation: float
    patch: float


@dataclass(frozen=True)
class Plan:
    """A decided number of steps.

    Attributes:
        steps: of the whole run.
        validations: after how many steps there is one, ascending.
        final_patches: patches for re-estimating batch statistics at the end.
    """

    steps: int
    validations: tuple[int, ...]
    final_patches: int

    @classmethod
    def of_steps(cls, steps: int, schedule: Schedule, final_patches: int | None = None) -> Plan:
        """A plan for that many steps."""
        count = schedule.validations
        places = {math.ceil(steps * (k + 1) / count) for k in range(count)}
        patches = schedule.final_patches if final_patches is None else final_patches
        return cls(steps, tuple(sorted(places)), patches)

    @classmethod
    def of_time(cls, budget: float, timing: Timing, schedule: Schedule) -> Plan:
        """A plan that ends after `budget` seconds, measured steps included."""
        affordable = int(SHARE_OF_FINAL_STATISTICS * budget / max(timing.patch, 1e-6))
        patches = min(schedule.final_patches, max(FEWEST_FINAL_PATCHES, affordable))
        fixed = schedule.validations * timing.validation + patches * timing.patch
        left = max(0.0, budget - timing.spent - fixed)
        return cls.of_steps(MEASURED_STEPS + max(1, int(left / timing.step)), schedule, patches)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """From what `to_dict` gave."""
        return cls(**{**data, "validations": tuple(data["validations"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "validations": list(self.validations)}

    def freezing_step(self, schedule: Schedule) -> int:
        """The step from which batch statistics stay fixed."""
        return math.ceil(self.steps * (1 - schedule.frozen))


def learning_rate(step: int, plan: Plan | None, optimizer: Optimizer, schedule: Schedule) -> float:
    """Learning rate of a step; without a plan yet, that of the warm-up."""
    steps = plan.steps if plan else None
    warmup = schedule.warmup if steps is None else min(schedule.warmup, steps // 5)
    if step < warmup:
        return optimizer.lr * (step + 1) / warmup
    if steps is None or schedule.shape == "constant":
        return optimizer.lr
    along = min(1.0, (step - warmup) / max(1, steps - warmup))
    fall = (1 + math.cos(math.pi * along)) / 2
    return optimizer.lr * (schedule.final + (1 - schedule.final) * fall)
