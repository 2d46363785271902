"""Object scores: everything that one pass over two volumes of objects says, as one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from densem.blocks import Triple
from densem.errors import FormatError, InputError
from densem.evaluation.countable import countable
from densem.evaluation.object_classes import check_classes
from densem.evaluation.overlaps import ObjectVolumes, Overlaps, overlaps
from densem.evaluation.panoptic import THRESHOLDS, ObjectQuality, left_out_ids, mean, panoptic
from densem.evaluation.partitions import PartitionScores, partition_scores
from densem.evaluation.passes import BLOCK
from densem.schema import LabelSchema


@dataclass(frozen=True)
class ObjectScores:
    """How well predicted objects agree with true ones.

    Attributes:
        inner: whether objects that touch the border or ignored voxels were left out.
        every: panoptic quality and average precision of all objects, whatever their class.
        classes: the same by name of the class, of things alone where the schema has things; empty where the
            annotation has no classes.
        partitions: adapted Rand error and variation of information, of all objects.
        true_left_out, predicted_left_out: objects that were not counted.
        ignored_voxels: voxels that were not counted.
        true_stuff, predicted_stuff: objects by class that were left away because the class is not countable.
        true_classless, predicted_classless: objects that count among all, but in no class: most of their
            voxels are background, or have no class.
    """

    inner: bool
    every: ObjectQuality
    classes: dict[str, ObjectQuality]
    partitions: PartitionScores
    true_left_out: int
    predicted_left_out: int
    ignored_voxels: int
    true_stuff: dict[str, int] = field(default_factory=dict)
    predicted_stuff: dict[str, int] = field(default_factory=dict)
    true_classless: int = 0
    predicted_classless: int = 0

    @property
    def mean_pq(self) -> float | None:
        """Mean panoptic quality over the classes that have objects."""
        return mean(c.pq for c in self.classes.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a score that is not available is None (null)."""
        return {
            "inner": self.inner,
            "iou_thresholds": [float(t) for t in THRESHOLDS],
            "all": self.every.to_dict(),
            "classes": {name: c.to_dict() for name, c in self.classes.items()},
            "mean_pq": self.mean_pq,
            "partitions": self.partitions.to_dict(),
            "left_out": {
                "true_objects": self.true_left_out,
                "predicted_objects": self.predicted_left_out,
                "voxels": self.ignored_voxels,
                "true_stuff": self.true_stuff,
                "predicted_stuff": self.predicted_stuff,
            },
            "classless": {"true": self.true_classless, "predicted": self.predicted_classless},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "object scores") -> ObjectScores:
        """From what `to_dict` gave.

        Raises:
            FormatError: naming `where` and what is missing or wrong.
        """
        try:
            left_out = data["left_out"]
            return cls(
                inner=data["inner"],
                every=ObjectQuality.from_dict(data["all"]),
                classes={name: ObjectQuality.from_dict(row) for name, row in data["classes"].items()},
                partitions=PartitionScores(**data["partitions"]),
                true_left_out=left_out["true_objects"],
                predicted_left_out=left_out["predicted_objects"],
                ignored_voxels=left_out["voxels"],
                true_stuff=dict(left_out["true_stuff"]),
                predicted_stuff=dict(left_out["predicted_stuff"]),
                true_classless=data["classless"]["true"],
                predicted_classless=data["classless"]["predicted"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"{where}: expected the scores that densem evaluate-objects writes, but entry {error} is "
                "missing or wrong; evaluate again"
            ) from None


def object_scores(
    volumes: ObjectVolumes,
    schema: LabelSchema | None = None,
    inner: bool = False,
    block: Triple = BLOCK,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> ObjectScores:
    """Compare predicted objects with true ones in one blockwise pass.

    Objects of classes that are no things are left away where the schema has things (`countable`).

    Args:
        volumes: the objects, and their classes if they have any.
        schema: the classes; needed if there are any.
        inner: whether to leave out objects that touch the border of the volume or an ignored voxel.
        block: voxels read at once, (z, y, x); never changes a score.
        workers: threads that read and count; they never change a score.
        progress: told how many blocks are done, and of how many.

    Raises:
        ShapeError, VoxelSizeError, InputError, ConfigError, SchemaError: as `overlaps`; for class ids
            outside the schema; for volumes in which every voxel is ignored.
    """
    if schema is None and (volumes.true_classes is not None or volumes.predicted_classes is not None):
        raise InputError("object scores: expected a schema with volumes of classes, found none; give it")
    table = overlaps(volumes, inner, block, workers, progress)
    if schema is not None:
        _check(table, volumes, schema)
    ignored = int(table.voxels[table.ignored].sum())
    if ignored == volumes.truth.box.size:
        raise InputError(
            f"{volumes.truth.name}: every voxel is ignored, so that there is nothing to score; "
            "give an annotated volume, or another id to ignore"
        )
    things = countable(table, schema)
    found = panoptic(things.overlaps, schema, inner)
    named = [] if schema is None else [c.name for c in schema.classes if c.thing] or schema.names
    pairs = things.overlaps.pairs()
    return ObjectScores(
        inner=inner,
        every=found.every,
        classes={name: quality for name, quality in found.classes.items() if name in named},
        partitions=partition_scores(*pairs, left_out=left_out_ids(things.overlaps, inner)),
        true_left_out=found.true_left_out,
        predicted_left_out=found.predicted_left_out,
        ignored_voxels=ignored,
        true_stuff=things.true_stuff,
        predicted_stuff=things.predicted_stuff,
        true_classless=found.true_classless,
        predicted_classless=found.predicted_classless,
    )


def _check(table: Overlaps, volumes: ObjectVolumes, schema: LabelSchema) -> None:
    columns = (("annotation", volumes.true_classes, table.true_classes),
               ("prediction", volumes.predicted_classes, table.predicted_classes))  # fmt: skip
    for what, volume, classes in columns:
        if volume is not None:
            check_classes(classes, table.voxels, schema, f"{what} {volume.name}")
