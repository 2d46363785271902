"""Object labels: annotated objects beside the classes, for networks that learn which voxels belong together.

Ids are whole numbers: 0 is no object, `UNKNOWN` is a voxel of which nobody has said what it is part of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densem.blocks import Grid, Triple
from densem.errors import InputError
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume

UNKNOWN = -1
BLOCK: Triple = (16, 512, 512)
MOST = 0.5
"""Share of a thing class's voxels that lie in objects if its objects were annotated."""


def local_ids(objects: np.ndarray | None, classes: np.ndarray) -> np.ndarray:
    """Ids counted from 1 within a patch, so that none is too large for float32.

    Args:
        objects: object ids (Z, Y, X) of any whole type; None: nobody has annotated objects.
        classes: uint8 (Z, Y, X), 255 where nothing is known.

    Returns:
        int32 (Z, Y, X), `UNKNOWN` where nothing is known.
    """
    if objects is None:
        return np.full(classes.shape, UNKNOWN, np.int32)
    found, places = np.unique(objects, return_inverse=True)
    numbers = np.arange(len(found), dtype=np.int32) + (0 if len(found) and found[0] == 0 else 1)
    ids = numbers[places.reshape(objects.shape)]
    ids[classes == UNLABELLED] = UNKNOWN
    return ids


def annotated_things(
    volumes: Sequence[tuple[str, Volume, Volume | None]], schema: LabelSchema
) -> tuple[str, ...]:
    """The outermost thing classes most of whose labelled voxels lie in annotated objects.

    Args:
        volumes: name, class ids and, where there are any, object ids of each volume.
        schema: the classes.
    """
    inside, total = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for _, classes, objects in volumes:
        if objects is None:
            continue
        for box in Grid(classes.shape, BLOCK):
            ids = classes.read(box)
            total += np.bincount(ids.reshape(-1), minlength=256)
            inside += np.bincount(ids[objects.read(box) > 0], minlength=256)
    found = []
    for entry in schema.classes:
        members = list(schema.descendant_ids(entry.name))
        if entry.thing and inside[members].sum() > MOST * total[members].sum():
            found.append(entry.name)
    return tuple(n for n in found if not any(n != o and _within(n, o, schema) for o in found))


def things_to_learn(
    volumes: Sequence[tuple[str, Volume, Volume | None]], schema: LabelSchema
) -> tuple[str, ...]:
    """The `annotated_things` that affinities are learnt of.

    Raises:
        InputError: if no volume has objects, or those there are of no thing class.
    """
    names = ", ".join(name for name, _, _ in volumes)
    if all(objects is None for _, _, objects in volumes):
        raise InputError(
            f"affinities.share: affinities are learnt from annotated objects, and {names} has none; add them "
            "with  densem import STUDY VOLUME --instances FILE , or leave affinities.share at 0"
        )
    found = annotated_things(volumes, schema)
    if not found:
        raise InputError(
            f"affinities.share: the annotated objects of {names} cover no thing class of the schema "
            f"({thing_names(schema)}) for the most part; look at both with  densem info , or leave "
            "affinities.share at 0"
        )
    return found


def thing_names(schema: LabelSchema) -> str:
    """The thing classes, for a message."""
    return ", ".join(c.name for c in schema.classes if c.thing) or "none"


def _within(name: str, other: str, schema: LabelSchema) -> bool:
    return schema[name].id in schema.descendant_ids(other)
