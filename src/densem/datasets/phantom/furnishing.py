"""Furnishing: organelles placed into a cell one after the other, until the donor's shares are met.

The rare and the large come first: dense granules, mitochondria, alpha granules; then the vessels, which can
weave between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from densem.datasets.phantom.body import direction, turn
from densem.datasets.phantom.donor import Donor
from densem.datasets.phantom.organelle import MAX_ORGANELLES, SCHEMA, Organelle, draw_grey, draw_radius
from densem.datasets.phantom.room import Budget, Room
from densem.datasets.phantom.solids import Ellipsoid, tube
from densem.datasets.phantom.vessels import grow_vessels


@dataclass(frozen=True)
class Plan:
    """How much of each kind a cell shall hold: multiples of the donor's shares.

    Attributes:
        donor: sizes, greys and shares.
        mitochondria, alpha_granules, vessels, dense_granules: times the donor's share.
    """

    donor: Donor
    mitochondria: float = 1.0
    alpha_granules: float = 1.0
    vessels: float = 1.0
    dense_granules: float = 1.0


def furnish(room: Room, plan: Plan, rng: np.random.Generator) -> tuple[Organelle, ...]:
    """Place organelles until the shares are met or no place is found; rare and large things first."""
    volume, donor = room.volume(rng), plan.donor
    placed: list[Organelle] = []
    placed += _dense_granules(room, donor, volume * plan.dense_granules, rng)
    placed += _mitochondria(room, donor, volume * plan.mitochondria, rng)
    placed += _alpha_granules(room, donor, volume * plan.alpha_granules, rng)
    placed += grow_vessels(room, donor, volume * plan.vessels, rng)
    return tuple(placed[:MAX_ORGANELLES])


def _ball_volume(radius: float) -> float:
    return float(4 / 3 * np.pi * radius**3)


def _spots(
    room: Room, rng: np.random.Generator, radii: Iterator[float], total: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Places and radii of free balls whose volumes add up to `total` nm3."""
    budget, radius = Budget(total, rng), next(radii)
    for _ in range(16):
        for point in room.scatter(rng, 96, 100.0):
            if not budget.allows(_ball_volume(radius)):
                return
            if room.fits(point[None], np.array([radius])):
                room.take(point[None], np.array([radius]))
                yield point, radius
                budget.spend(_ball_volume(radius))
                radius = next(radii)


def _ball(centre: np.ndarray, radius: float, rng: np.random.Generator, flatness: float) -> Ellipsoid:
    """An ellipsoid inside the ball of that radius, of about its volume."""
    return Ellipsoid(centre, turn(rng, 90.0), radius * (1 - flatness * rng.random(3)))


def _alpha_granules(room: Room, donor: Donor, volume: float, rng: np.random.Generator) -> Iterator[Organelle]:
    content = donor.alpha_granule
    radii = iter(lambda: float(np.clip(draw_radius(content, rng), 60, 330)), None)
    for centre, radius in _spots(room, rng, radii, content.share * volume * 1.3):
        solid = _ball(centre, radius, rng, 0.25)
        yield Organelle(SCHEMA["alpha_granule"].id, (solid,), draw_grey(content, rng), direction(rng))


def _dense_granules(room: Room, donor: Donor, volume: float, rng: np.random.Generator) -> Iterator[Organelle]:
    content, inner = donor.dense_granule, donor.dense_granule_core
    radii = iter(lambda: float(np.clip(draw_radius(content, rng), 110, 260)), None)
    for centre, radius in _spots(room, rng, radii, content.share * volume * 1.15):
        solid = _ball(centre, radius, rng, 0.12)
        size = min(draw_radius(inner, rng), 0.6 * radius)
        core = _ball(centre + direction(rng) * rng.uniform(0, 0.3) * (radius * 0.85 - size), size, rng, 0.2)
        yield Organelle(SCHEMA["dense_granule"].id, (solid,), draw_grey(content, rng), direction(rng), core)


def _mitochondria(room: Room, donor: Donor, volume: float, rng: np.random.Generator) -> Iterator[Organelle]:
    content = donor.mitochondrion
    budget, radius = Budget(content.share * volume, rng), draw_radius(content, rng)
    for centre in room.scatter(rng, 400, 200.0):
        points = _bent(centre, rng.uniform(0.6, 2.6) * radius, rng)
        way, radii = points[-1] - points[0], radius * np.array([0.9, 1.0, 1.0, 1.0, 0.9])
        size = float(np.pi * radius**2 * (np.linalg.norm(way) + 4 / 3 * radius))
        if not budget.allows(size):
            return
        if room.fits(points, radii):
            room.take(points, radii)
            budget.spend(size)
            radius = draw_radius(content, rng)
            solids = tube(list(points), radii.tolist())
            axis = way / np.linalg.norm(way)
            yield Organelle(SCHEMA["mitochondrion"].id, solids, draw_grey(content, rng), axis)


def _bent(centre: np.ndarray, half_nm: float, rng: np.random.Generator) -> np.ndarray:
    """Five points (5, 3) on a slightly bent line through `centre`."""
    way, side = direction(rng), direction(rng)
    t = np.linspace(-1, 1, 5)[:, None]
    return centre + t * half_nm * way + (t**2 - 0.5) * 0.25 * half_nm * side
