"""Labeller: networks made ready for one volume, giving the class probabilities of any of its tiles.

Whatever asks, prediction, validation or a measurement, gets the same numbers for the same tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from densem.blocks import Box, Triple, triple
from densem.errors import ConfigError, VoxelSizeError
from densem.inference import fusion
from densem.inference.fixed_windows import FixedWindows
from densem.inference.fusion import Fusion
from densem.inference.options import PredictOptions
from densem.inference.runtime import Runtime
from densem.inference.tiles import Demand, Tiling, Window, round_up
from densem.model import Ensemble, Model
from densem.networks import streams as streamed
from densem.networks.hardware import return_memory
from densem.schema import UNLABELLED
from densem.volumes import Intensity, Volume
from densem.volumes.intensity import measure_intensity

TOLERANCE = 0.10


@dataclass(frozen=True)
class Labeller:
    """Networks made ready for one volume: gives the class probabilities of any of its tiles.

    Attributes:
        fusion: networks and flips.
        volume: the image.
        tiling: tiles over it.
        intensity: its grey-value statistics.
    """

    fusion: Fusion
    volume: Volume
    tiling: Tiling
    intensity: Intensity

    @classmethod
    def of(
        cls,
        models: Ensemble | Model,
        volume: Volume,
        options: PredictOptions | None = None,
        box: Box | None = None,
        affinities: bool = False,
    ) -> Labeller:
        """Make models ready for a volume.

        Args:
            models: one model or several.
            volume: the image.
            options: what `predict` takes.
            box: fit the tiles to this box alone instead of the whole volume.
            affinities: whether the affinities of models that have them are to follow the classes.

        Raises:
            VoxelSizeError: if the volume's voxel size is not the models'.
            ConfigError: for options that this machine or these models do not have.
        """
        options = options or PredictOptions()
        ensemble = models if isinstance(models, Ensemble) else Ensemble([models])
        check_sizes(ensemble, volume)
        return cls(
            Fusion.of(ensemble, runtime_of(options), options.flips, affinities),
            volume,
            tiling_for(ensemble, volume.shape, options, box),
            volume.intensity or measure_intensity(volume),
        )

    def pieces(self, cores: Iterable[Box]) -> Iterator[tuple[Box, Tensor]]:
        """Boxes that fill the cores, each with class probabilities float32 (C, Z, Y, X) on the device,
        behind which the affinities follow if they are wanted: (C + K, Z, Y, X).

        Reads once; the pieces of a core come one after the other. A core whose whole window has one grey
        value holds no tissue: nothing comes of it.
        """
        cores = list(cores)
        if not cores:
            return
        reach = self.tiling.reach(cores)
        raw = self.volume.read(reach)
        shape: Triple | None = None
        for core in cores:
            window = self.tiling.window(core)
            if window.shape != shape:
                return_memory()  # what was kept for windows of another shape
                shape = window.shape
            image = window.take(raw, reach)
            if image.min() == image.max():
                continue
            if isinstance(self.tiling, FixedWindows):
                yield core.clip(self.volume.box), self._blended(self.tiling, core, raw, reach)
            else:
                yield from self.fusion.pieces(image, window, self.normalize)

    def _blended(self, tiling: FixedWindows, core: Box, raw: np.ndarray, at: Box) -> Tensor:
        """The core from all fixed windows that meet it; `raw` holds the voxels of the box `at`."""

        def answers(part: Window) -> Iterator[tuple[Box, Tensor]]:
            return self.fusion.pieces(part.take(raw, at), part, self.normalize)

        with torch.inference_mode():
            return tiling.blend(core, answers)

    def normalize(self, raw: np.ndarray) -> np.ndarray:
        """(grey value - mean) / spread of the volume, float32 (Z, Y, X)."""
        scale = np.float32(1 / max(self.intensity.std, 1e-12))
        return (raw.astype(np.float32) - np.float32(self.intensity.mean)) * scale


def runtime_of(options: PredictOptions) -> Runtime:
    """The runtime that options name; `auto`, where nothing is measured, is PyTorch."""
    backend = "torch" if options.runtime == "auto" else options.runtime
    return Runtime.choose(options.device, options.precision, backend)


def predict_box(
    models: Ensemble | Model, volume: Volume, box: Box | None = None, options: PredictOptions | None = None
) -> np.ndarray:
    """Class probabilities of a box, float32 (C, Z, Y, X); the same as `predict` would write there."""
    labeller, box = Labeller.of(models, volume, options), box or volume.box
    found = np.zeros((len(models.schema), *box.shape), np.float32)
    for piece, p in labeller.pieces(labeller.tiling.cores(box)):
        place(found, box, piece, p.cpu().numpy())
    return found


def label_volume(
    models: Ensemble | Model, volume: Volume, box: Box | None = None, options: PredictOptions | None = None
) -> np.ndarray:
    """Class ids of a box (by default the whole volume) in memory, uint8 (Z, Y, X); for validation.

    Tiles are fitted to the box, so that as little as possible is computed beside it: with the exact
    context the same as `predict` would write, with the practical one within its tolerance.
    """
    box = box or volume.box
    labeller = Labeller.of(models, volume, options, box)
    found = np.full(box.shape, UNLABELLED, np.uint8)
    for piece, p in labeller.pieces(labeller.tiling.cores_from(box)):
        place(found, box, piece, fusion.classes(p, models.schema.ids).cpu().numpy())
    return found


def place(target: np.ndarray, box: Box, piece: Box, values: np.ndarray) -> None:
    """Copy the values (..., Z, Y, X) of a piece into the array of a box, as far as they meet."""
    meet = piece.clip(box)
    target[(..., *meet.relative_to(box).slices)] = values[(..., *meet.relative_to(piece).slices)]


def tiling_for(ensemble: Ensemble, shape: Triple, options: PredictOptions, box: Box | None = None) -> Tiling:
    """The tiles over a volume of this shape, or a box in it; a function of its arguments alone."""
    plan = ensemble.tile
    if options.core is not None and min(options.core) < 1:
        raise ConfigError(f"--core {_words(options.core)}: expected voxels, at least one in z, y and x")
    multiple = triple(math.lcm(*(m.geometry.multiple[i] for m in ensemble.members)) for i in range(3))
    if plan.window is not None and options.context == "practical":
        return FixedWindows.over(shape, plan.window, multiple, options.core)
    if plan.exact is None:
        raise ConfigError(
            f"--context {_words(options.context)}: model {ensemble.name!r} looks at its whole window, so "
            f"that it has no context; it is run on windows of {_words(plan.window or ())}; leave it out"
        )
    streams = all(streamed(m.network) for m in ensemble.members)
    if isinstance(options.context, tuple):
        context = options.context
        if min(context) < 0:
            raise ConfigError(f"--context {context}: expected voxels, none below zero")
    else:
        context = plan.exact if options.context == "exact" else plan.context or plan.exact
        if streams:  # then that in z costs little, and a smaller one would cost no less
            context = (plan.exact[0], *context[1:])
    if options.core is not None:
        core = round_up(options.core, multiple)
        return Tiling(shape, core, round_up(context, multiple), multiple)
    return Tiling.fit(plan, Demand(context, multiple, streams), shape, box)


def _words(value: str | Iterable[int]) -> str:
    """As on the command line."""
    return value if isinstance(value, str) else " ".join(map(str, value))


def same_size(ensemble: Ensemble, volume: Volume) -> bool:
    """Whether no side of a voxel differs by more than 10 % from the models'."""
    pairs = zip(volume.voxel_size_nm, ensemble.voxel_size_nm, strict=True)
    return all(abs(v - m) <= TOLERANCE * m for v, m in pairs)


def check_sizes(ensemble: Ensemble, volume: Volume) -> None:
    """Refuse a volume of another voxel size.

    Raises:
        VoxelSizeError: with both sizes.
    """
    if not same_size(ensemble, volume):
        have, want = (" x ".join(f"{v:g}" for v in s) for s in (volume.voxel_size_nm, ensemble.voxel_size_nm))
        raise VoxelSizeError(
            f"{volume.name}: expected voxels of about {want} nm (z y x), with which model {ensemble.name!r} "
            f"was trained, found {have} nm; give --resample to predict at the model's voxel size"
        )
