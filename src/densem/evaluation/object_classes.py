"""Classes of objects: which class of a schema an object is of, from the class of each of its voxels.

    1. a class that makes up more than three quarters of the object by itself
    2. else the deepest countable class (`thing`) that holds more than half of it with its descendants: a cell
       full of granules is a cell, although cytoplasm may be less than half of it
    3. else the class of most voxels (the first one where two have as many)
    4. what comes out as background, or has no voxel with a class, is of no class

Without the first rule a vessel, which is in a cell but not countable, would be taken for a cell.

Voxels without a class (255) have no say.
"""

from __future__ import annotations

import numpy as np

from densem.errors import SchemaError
from densem.schema import UNLABELLED, LabelSchema

NO_CLASS = -1
"""Channel of an object of no class."""


def object_classes(
    ids: np.ndarray, of: np.ndarray, classes: np.ndarray, voxels: np.ndarray, schema: LabelSchema
) -> np.ndarray:
    """The channel of each object in the schema, int64 (M,), `NO_CLASS` where it has none.

    Args:
        ids: uint64 (M,), the objects, ascending.
        of: uint64 (N,), object of each row; rows of other objects are passed over.
        classes: whole numbers (N,), class id of each row.
        voxels: int64 (N,).
        schema: the classes.
    """
    place = np.searchsorted(ids, of)
    place[place == ids.size] = 0
    heard = (classes != UNLABELLED) & (ids[place] == of if ids.size else False)
    votes = np.zeros((ids.size, len(schema)), np.int64)
    np.add.at(votes, (place[heard], schema.channel_of_id[classes[heard]].astype(np.int64)), voxels[heard])
    found = _most(votes, schema)
    total = votes.sum(axis=1)
    mixed = 4 * votes.max(axis=1, initial=0) <= 3 * total
    for channel, below in _things(schema):  # from the root down: a deeper one replaces it
        found[mixed & (2 * votes[:, below].sum(axis=1) > total)] = channel
    return found


def check_classes(classes: np.ndarray, voxels: np.ndarray, schema: LabelSchema, what: str) -> None:
    """Refuse class ids that the schema does not have.

    Raises:
        SchemaError: listing them with their voxels.
    """
    unknown = [int(i) for i in np.unique(classes) if i not in schema.ids and i != UNLABELLED]
    if unknown:
        found = ", ".join(f"{i} ({int(voxels[classes == i].sum())} voxels)" for i in unknown)
        raise SchemaError(
            f"{what}: ids outside the schema: {found}; expected {', '.join(map(str, schema.ids))} "
            f"or {UNLABELLED} (unlabelled)"
        )


def _most(votes: np.ndarray, schema: LabelSchema) -> np.ndarray:
    """The channel with most voxels; the background is no class of an object."""
    found = votes.argmax(axis=1)
    found[votes.max(axis=1, initial=0) == 0] = NO_CLASS
    if schema.background_id is not None:
        found[found == schema.ids.index(schema.background_id)] = NO_CLASS
    return found


def _things(schema: LabelSchema) -> list[tuple[int, list[int]]]:
    """Channel of each countable class and those of its descendants, itself included; parents first."""
    things = [(c, schema.descendant_ids(c.name)) for c in schema.classes if c.thing]
    things.sort(key=lambda row: -len(row[1]))  # an ancestor has more descendants
    return [(schema.ids.index(c.id), [schema.ids.index(i) for i in below]) for c, below in things]
