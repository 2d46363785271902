"""Training: from labelled volumes to a model.

1. The run folder says whether this run was begun before; another run there is refused.
2. Annotations are read once, the width is decided, the recipe as run is written down.
3. With a time budget, the first steps and one validation are timed and the number of steps is fixed.
4. Steps, with validations and checkpoints on the way. A collapsed attempt starts again with another seed.
5. The best averaged weights get batch statistics of their own and become the model.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from torch import nn

from densem import __version__, networks
from densem.errors import CollapseError, ConfigError, VoxelSizeError
from densem.model import AffinityHead, Model, TilePlan
from densem.networks.hardware import keep_memory
from densem.sampling import NONE, LabelledVolume, PatchSampler, TrainingSet
from densem.schema import LabelSchema
from densem.training import checkpoint, run_folder, width
from densem.training.interruption import Interruption
from densem.training.loop import Loop, Surroundings, reestimate
from densem.training.metrics import Metrics
from densem.training.module import TrainingModule
from densem.training.plan import MEASURED_STEPS, TIMED_STEPS, Plan, Timing
from densem.training.prefetch import Prefetch
from densem.training.progress import TrainingProgress, duration
from densem.training.recipe import Recipe
from densem.training.runtime import KEPT_BYTES, Runtime, quiet_lightning
from densem.training.start import begun_with
from densem.training.state import RunState, restore

log = logging.getLogger(__name__)
STREAM_OF_PLAIN_PATCHES = 7919
STREAM_OF_RESTARTS = 104_729

Validate = Callable[[Model], dict[str, Any]]


@dataclass(frozen=True)
class TrainingResult:
    """What came out of a run.

    Attributes:
        model: ready for prediction; its `training` holds the summary.
        steps: of the last attempt.
        best_step: the step its weights are from.
        score: MIoU on the eval volume at that step; None without one.
        restarts: attempts given up; their reasons are in the model's summary.
        seconds: spent in steps and validations, over all sessions.
    """

    model: Model
    steps: int
    best_step: int
    score: float | None
    restarts: int
    seconds: float


def train(
    recipe: Recipe,
    volumes: Sequence[LabelledVolume],
    schema: LabelSchema,
    folder: Path,
    *,
    validate: Validate | None = None,
    seed: int = 0,
    max_time: float | None = None,
    resume: bool = True,
    progress: bool = True,
    name: str = "model",
    measure: Callable[[Model], TilePlan] | None = None,
    start: Model | None = None,
) -> TrainingResult:
    """Train a model.

    Args:
        recipe: how.
        volumes: on what; all of one voxel size.
        schema: classes of their labels.
        folder: the run folder, for checkpoints and metrics.
        validate: scores a model on the eval volume: `miou` and `predicted`, voxels per class id.
        seed: of weights and samples.
        max_time: budget in seconds for steps and validations, in place of the recipe's number of steps.
        resume: go on with the run in the folder, if there is one; else begin anew.
        progress: show how far it is.
        name: of the model.
        measure: finds the context the trained model needs; outside the time budget.
        start: begin with its weights, and so with its network, instead of random ones.

    Raises:
        ConfigError, SchemaError, VoxelSizeError: if recipe, classes or voxels are not those of `start`.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once a checkpoint is written.
        IntegrityError: if the run in the folder was started with something else.
    """
    _check_voxel_sizes(volumes)
    if start is not None:
        recipe = begun_with(start, recipe, schema, volumes[0].image.voxel_size_nm)
    _check_patches(recipe.planned(volumes[0].image.voxel_size_nm), volumes)
    _check_weights(recipe)
    asked = run_folder.identity(recipe, volumes, schema, seed, max_time, start.id if start else None)
    if not resume:
        run_folder.clear(folder)
    found = run_folder.find(folder, asked)
    folder.mkdir(parents=True, exist_ok=True)
    job = _Job(asked, folder, tuple(volumes), schema, name, seed, max_time, validate, progress, start)
    keep_memory(times=0, limit=KEPT_BYTES)
    with Interruption() as interruption, quiet_lightning():
        run = _Run.prepare(job, found or recipe, begun=found is not None, interruption=interruption)
        try:
            run.take_steps()
        finally:
            run.close()
        return run.finish(measure)


def settle(
    recipe: Recipe,
    volumes: Sequence[LabelledVolume],
    schema: LabelSchema,
    folder: Path,
    *,
    max_time: float,
    validate: Validate | None = None,
    seed: int = 0,
) -> Recipe:
    """Decide by measuring what a time budget allows, once for several runs that are to be alike.

    Takes the first steps of a run and throws them away.

    Args:
        recipe: how the runs are to be trained.
        volumes: on what; all of one voxel size.
        schema: classes of their labels.
        folder: to work in; its run, if any, is forgotten.
        max_time: seconds for the steps, validations and final statistics of one run.
        validate: as the runs will have it.
        seed: of the steps that are measured.

    Returns:
        The recipe with width, patches, number of steps and of final patches written out: `train` with it and
        without a time budget takes about that time.
    """
    _check_voxel_sizes(volumes)
    _check_patches(recipe.planned(volumes[0].image.voxel_size_nm), volumes)
    _check_weights(recipe)
    run_folder.clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    asked = run_folder.identity(recipe, volumes, schema, seed, max_time)
    job = _Job(asked, folder, tuple(volumes), schema, "measured", seed, max_time, validate, False)
    keep_memory(times=0, limit=KEPT_BYTES)
    with Interruption() as interruption, quiet_lightning():
        run = _Run.prepare(job, recipe, begun=False, interruption=interruption)
        try:
            return run.settle(max_time)
        finally:
            run.close()
            run_folder.clear(folder)


@dataclass(frozen=True)
class _Job:
    """What `train` was asked for."""

    asked: dict[str, Any]
    folder: Path
    volumes: tuple[LabelledVolume, ...]
    schema: LabelSchema
    name: str
    seed: int
    max_time: float | None
    validate: Validate | None
    progress: bool
    start: Model | None = None


class _Run:
    """One training run, from its first step or its last checkpoint to the model."""

    def __init__(self, job: _Job, recipe: Recipe, data: TrainingSet, around: Surroundings) -> None:
        self.job = job
        self.recipe = recipe
        self.data = data
        self.around = around
        self.state = RunState(job.seed)
        self.module = self._new_module()
        self.loop = Loop(self.state, around)

    @classmethod
    def prepare(cls, job: _Job, recipe: Recipe, begun: bool, interruption: Interruption) -> _Run:
        """Read annotations, decide the width, and take up the last checkpoint if the run was begun before."""
        runtime = Runtime.choose(recipe.optimizer.precision)
        if not begun:
            run_folder.clear(job.folder)
        data = TrainingSet.prepare(
            job.volumes, job.schema, recipe.loss, job.folder,
            memory_gb=recipe.patches.memory_gb, objects=recipe.affinities.share > 0,
        )  # fmt: skip
        started = time.monotonic()
        if not begun:
            recipe = recipe.planned(job.volumes[0].image.voxel_size_nm)
            sampler = PatchSampler(recipe.patches, data, job.seed, recipe.augmentation)
            recipe = width.decide(recipe, sampler, job.max_time, runtime)
            run_folder.begin(job.folder, job.asked, recipe)
        packed = checkpoint.read(job.folder) if begun else None
        step, position = (packed["step"], packed["metrics_position"]) if packed else (0, 0)
        plain = recipe.patches.model_copy(update={"rare": 0.0})
        around = Surroundings(
            folder=job.folder,
            runtime=runtime,
            plain=PatchSampler(plain, data, job.seed + STREAM_OF_PLAIN_PATCHES, NONE),
            validate=None,
            metrics=Metrics(job.folder, position, step),
            progress=TrainingProgress(job.progress),
            interruption=interruption,
        )
        run = cls(job, recipe, data, around)
        if job.validate is not None:
            run.around = replace(around, validate=run._validate)
        run.state.seconds = time.monotonic() - started
        if packed:
            run.state = RunState.unpack(packed)
            run.module = run._new_module()
            restore(run.module, packed)
            log.info("going on at step %d", run.state.step)
        return run

    # ---- steps --------------------------------------------------------------------------------

    def take_steps(self) -> None:
        """All steps that are left, attempt by attempt.

        Raises:
            KeyboardInterrupt: when asked to stop.
        """
        self._make_plan()
        if self.job.start is not None and self.around.validate is not None and not self.state.step:
            Loop(self.state, self.around).score_start(self.module, self.job.start.network)
        while self.state.plan is None or self.state.step < self.state.plan.steps:
            trouble = self._fit(self.state.plan.steps if self.state.plan else MEASURED_STEPS)
            if trouble:
                self._restart(trouble)
            elif self.state.plan is None:
                self._make_plan()
            else:
                self.loop.save(self.module)

    def _make_plan(self) -> None:
        """Fix the number of steps: from the recipe at once, from a time budget after the measured steps."""
        state, schedule = self.state, self.recipe.schedule
        if state.plan is not None:
            return
        if self.job.max_time is None:
            state.plan = Plan.of_steps(schedule.steps, schedule)
        elif state.step >= MEASURED_STEPS:
            timing = self._time_the_rest()
            state.plan = Plan.of_time(self.job.max_time, timing, schedule)
            _say_plan(state.plan, timing, self.job.max_time)
            self.loop.save(self.module)

    def settle(self, max_time: float) -> Recipe:
        """The recipe with everything decided that the measured steps can decide."""
        while self.state.step < MEASURED_STEPS:
            trouble = self._fit(MEASURED_STEPS)
            if trouble:
                self._restart(trouble)
        measured = self._time_the_rest()
        timing = replace(measured, spent=MEASURED_STEPS * measured.step)  # the runs measure nothing
        plan = Plan.of_time(max_time, timing, self.recipe.schedule)
        _say_plan(plan, timing, max_time)
        decided = {"steps": plan.steps, "final_patches": plan.final_patches}
        return self.recipe.model_copy(update={"schedule": self.recipe.schedule.model_copy(update=decided)})

    def _fit(self, until: int) -> str:
        """Steps up to `until`; the reason if the attempt has to be given up."""
        sampler = PatchSampler(self.recipe.patches, self.data, self.state.seed, self.recipe.augmentation)
        self.loop = Loop(self.state, self.around)
        threads = 1 if self.around.runtime.device.type == "cpu" else min(8, os.cpu_count() or 1)
        batches = Prefetch(sampler, self.state.step, until, threads)
        trainer = self._trainer(self.loop)
        trainer.fit(self.module, train_dataloaders=batches)
        if self.around.interruption.requested and not self.loop.trouble:
            if self.state.plan is not None:
                self.loop.save(self.module)
            raise KeyboardInterrupt(
                f"stopped at step {self.state.step}; the same command goes on from there ({self.job.folder})"
            )
        return self.loop.trouble

    def _trainer(self, loop: Loop) -> lightning.Trainer:
        clip = self.recipe.optimizer.clip
        return lightning.Trainer(
            accelerator=self.around.runtime.device.type,
            devices=1,
            precision=self.around.runtime.lightning_precision,
            max_epochs=1,
            callbacks=[loop],
            plugins=[LightningEnvironment()],
            gradient_clip_val=clip or None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=self.job.folder,
        )

    def _time_the_rest(self) -> Timing:
        """Times of what was done so far, of a validation, and of a patch of re-estimation."""
        step = (self.state.seconds - self.loop.timed_seconds) / TIMED_STEPS
        started = time.monotonic()
        patches = self.recipe.schedule.probe_patches
        reestimate(self.module.averaged.applied_to(self.module.network), self.around, patches)
        patch = (time.monotonic() - started) / patches
        validation = 0.0
        if self.around.validate is not None:
            between = time.monotonic()
            self.loop.score(self.module)
            validation = time.monotonic() - between
        self.state.seconds += time.monotonic() - started
        return Timing(self.state.seconds, step, validation, patch)

    def _restart(self, reason: str) -> None:
        """Give the attempt up and start another one with a seed of its own.

        Raises:
            CollapseError: if that was the last one allowed.
        """
        number = len(self.state.restarts) + 1
        if number > self.recipe.schedule.restarts:
            said = "1 attempt" if number == 1 else f"{number} attempts with different seeds"
            raise CollapseError(f"{reason}, in {said}; lower optimizer.lr")
        seed = self.job.seed + STREAM_OF_RESTARTS * number
        log.warning("the run collapsed: %s; starting again with seed %d", reason, seed)
        self.around.metrics.add(self.state.step, self.state.seconds, event="restarted", reason=reason)
        before = self.state
        self.state = before.restarted(seed, reason)
        if self.job.max_time is not None and before.plan is not None:
            left = max(MEASURED_STEPS, before.plan.steps - before.step)
            self.state.plan = Plan.of_steps(left, self.recipe.schedule, before.plan.final_patches)
        self.module = self._new_module()

    # ---- networks and models ------------------------------------------------------------------

    def _new_module(self) -> TrainingModule:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.state.seed)
            network = self.recipe.build_network(len(self.data.schema))
        if self.recipe.network.weights:
            count = networks.load_published(network, self.recipe.network.weights)
            log.info("%d tensors of published weights from %s", count, self.recipe.network.weights)
        if self.job.start is not None:
            network.load_state_dict(self.job.start.network.state_dict())
        runtime = self.around.runtime
        weights = torch.from_numpy(self.data.class_weights)
        return TrainingModule(network.to(runtime.device), self.recipe, runtime.dtype, weights)

    def _validate(self, network: nn.Module) -> dict[str, Any]:
        assert self.job.validate is not None
        return self.job.validate(self._model(network, {}))

    def _model(self, network: nn.Module, summary: dict[str, Any]) -> Model:
        voxel_size = self.job.volumes[0].image.voxel_size_nm
        geometry: Any = network.geometry
        return Model(
            network=network.eval(),
            architecture=self.recipe.network.architecture,
            schema=self.job.schema,
            voxel_size_nm=voxel_size,
            tile=TilePlan.default(geometry, voxel_size, self.recipe.largest_patch),
            fingerprint=tuple(v.intensity for v in self.job.volumes),
            training=summary,
            name=self.job.name,
            affinities=self._head(),
        )

    def _head(self) -> AffinityHead | None:
        offsets = self.recipe.offsets
        return AffinityHead(offsets=offsets, classes=self.data.things or ()) if offsets else None

    def finish(self, measure: Callable[[Model], TilePlan] | None) -> TrainingResult:
        """The model of the best averaged weights."""
        state, plan = self.state, self.state.plan
        assert plan is not None
        best_step = state.best_step if state.best else state.step
        network = self._best_network(best_step, plan)
        model = self._model(network.cpu(), self._summary(best_step))
        if measure is not None:
            model = replace(model, tile=measure(model))
        return TrainingResult(
            model, plan.steps, best_step, state.best_score, len(state.restarts), state.seconds
        )

    def _best_network(self, best_step: int, plan: Plan) -> nn.Module:
        """With the batch statistics it was trained with where these were fixed, else with ones of its own."""
        state, start = self.state, self.job.start
        if start is not None and best_step == 0:
            return copy.deepcopy(start.network)
        if state.best:
            self.module.averaged.values = state.best
        network = self.module.averaged.applied_to(self.module.network)
        if not state.has_fixed_statistics(best_step, self.recipe.schedule):
            reestimate(network, self.around, plan.final_patches)
        return network

    def _summary(self, best_step: int) -> dict[str, Any]:
        state, plan, start = self.state, self.state.plan, self.job.start
        assert plan is not None
        return {
            "densem": __version__,
            "torch": torch.__version__,
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.job.seed,
            "steps": plan.steps,
            "best_step": best_step,
            "eval_miou": state.best_score,
            "seconds": round(state.seconds, 1),
            "restarts": state.restarts,
            "statistics_from_patches": plan.final_patches,
            "precision": "bfloat16" if self.around.runtime.bfloat16 else "float32",
            "volumes": self.job.asked["volumes"],
            **({"start": {"name": start.name, "id": start.id}} if start is not None else {}),
        }

    def close(self) -> None:
        """Write out the metrics and leave the terminal as it was."""
        self.around.progress.close()
        self.around.metrics.close()


def _say_plan(plan: Plan, timing: Timing, max_time: float) -> None:
    log.info("%d steps of %.2f s fit into %s", plan.steps, timing.step, duration(max_time))
    if plan.steps <= MEASURED_STEPS + 1:
        log.warning(
            "--max-time %s is too short to train anything: the measured steps alone took %s",
            duration(max_time),
            duration(timing.spent),
        )


def _check_patches(recipe: Recipe, volumes: Sequence[LabelledVolume]) -> None:
    """Refuse patches the network cannot take; its width does not matter for that."""
    with torch.device("meta"):
        geometry = recipe.with_filters(1).build_network(2).geometry
    for shape in recipe.patches.shapes:
        if not geometry.accepts(shape):
            raise ConfigError(
                f"patches.shapes: expected sides (z, y, x) that are multiples of {geometry.multiple}, "
                f"as {recipe.network.architecture} needs, found {shape}"
            )
        for volume in volumes:
            depth = volume.image.shape[0]
            if depth < shape[0] and depth % geometry.multiple[0]:
                raise ConfigError(
                    f"patches.shapes: patches of {shape} are cut to the {depth} slices of {volume.name}, "
                    f"and {recipe.network.architecture} needs a multiple of {geometry.multiple[0]}; set a "
                    "smaller z"
                )


def _check_weights(recipe: Recipe) -> None:
    """Refuse published weights that do not fit before anything is begun."""
    if recipe.network.weights and not recipe.is_auto and not recipe.is_unplanned:
        networks.load_published(recipe.build_network(2), recipe.network.weights)


def _check_voxel_sizes(volumes: Sequence[LabelledVolume]) -> None:
    for volume in volumes[1:]:
        ours, first = volume.image.voxel_size_nm, volumes[0].image.voxel_size_nm
        if any(abs(a - b) > 0.1 * b for a, b in zip(ours, first, strict=True)):
            raise VoxelSizeError(
                f"{volume.name}: training volumes must have one voxel size within 10 %, found {ours} nm and "
                f"{first} nm ({volumes[0].name}); train on one of them, or resample first"
            )
