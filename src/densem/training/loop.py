"""The loop around each training step, as a Lightning callback.

After every step: averaged weights, numbers, and in this order where they are due: validation, checkpoint.
It ends the fit early when asked to (Ctrl-C), when the loss is no number, or when the run has collapsed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from densem import networks
from densem.sampling import PatchSampler
from densem.training import checkpoint
from densem.training.interruption import Interruption
from densem.training.losses import Batch
from densem.training.metrics import Metrics
from densem.training.module import TrainingModule
from densem.training.plan import WARM_STEPS, learning_rate
from densem.training.prefetch import draw
from densem.training.progress import TrainingProgress
from densem.training.runtime import Runtime
from densem.training.state import RunState

STEPS_BETWEEN_LINES = 10
COLLAPSE_AFTER = 0.2


@dataclass(frozen=True)
class Surroundings:
    """What a run works with beside its state.

    Attributes:
        folder: of the run.
        runtime: device and precision.
        plain: draws unchanged patches, for batch statistics as prediction meets them.
        validate: network in eval mode -> scores with `miou` and `predicted`; None without an eval volume.
        metrics: where numbers go.
        progress: what a person sees.
        interruption: whether a person has had enough.
    """

    folder: Path
    runtime: Runtime
    plain: PatchSampler
    validate: Callable[[nn.Module], dict[str, Any]] | None
    metrics: Metrics
    progress: TrainingProgress
    interruption: Interruption


@dataclass(eq=False)
class Loop(lightning.Callback):
    """Keeps the state of a run while Lightning takes the steps."""

    state: RunState
    around: Surroundings
    trouble: str = ""
    timed_seconds: float = 0.0
    _losses: list[Tensor] = field(default_factory=list)
    _voxels: int = 0
    _clock: float = 0.0
    _line_clock: float = 0.0
    _saved_clock: float = 0.0

    # ---- hooks --------------------------------------------------------------------------------

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the signals back from Lightning and start the clocks."""
        self.around.interruption.take()
        self._clock = self._line_clock = self._saved_clock = time.monotonic()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Learning rate, and fixed statistics towards the end."""
        module = _ours(pl_module)
        recipe, plan = module.recipe, self.state.plan
        module.set_learning_rate(learning_rate(self.state.step, plan, recipe.optimizer, recipe.schedule))
        if plan is not None and recipe.schedule.frozen:
            begin = plan.freezing_step(recipe.schedule)
            if self.state.step == begin:
                reestimate(module.network, self.around, plan.final_patches)
                module.network.train()
            if self.state.step >= begin:
                freeze_statistics(module.network)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Everything that follows a step."""
        module = _ours(pl_module)
        self.state.step += 1
        module.averaged.update(module.network)
        self._losses.append(outputs["loss"].detach())
        self._voxels += batch.labels.numel()
        self._tick()
        if self.state.step == WARM_STEPS:
            self.timed_seconds = self.state.seconds
        if self.state.step % STEPS_BETWEEN_LINES == 0:
            self._line(module)
        plan = self.state.plan
        if not self.trouble and plan and self.state.step in plan.validations and self.around.validate:
            self._validate(module)
        trainer.should_stop = bool(self.trouble) or self.around.interruption.requested
        minutes = (time.monotonic() - self._saved_clock) / 60
        if not self.trouble and plan and minutes >= module.recipe.schedule.checkpoint_minutes:
            self.save(module)

    # ---- pieces -------------------------------------------------------------------------------

    def save(self, module: TrainingModule) -> None:
        """Write a checkpoint."""
        self.state.metrics_position = self.around.metrics.position
        checkpoint.write(self.around.folder, self.state.pack(module))
        self._saved_clock = time.monotonic()

    def score(self, module: TrainingModule) -> dict[str, Any]:
        """Scores of the averaged weights on the eval volume."""
        assert self.around.validate is not None
        with torch.random.fork_rng(devices=[]):
            network = module.averaged.applied_to(module.network)
            if not self.state.has_fixed_statistics(self.state.step, module.recipe.schedule):
                reestimate(network, self.around, module.recipe.schedule.probe_patches)
            return self.around.validate(network.eval())

    def score_start(self, module: TrainingModule, start: nn.Module) -> None:
        """The network that a run begins with, as it is, is the first candidate for its best."""
        assert self.around.validate is not None
        started = time.monotonic()
        result = self.around.validate(start)
        self.state.seconds += time.monotonic() - started
        numbers = flatten({k: v for k, v in result.items() if k not in ("predicted", "true")}, "eval")
        self.around.metrics.add(self.state.step, self.state.seconds, **numbers)
        self._keep_if_best(module, float(result["miou"]))

    def _tick(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now

    def _line(self, module: TrainingModule) -> None:
        loss = float(torch.stack(self._losses).float().mean())
        now, state = time.monotonic(), self.state
        speed = self._voxels / max(now - self._line_clock, 1e-6) / 1e3
        steps = state.plan.steps if state.plan else None
        left = (steps - state.step) * (now - self._line_clock) / len(self._losses) if steps else None
        self._losses, self._voxels, self._line_clock = [], 0, now
        if not math.isfinite(loss):
            self.trouble = f"the loss is no number at step {state.step}"
            return
        rate = module.optimizer.param_groups[0]["lr"]
        self.around.metrics.add(
            state.step, state.seconds, loss=round(loss, 5), lr=rate, kvox_s=round(speed, 1)
        )
        score = "" if state.best_score is None else f", best MIoU {state.best_score:.3f}"
        self.around.progress.update(state.step, steps, f"loss {loss:.3f}, {speed:.0f} kvox/s{score}", left)

    def _validate(self, module: TrainingModule) -> None:
        state = self.state
        if self._losses and not bool(torch.isfinite(self._losses[-1])):
            self.trouble = f"the loss is no number at step {state.step}"
            return
        result = self.score(module)
        self._tick()
        score = float(result["miou"])
        numbers = flatten({k: v for k, v in result.items() if k not in ("predicted", "true")}, "eval")
        self.around.metrics.add(state.step, state.seconds, **numbers)
        assert state.plan is not None
        late = state.step >= COLLAPSE_AFTER * state.plan.steps
        classes = [name for name, count in result["predicted"].items() if count]
        several = sum(map(bool, result.get("true", {"any": 1, "other": 1}).values())) > 1
        if late and len(classes) == 1 and several:
            self.trouble = f"only class {classes[0]} is predicted on the eval volume after {state.step} steps"
        else:
            self._keep_if_best(module, score)
        self._line_clock = time.monotonic()
        self._losses, self._voxels = [], 0

    def _keep_if_best(self, module: TrainingModule, score: float) -> None:
        state = self.state
        if math.isfinite(score) and (state.best_score is None or score > state.best_score):
            state.best_score, state.best_step = score, state.step
            state.best = {k: v.clone() for k, v in module.averaged.values.items()}


def flatten(values: dict[str, Any], prefix: str) -> dict[str, float]:
    """The numbers of nested tables under names such as `eval/iou/membrane`."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            found[f"{prefix}/{name}"] = round(value, 5)
    return found


def reestimate(network: nn.Module, around: Surroundings, patches: int) -> None:
    """Batch statistics anew from that many unchanged patches, on the device of the run."""
    network.to(around.runtime.device)
    size = around.plain.config.batch
    images = (draw(around.plain, n).image.to(around.runtime.device) for n in range(-(-patches // size)))
    with around.runtime.autocast():
        networks.reestimate_normalization(network, images)


def freeze_statistics(network: nn.Module) -> None:
    """Have normalisation use its stored statistics while the rest trains."""
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def _ours(module: lightning.LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module
