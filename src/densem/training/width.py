"""Width and patch: `filters = "auto"` decided by timing a few training steps of each candidate.

1. The widest network is taken that still gets the steps the recipe asks for within the time budget;
   candidates are timed from the narrowest upward until one does not.
2. If the narrowest gets too few, patches shrink; if the widest gets more than enough, they grow.
"""

from __future__ import annotations

import logging
import time

import torch

from densem.sampling import PatchSampler
from densem.training.module import make_optimizer, recipe_loss
from densem.training.prefetch import draw
from densem.training.recipe import Recipe
from densem.training.runtime import Runtime

log = logging.getLogger(__name__)
WARM, TIMED = 1, 3
SIDE_STEP = 32
"""In-plane sides of patches are multiples of this: of what every network of the family needs."""


def decide(recipe: Recipe, sampler: PatchSampler, budget: float | None, runtime: Runtime) -> Recipe:
    """The recipe with its width and patches decided; says in a sentence which.

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
    chosen = recipe.with_filters(recipe.auto.filters[0])
    steps, seconds = 0, 0.0
    for filters in recipe.auto.filters:
        tried = recipe.with_filters(filters)
        taken = step_seconds(tried, sampler, runtime)
        possible = max(0, int((budget - (time.monotonic() - started)) / taken))
        if possible < recipe.auto.steps and steps:
            break
        chosen, steps, seconds = tried, possible, taken
        if possible < recipe.auto.steps:
            break
    decided = _with_fitting_patches(chosen, steps)
    scale = _area(decided) / _area(chosen)
    log.info(
        "the network gets %d filters and patches of %s: in %.0f s that is about %s steps of %.2f s",
        decided.network.config["filters"],
        " or ".join("x".join(map(str, s)) for s in decided.patches.shapes),
        budget,
        f"{int(steps / scale):,}",
        seconds * scale,
    )
    return decided


def _with_fitting_patches(recipe: Recipe, steps: int) -> Recipe:
    """Patches made smaller where even the narrowest network gets too few steps, larger where the widest
    gets more than enough; in-plane sides stay multiples of `SIDE_STEP` between the recipe's limits."""
    scarce = steps < recipe.auto.steps
    ample = recipe.network.config["filters"] == recipe.auto.filters[-1] and not scarce
    if not scarce and not ample:
        return recipe
    factor = (max(1, steps) / recipe.auto.steps) ** 0.5
    low, high = recipe.auto.sides
    shapes = [
        (z, _side(y, factor, low, high), _side(x, factor, low, high)) for z, y, x in recipe.patches.shapes
    ]
    return recipe.model_copy(update={"patches": recipe.patches.model_copy(update={"shapes": tuple(shapes)})})


def _side(side: int, factor: float, low: int, high: int) -> int:
    """A patch side scaled, within limits that never turn smaller into larger."""
    wanted = int(side * factor) // SIDE_STEP * SIDE_STEP
    return min(max(wanted, min(low, side)), max(high, side))


def _area(recipe: Recipe) -> float:
    """Mean number of voxels of a patch."""
    return sum(z * y * x for z, y, x in recipe.patches.shapes) / len(recipe.patches.shapes)


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
            loss = recipe_loss(recipe, network(batch.image), batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
    if runtime.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.monotonic() - started) / TIMED
