"""Width: `filters = "auto"` decided by timing a few training steps of each candidate.

The widest network is taken that still gets the steps the recipe asks for within the time budget;
candidates are timed from the narrowest upward until one does not.
"""

from __future__ import annotations

import logging
import time

import torch

from densem.sampling import PatchSampler
from densem.training.losses import loss_of
from densem.training.module import make_optimizer
from densem.training.prefetch import draw
from densem.training.recipe import Recipe
from densem.training.runtime import Runtime

log = logging.getLogger(__name__)
WARM, TIMED = 1, 3


def decide(recipe: Recipe, sampler: PatchSampler, budget: float | None, runtime: Runtime) -> Recipe:
    """The recipe with its width filled in; says in a sentence why.

    Args:
        recipe: one whose network has `filters = "auto"`, else it is returned as it is.
        sampler: for batches as training will see them.
        budget: seconds for the run; None takes `auto.otherwise`.
        runtime: device and precision.
    """
    if not recipe.is_auto:
        return recipe
    if budget is None:
        log.info("no time budget: the network gets %d filters", recipe.auto.otherwise)
        return recipe.with_filters(recipe.auto.otherwise)
    started = time.monotonic()
    chosen, said = recipe.auto.filters[0], ""
    for filters in recipe.auto.filters:
        seconds = step_seconds(recipe.with_filters(filters), sampler, runtime)
        steps = int((budget - (time.monotonic() - started)) / seconds)
        enough = steps >= recipe.auto.steps
        if filters == chosen or enough:
            chosen, said = filters, f"{steps:,} steps of {seconds:.2f} s"
        if not enough:
            break
    log.info("the network gets %d filters: in %.0f s that is about %s", chosen, budget, said)
    return recipe.with_filters(chosen)


def step_seconds(recipe: Recipe, sampler: PatchSampler, runtime: Runtime) -> float:
    """Mean time of a training step of a fresh network."""
    network = recipe.build_network(len(sampler.training_set.schema)).to(runtime.device).train()
    optimizer = make_optimizer(network, recipe.optimizer, runtime.dtype)
    batches = [
        type(b)(*(t.to(runtime.device) for t in b)) for b in (draw(sampler, n) for n in range(WARM + TIMED))
    ]
    started = 0.0
    for number, batch in enumerate(batches):
        if number == WARM:
            started = time.monotonic()
        with runtime.autocast():
            loss = loss_of(network(batch.image), batch, recipe.loss.auxiliary)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
    if runtime.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.monotonic() - started) / TIMED
