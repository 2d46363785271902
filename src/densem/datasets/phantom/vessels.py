"""Canalicular vessels: branching tubes that weave between what is placed already.

A tree starts at a free point inside, or with a stem at the cell's outline (its mouth, open to the
outside), and grows by cones at randomly chosen tips; a tip that finds no room ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from densem.datasets.phantom.body import direction
from densem.datasets.phantom.donor import Content, Donor
from densem.datasets.phantom.organelle import SCHEMA, Organelle, draw_grey, draw_radius
from densem.datasets.phantom.room import Budget, Room
from densem.datasets.phantom.solids import Cone

_TREE_NM3 = 22e6
_Tip = tuple[np.ndarray, np.ndarray, float]


def grow_vessels(room: Room, donor: Donor, volume: float, rng: np.random.Generator) -> Iterator[Organelle]:
    """Trees until the share of `volume` nm3 is met or no place is found."""
    content = donor.canalicular_vessel
    budget = Budget(content.share * volume, rng)
    for _ in range(150):
        goal = float(rng.uniform(0.2, 1.8) * _TREE_NM3)
        if not budget.allows(goal):
            return
        cones = _grow_tree(room, content, goal, rng)
        if len(cones) < 2:
            continue
        points = np.array([p for c in cones for p in (c.start, (c.start + c.stop) / 2, c.stop)])
        radii = np.array([r for c in cones for r in (c.radii[0], sum(c.radii) / 2, c.radii[1])])
        room.take(points, radii)
        budget.spend(sum(_cone_volume(c) for c in cones))
        yield Organelle(
            SCHEMA["canalicular_vessel"].id, tuple(cones), draw_grey(content, rng), direction(rng)
        )


def _cone_volume(cone: Cone) -> float:
    a, b = cone.radii
    return float(np.pi / 3 * (a * a + a * b + b * b) * np.linalg.norm(cone.stop - cone.start))


def _grow_tree(room: Room, content: Content, goal: float, rng: np.random.Generator) -> list[Cone]:
    """A branching tree of cones of about `goal` nm3; three in ten open to the outside."""
    root = _mouth(room, content, rng) if rng.random() < 0.3 else _seed(room, content, rng)
    if root is None:
        return []
    cones, tips = root
    volume = sum(_cone_volume(c) for c in cones)
    while tips and volume < goal:
        point, way, radius = tips.pop(int(rng.integers(len(tips))))
        cone = _extend(room, content, (point, way, radius), rng)
        if cone is None:
            continue
        cones.append(cone)
        volume += _cone_volume(cone)
        onward = (cone.stop - cone.start) / np.linalg.norm(cone.stop - cone.start)
        tips += [(cone.stop, onward, cone.radii[1])] * (2 if rng.random() < 0.3 else 1)
    return cones


def _extend(room: Room, content: Content, tip: _Tip, rng: np.random.Generator) -> Cone | None:
    """One more piece at a tip, if one of six tries finds room."""
    point, way, radius = tip
    for _ in range(6):
        ahead = way + 0.55 * rng.normal(size=3)
        stop = point + ahead / np.linalg.norm(ahead) * rng.uniform(110, 230)
        wide = float(np.clip(np.sqrt(radius * draw_radius(content, rng)), 40, 260))
        wide *= 2.0 if rng.random() < 0.04 else 1.0
        if room.fits(np.array([(point + stop) / 2, stop]), np.array([(radius + wide) / 2, wide]), 25.0):
            return Cone(point, stop, (radius, wide))
    return None


def _seed(room: Room, content: Content, rng: np.random.Generator) -> tuple[list[Cone], list[_Tip]] | None:
    """Two tips that lead away from a free point inside."""
    for point in room.scatter(rng, 24, 120.0):
        radius, way = draw_radius(content, rng), direction(rng)
        if room.fits(point[None], np.array([radius])):
            return [], [(point, way, radius), (point, -way, radius)]
    return None


def _mouth(room: Room, content: Content, rng: np.random.Generator) -> tuple[list[Cone], list[_Tip]] | None:
    """A stem from the outline inwards, where no neighbour touches."""
    trunk = room.body.trunk
    for _ in range(12):
        place, radius = direction(rng), draw_radius(content, rng)
        way = trunk.axes @ (place / trunk.radii)
        way /= np.linalg.norm(way)
        outer = trunk.centre + trunk.axes @ (place * trunk.radii) + 40.0 * way
        inner = outer - way * (2.0 * radius + 190.0)
        open_there = room.depth((outer - 130.0 * way)[None])[0] < -80.0
        if open_there and room.fits(inner[None], np.array([radius])):
            return [Cone(outer, inner, (radius, radius))], [(inner, -way, radius)]
    return None
