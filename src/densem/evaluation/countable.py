"""Countable objects: those of classes that are things, which alone have a number to be found by.

Published annotations give ids to connected parts of stuff as well, such as the vessels of a platelet. Nobody
looks for their number, so they are no objects here, true or predicted: their voxels belong to none.

    1. a true object of a class that is no thing is left away
    2. a predicted one is left away if it lies mostly (by more than half) on such true objects, and is of no
       thing's class itself, or of unknown class
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from densem.evaluation.object_classes import NO_CLASS, object_classes
from densem.evaluation.overlaps import Overlaps, added_up
from densem.schema import LabelSchema


@dataclass(frozen=True, eq=False)
class Countable:
    """Overlaps of things alone.

    Attributes:
        overlaps: without the objects that are stuff.
        true_stuff, predicted_stuff: how many objects of which class were left away.
    """

    overlaps: Overlaps
    true_stuff: dict[str, int]
    predicted_stuff: dict[str, int]


def countable(overlaps: Overlaps, schema: LabelSchema | None) -> Countable:
    """Leave away the objects that are stuff.

    An object without a class stays, and all do where no class of the schema is a thing or no true classes
    are known.

    Args:
        overlaps: of all objects.
        schema: their classes.
    """
    if schema is None or not overlaps.classed[0] or not any(c.thing for c in schema.classes):
        return Countable(overlaps, {}, {})
    true = _stuff(overlaps.true_ids, overlaps.true_classes, overlaps.voxels, schema)
    predicted = _on_stuff(overlaps, true)
    if overlaps.classed[1]:
        own = _stuff(overlaps.predicted_ids, overlaps.predicted_classes, overlaps.voxels, schema)
        predicted = {i: channel for i, channel in predicted.items() if i in own}
    classes, true_ids, predicted_ids, voxels = added_up(
        (
            overlaps.classes,
            _without(overlaps.true_ids, true),
            _without(overlaps.predicted_ids, predicted),
            overlaps.voxels,
        )
    )
    kept = replace(overlaps, classes=classes, true_ids=true_ids, predicted_ids=predicted_ids, voxels=voxels)
    return Countable(kept, _named(true, schema), _named(predicted, schema))


_Stuff = dict[int, int]  # object id -> channel of its class


def _stuff(ids: np.ndarray, classes: np.ndarray, voxels: np.ndarray, schema: LabelSchema) -> _Stuff:
    """The objects of classes that are no things."""
    known = np.unique(ids[ids > 0])
    found = object_classes(known, ids, classes, voxels, schema)
    stuff = (found != NO_CLASS) & ~np.array([c.thing for c in schema.classes])[found]
    return dict(zip(known[stuff].tolist(), found[stuff].tolist(), strict=True))


def _on_stuff(overlaps: Overlaps, true: _Stuff) -> _Stuff:
    """Predicted objects more than half of which lies on true stuff, and of what class most of that is."""
    whole: Counter[int] = Counter()
    on: dict[int, Counter[int]] = {}
    rows = (overlaps.true_ids, overlaps.predicted_ids, overlaps.voxels)
    for below, above, voxels in zip(*(column.tolist() for column in rows), strict=True):
        whole[above] += voxels
        if above and below in true:
            on.setdefault(above, Counter())[true[below]] += voxels
    return {i: found.most_common(1)[0][0] for i, found in on.items() if 2 * found.total() > whole[i]}


def _without(ids: np.ndarray, stuff: _Stuff) -> np.ndarray:
    return np.where(np.isin(ids, np.array(list(stuff), np.uint64)), np.uint64(0), ids)


def _named(stuff: _Stuff, schema: LabelSchema) -> dict[str, int]:
    return dict(sorted(Counter(schema.names[channel] for channel in stuff.values()).items()))
