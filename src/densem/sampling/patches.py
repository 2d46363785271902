"""Patches: training sample i as a pure function of (seed, i).

1. Step n = i // batch draws one of the patch shapes and, for each of its samples, a volume in proportion
   to labelled voxels; the depth is clipped to the shallowest of these volumes: a batch has one shape.
2. The sample draws a place: near a voxel of a class drawn evenly, or anywhere with enough labels.
3. The places its voxels come from (rotation, scale, elastic) say which box is read: real neighbours where
   the volume has them, mirrored ones beyond its ends in plane.
4. Grey values are normalised by the volume's statistics and changed; labels become channels and weights.
   Soft targets and objects, where a volume has some, are moved along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from densem.blocks import Box, Triple, triple
from densem.errors import InputError, ShapeError
from densem.sampling import augmentation as changes
from densem.sampling.augmentation import NONE, Augmentation
from densem.sampling.error_weights import ErrorWeights, class_weights, write_boundary_weights
from densem.sampling.label_index import LabelIndex
from densem.sampling.normalization import normalize
from densem.sampling.object_labels import local_ids, things_to_learn
from densem.sampling.soft_targets import SoftTargets
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Intensity, Volume
from densem.volumes.volume import Nanometres

TRIES = 16
STREAM_OF_STEPS, STREAM_OF_SAMPLES = 1, 2
NO_SOFT = np.zeros(0, np.uint8)
NO_OBJECTS = np.zeros(0, np.int32)


class Patches(BaseModel):
    """Which parts of the volumes a step is trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shapes: tuple[Triple, ...] = Field(
        default=((8, 160, 160),),
        min_length=1,
        description="patch shapes (z, y, x) in voxels; each step draws one",
    )
    batch: int = Field(default=1, ge=1, description="patches per step")
    rare: float = Field(
        default=0.5, ge=0, le=1, description="share of patches centred near a class drawn evenly over classes"
    )
    least_labelled: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="other patches are drawn again below this share of labelled voxels",
    )
    memory_gb: float = Field(
        default=2.0,
        ge=0,
        description="volumes up to this size together are held in memory, others read by boxes",
    )

    @field_validator("shapes")
    @classmethod
    def _positive(cls, shapes: tuple[Triple, ...]) -> tuple[Triple, ...]:
        if any(min(shape) < 1 for shape in shapes):
            raise ValueError(f"sides of a patch must be at least 1 voxel, found {shapes}")
        return shapes


class Sample(NamedTuple):
    """A patch ready for training.

    image float32 (1, Z, Y, X), normalised; labels uint8 (Z, Y, X), class channels with 255 unlabelled;
    weights float32 (Z, Y, X), 0 exactly where unlabelled; soft uint8 (C, Z, Y, X), class probabilities of a
    teacher in 255ths, or (0,) in a training set without any; objects int32 (Z, Y, X), ids of the patch with 0
    for no object and -1 where nothing is known, or (0,) in a training set that does not ask for them.
    """

    image: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    soft: np.ndarray = NO_SOFT
    objects: np.ndarray = NO_OBJECTS


@dataclass(frozen=True)
class LabelledVolume:
    """An image with labels on the same grid; unlabelled voxels are 255. With soft targets all may be.

    `objects` are object ids on the same grid, 0 where there is no object.
    """

    image: Volume
    labels: Volume
    name: str
    soft: SoftTargets | None = None
    objects: Volume | None = None

    def __post_init__(self) -> None:
        if self.objects is not None and self.objects.shape != self.image.shape:
            raise ShapeError(
                f"{self.name}: image and objects must have one shape, found {self.image.shape} and "
                f"{self.objects.shape} (z, y, x)"
            )
        if self.image.shape != self.labels.shape:
            raise ShapeError(
                f"{self.name}: image and labels must have one shape, found {self.image.shape} and "
                f"{self.labels.shape} (z, y, x)"
            )
        if self.soft is not None and self.soft.classes.shape != self.image.shape:
            raise ShapeError(
                f"{self.name}: image and soft targets must have one shape, found {self.image.shape} and "
                f"{self.soft.classes.shape} (z, y, x)"
            )

    @property
    def intensity(self) -> Intensity:
        """Statistics of the image.

        Raises:
            InputError: if none are stored.
        """
        found = self.image.intensity
        if found is None:
            raise InputError(
                f"{self.name}: the image holds no intensity statistics, they are measured at import; "
                "import it with `densem import`"
            )
        return found


@dataclass(frozen=True)
class Source:
    """A labelled volume made ready for drawing: its index, and its voxels in memory where they fit."""

    volume: LabelledVolume
    index: LabelIndex
    image: Any
    labels: Any
    boundary: Any = None
    soft: SoftTargets | None = None
    objects: Any = None

    @property
    def teaching(self) -> int:
        """Voxels that something is learnt from: those with a label, and with soft targets all."""
        return self.index.labelled if self.soft is None else self.box.size

    @property
    def box(self) -> Box:
        """The whole volume."""
        return self.volume.image.box

    @property
    def voxel_size_nm(self) -> Nanometres:
        """Of the image."""
        return self.volume.image.voxel_size_nm


@dataclass(frozen=True)
class TrainingSet:
    """All labelled volumes of a run, made ready once.

    Attributes:
        sources: one per volume.
        schema: classes of all of them.
        class_weights: float32 (C,), weight of each class plus the floor.
        things: classes of which objects are annotated; None where samples have no objects.
    """

    sources: tuple[Source, ...]
    schema: LabelSchema
    class_weights: np.ndarray
    things: tuple[str, ...] | None = None

    @classmethod
    def prepare(
        cls,
        volumes: Sequence[LabelledVolume],
        schema: LabelSchema,
        weights: ErrorWeights,
        cache: Path,
        memory_gb: float = 2.0,
        objects: bool = False,
    ) -> TrainingSet:
        """Read every annotation once; hold what fits in memory.

        Args:
            volumes: images with labels.
            schema: classes of the labels.
            weights: how voxels count; boundary weights, if any, are kept in `cache`.
            cache: folder for boundary weights.
            memory_gb: limit for all volumes held.
            objects: whether samples are to have the annotated objects.

        Raises:
            InputError: if nothing is labelled, or some volumes have soft targets and others have none, or
                objects are asked for and not annotated.
        """
        things = (
            things_to_learn([(v.name, v.labels, v.objects) for v in volumes], schema) if objects else None
        )
        if not objects:
            volumes = [replace(v, objects=None) for v in volumes]
        _check_soft(volumes, schema)
        indices = [LabelIndex.scan(v.labels, schema, seed=0) for v in volumes]
        labelled = np.sum([i.counts for i in indices], axis=0, initial=0)
        indices = [_index(v, i, schema) for v, i in zip(volumes, indices, strict=True)]
        counts = labelled if np.any(labelled) else np.sum([i.counts for i in indices], axis=0, initial=0)
        if not np.any(counts):
            names = ", ".join(v.name for v in volumes) or "none given"
            raise InputError(f"training needs at least one labelled voxel, found none in: {names}")
        left = memory_gb * 1e9
        sources = []
        for number, (volume, index) in enumerate(zip(volumes, indices, strict=True)):
            boundary = None
            if weights.boundary > 0:
                path = cache / f"boundary-{number}.zarr"
                boundary = write_boundary_weights(volume.labels, schema, weights, counts, path)
            size = volume.image.box.size * (volume.image.dtype.itemsize + 1)
            size += volume.soft.bytes_held if volume.soft is not None else 0
            size += volume.image.box.size * volume.objects.dtype.itemsize if volume.objects is not None else 0
            held = size <= left
            left -= size if held else 0
            sources.append(_source(volume, index, boundary, held))
        table = class_weights(counts, weights.balance)
        return cls(tuple(sources), schema, table + np.float32(weights.floor) * (counts > 0), things)


def _source(volume: LabelledVolume, index: LabelIndex, boundary: Any, held: bool) -> Source:
    objects = volume.objects
    if not held:
        ids = None if objects is None else objects.array
        return Source(volume, index, volume.image.array, volume.labels.array, boundary, volume.soft, ids)
    kept = None if boundary is None else boundary[:]
    soft = None if volume.soft is None else volume.soft.held()
    ids = None if objects is None else objects.read()
    return Source(volume, index, volume.image.read(), volume.labels.read(), kept, soft, ids)


def _index(volume: LabelledVolume, labels: LabelIndex, schema: LabelSchema) -> LabelIndex:
    """That of the labels; of a volume without any, of what its teacher takes it for."""
    if labels.labelled or volume.soft is None:
        return labels
    return LabelIndex.scan(volume.soft.classes, schema, seed=0)


def _check_soft(volumes: Sequence[LabelledVolume], schema: LabelSchema) -> None:
    without = [v.name for v in volumes if v.soft is None]
    if without and len(without) < len(volumes):
        raise InputError(
            f"training: all volumes need soft targets or none, but {', '.join(without)} has none"
        )
    for volume in volumes:
        if volume.soft is not None and volume.soft.probabilities.shape[0] != len(schema):
            raise InputError(
                f"{volume.name}: expected soft targets of {len(schema)} classes ({', '.join(schema.names)}), "
                f"found {volume.soft.probabilities.shape[0]}"
            )


@dataclass(frozen=True)
class _Draw:
    """What is known of a sample before anything is read."""

    source: Source
    shape: Triple
    turn: int
    places: np.ndarray | None

    @property
    def read_shape(self) -> Triple:
        """Shape before the quarter turns."""
        z, y, x = self.shape
        return (z, x, y) if self.turn % 2 else self.shape


class PatchSampler:
    """Draws training samples; sample i depends on (seed, i) and the training set only."""

    def __init__(
        self, config: Patches, training_set: TrainingSet, seed: int, augmentation: Augmentation = NONE
    ) -> None:
        self.config = config
        self.training_set = training_set
        self.seed = seed
        self.augmentation = augmentation
        of_each = np.array([s.teaching for s in training_set.sources], float)
        self._shares = of_each / of_each.sum()

    def batch(self, step: int) -> Sample:
        """The samples of a step, stacked: image (N, 1, Z, Y, X), labels and weights (N, Z, Y, X)."""
        size = self.config.batch
        samples = [self.sample(step * size + k) for k in range(size)]
        return Sample(*(np.stack(parts) for parts in zip(*samples, strict=True)))

    def sample(self, i: int) -> Sample:
        """Training sample number i."""
        rng = np.random.default_rng([self.seed, STREAM_OF_SAMPLES, i])
        source, shape = self._source_and_shape(i)
        turn = changes.draw_turn(self.augmentation, source.voxel_size_nm, rng)
        swapped = (shape[0], shape[2], shape[1]) if turn % 2 else shape
        draw = _Draw(source, shape, turn, changes.displacement(self.augmentation, swapped, rng))
        corner = self._corner(draw, rng)
        image, labels, boundary, soft, objects = self._read(draw, corner)
        return self._finish(draw, [image, labels, boundary], soft, objects, rng)

    def shape_of_step(self, step: int) -> Triple:
        """Patch shape of a step, (z, y, x)."""
        return self._source_and_shape(step * self.config.batch)[1]

    def _source_and_shape(self, i: int) -> tuple[Source, Triple]:
        step, place = divmod(i, self.config.batch)
        rng = np.random.default_rng([self.seed, STREAM_OF_STEPS, step])
        depth, height, width = self.config.shapes[int(rng.integers(len(self.config.shapes)))]
        chosen = rng.choice(len(self._shares), self.config.batch, p=self._shares)
        sources = [self.training_set.sources[int(c)] for c in chosen]
        return sources[place], (min(depth, *(s.box.shape[0] for s in sources)), height, width)

    # ---- where --------------------------------------------------------------------------------

    def _corner(self, draw: _Draw, rng: np.random.Generator) -> Triple:
        if rng.random() < self.config.rare:
            return self._corner_near_class(draw, rng)
        for _ in range(TRIES):
            corner = _anywhere(draw.source.box.shape, draw.read_shape, rng)
            if draw.source.soft is not None:  # there is something to learn from everywhere
                return corner
            box = _box(corner, draw.read_shape).clip(draw.source.box)
            labels = np.asarray(draw.source.labels[box.slices])
            if np.mean(labels != UNLABELLED) >= self.config.least_labelled:
                return corner
        return self._corner_near_class(draw, rng)

    def _corner_near_class(self, draw: _Draw, rng: np.random.Generator) -> Triple:
        """A corner that puts a voxel of an evenly drawn class into the inner half in plane."""
        present = [p for p in draw.source.index.positions if len(p)]
        positions = present[int(rng.integers(len(present)))]
        voxel = positions[int(rng.integers(len(positions)))]
        shape = np.array(draw.read_shape)
        low = np.array([0, shape[1] // 4, shape[2] // 4])
        offset = rng.integers(low, np.maximum(low + 1, shape - low))
        limit = np.array(draw.source.box.shape) - shape
        inside = np.clip(voxel - offset, 0, np.maximum(limit, 0))
        return triple(np.where(limit < 0, limit // 2, inside))

    # ---- what ---------------------------------------------------------------------------------

    def _read(self, draw: _Draw, corner: Triple) -> tuple[np.ndarray, ...]:
        source = draw.source
        wanted = _box(corner, draw.read_shape)
        if draw.places is not None:
            wanted = _around(wanted, draw.places)
        box = wanted.clip(source.box)
        image = normalize(np.asarray(source.image[box.slices]), source.volume.intensity)
        labels = self.training_set.schema.channel_of_id[np.asarray(source.labels[box.slices])]
        boundary = np.zeros((0, 0, 0), np.float32)
        if source.boundary is not None:
            boundary = np.asarray(source.boundary[box.slices]).astype(np.float32)
        soft = np.zeros((0, 0, 0), np.uint8)
        if source.soft is not None:
            soft = source.soft.read(box).reshape(
                -1, *box.shape[1:]
            )  # every channel's sections are moved alike
        objects = np.zeros((0, 0, 0), np.int32)
        if self.training_set.things is not None:
            ids = None if source.objects is None else np.asarray(source.objects[box.slices])
            objects = local_ids(ids, labels)
        shift = np.array(corner[1:]) - np.array(box.start[1:])
        parts = [(image, "linear"), (labels, "nearest"), (boundary, "nearest"), (soft, "linear"),
                 (objects, "nearest")]  # fmt: skip
        return tuple(_take(a, draw, shift, kind) if a.size else a for a, kind in parts)

    def _finish(
        self,
        draw: _Draw,
        arrays: list[np.ndarray],
        soft: np.ndarray,
        objects: np.ndarray,
        rng: np.random.Generator,
    ) -> Sample:
        config = self.augmentation
        channels = list(soft.reshape(-1, *arrays[0].shape)) if soft.size else []
        channels += [objects] if objects.size else []
        present = [a for a in arrays if a.size]
        moved = changes.shift_sections([*present, *channels], config.shifted_section, rng)
        moved[0] = changes.damage_sections(changes.change_grey(moved[0], config, rng), config, rng)
        flips = changes.draw_flips(config, rng)
        moved = [changes.turn_and_flip(a, draw.turn, flips) for a in moved]
        table = np.append(self.training_set.class_weights, np.zeros(256, np.float32))
        weights = table[moved[1]]
        if len(present) == 3:
            weights = weights * (1 + moved[2])
        weights[moved[1] == UNLABELLED] = 0
        ids = moved.pop() if objects.size else NO_OBJECTS
        told = np.stack(moved[len(present) :]) if soft.size else NO_SOFT
        return Sample(moved[0][None], moved[1], weights, told, ids)


def _box(corner: Triple, shape: Triple) -> Box:
    return Box(corner, triple(a + n for a, n in zip(corner, shape, strict=True)))


def _around(box: Box, places: np.ndarray) -> Box:
    """The box in plane that holds all places and their neighbours."""
    low = np.floor(places.min(axis=(1, 2))).astype(int)
    high = np.ceil(places.max(axis=(1, 2))).astype(int) + 1
    z, y, x = box.start
    return Box((z, y + int(low[0]), x + int(low[1])), (box.stop[0], y + int(high[0]), x + int(high[1])))


def _anywhere(volume: Triple, shape: Triple, rng: np.random.Generator) -> Triple:
    """A uniform corner; centred along axes where the patch is larger than the volume."""
    room = [v - s for v, s in zip(volume, shape, strict=True)]
    return triple(int(rng.integers(r + 1)) if r >= 0 else r // 2 for r in room)


def _take(array: np.ndarray, draw: _Draw, shift: np.ndarray, kind: str) -> np.ndarray:
    """The patch out of what was read; `shift` is its corner in the array's plane."""
    if draw.places is not None:
        assert kind in ("linear", "nearest")
        places = draw.places + shift[:, None, None].astype(np.float32)
        return changes.resample(array, places, "linear" if kind == "linear" else "nearest")
    _, height, width = draw.read_shape
    rows = changes.mirrored(np.arange(height) + shift[0], array.shape[1])
    columns = changes.mirrored(np.arange(width) + shift[1], array.shape[2])
    return np.ascontiguousarray(array[:, rows][:, :, columns])
