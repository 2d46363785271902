"""Nesting: thing classes sorted into levels, so that objects of one level never overlap.

    level 0   cell                                    the outermost things
    level 1   mitochondrion  alpha_granule  ...       things in a thing of level 0

The object of a class is the class with all its descendants. Two things of the same level have no thing above
each other, so every voxel belongs to one class of a level at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from densem.objects.rules import ClassRule, Rules
from densem.schema import LabelSchema


@dataclass(frozen=True)
class Level:
    """The things of one level.

    Attributes:
        number: 0 for the outermost.
        schema: all classes.
        names: the thing classes of the level in order of id; thing k is `names[k - 1]`.
        rules: their rules.
    """

    number: int
    schema: LabelSchema
    names: tuple[str, ...]
    rules: tuple[ClassRule, ...]

    @cached_property
    def thing_of_id(self) -> np.ndarray:
        """Lookup uint8 (256,): class id -> 1 + position in `names`; 0 where it is no thing of this level."""
        table = np.zeros(256, np.uint8)
        for number, name in enumerate(self.names, start=1):
            table[list(self.schema.descendant_ids(name))] = number
        return table

    @property
    def fills(self) -> bool:
        """Whether holes of any class are filled."""
        return any(rule.fill_holes_nm3 > 0 for rule in self.rules)

    @property
    def splits(self) -> bool:
        """Whether objects of any class are split."""
        return any(rule.method != "components" for rule in self.rules)


def levels(schema: LabelSchema, rules: Rules) -> tuple[Level, ...]:
    """The levels of a schema with a thing class, outermost first."""
    by_depth: dict[int, list[str]] = {}
    for entry in schema.classes:
        if entry.thing:
            by_depth.setdefault(_things_above(schema, entry.name), []).append(entry.name)
    return tuple(
        Level(n, schema, tuple(names), tuple(rules[name] for name in names))
        for n, (_, names) in enumerate(sorted(by_depth.items()))
    )


def _things_above(schema: LabelSchema, name: str) -> int:
    count, here = 0, schema[name]
    while here.parent is not None:
        here = schema[here.parent]
        count += here.thing
    return count
