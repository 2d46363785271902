"""One platelet: its outer form, and the organelles that are placed into it one after the other.

1. `grow_body`: a flattened ellipsoid with rounded pseudopods, or a small cell fragment.
2. `Room`: what is left inside a body, given the neighbours that press on it and what is placed already.
3. `furnish`: dense granules, mitochondria, alpha granules, canalicular vessels, until the donor's shares are met.

Everything lies in material space, before the slow warp that makes outlines irregular, so that a form
is a few numbers and whether things overlap can be decided without drawing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from densem.datasets.phantom.donor import Content, Donor
from densem.datasets.phantom.solids import Cone, Ellipsoid, Places, Solid, blend, hull, tube
from densem.schema import LabelSchema

SCHEMA = LabelSchema.resolve("platelet")
"""The classes of a phantom."""

MAX_ORGANELLES = 1000
_ROUNDING_NM = 80.0
_MARGIN_NM = 60.0
_SPACE_NM = 35.0
_DEPTH_STEP_NM = 80.0
_TREE_NM3 = 22e6


@dataclass(frozen=True)
class Body:
    """The outer form of a cell.

    Attributes:
        number: id of the cell, above 0, unique in the volume.
        trunk: the main part.
        arms: pseudopods, joined smoothly to the trunk.
        shade: grey of its cytoplasm against the donor's mean.
        fragment: a small piece of a cell, without organelles.
    """

    number: int
    trunk: Ellipsoid
    arms: tuple[Cone, ...] = ()
    shade: float = 0.0
    fragment: bool = False

    def distance(self, at: Places) -> np.ndarray:
        """Signed distance to the outline in nm, as if the cell were alone."""
        d = self.trunk.distance(at)
        for arm in self.arms:
            d = blend(d, arm.distance(at), _ROUNDING_NM)
        return d

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of the box around it, in nm."""
        return hull([self.trunk, *self.arms])


@dataclass(frozen=True)
class Organelle:
    """An organelle in a body.

    Attributes:
        label: class id.
        parts: solids whose union it is.
        grey: of the inside.
        axis: direction of its internal order (cristae), unit vector.
        core: the dark core of a dense granule.
    """

    label: int
    parts: tuple[Solid, ...]
    grey: float
    axis: np.ndarray
    core: Ellipsoid | None = None


# ---- outer form --------------------------------------------------------------------------------


def turn(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """A random rotation by about so many degrees about each axis, float64 (3, 3)."""
    angles = np.radians(rng.normal(0, degrees, 3))
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        result = step @ result
    return result


def direction(rng: np.random.Generator) -> np.ndarray:
    """A unit vector, uniform on the sphere."""
    v = rng.normal(size=3)
    return v / np.linalg.norm(v)


def grow_body(
    number: int, centre: np.ndarray, frame: np.ndarray, donor: Donor, rng: np.random.Generator
) -> Body:
    """A whole cell near `centre`, roughly along the columns of `frame` (length, breadth, width)."""
    radii = np.array(donor.semi_axes_nm) * np.exp(rng.normal(0, (0.15, 0.12, 0.12)))
    trunk = Ellipsoid(centre, turn(rng, 8.0) @ frame, radii)
    arms = [arm for _ in range(rng.poisson(0.8)) for arm in _grow_arm(trunk, rng)]
    return Body(number, trunk, tuple(arms), float(rng.normal(0, donor.cytoplasm_spread)))


def _grow_arm(trunk: Ellipsoid, rng: np.random.Generator) -> tuple[Cone, ...]:
    """A pseudopod: a bent, tapering tube that starts inside the trunk near one of its ends."""
    place = direction(rng) * (1.6, 1.0, 1.0)
    place /= np.linalg.norm(place)
    way = trunk.axes @ (place / trunk.radii)
    way /= np.linalg.norm(way)
    points = [trunk.centre + trunk.axes @ (place * trunk.radii) - 150.0 * way]
    for _ in range(4):
        way = way + 0.35 * rng.normal(size=3)
        way /= np.linalg.norm(way)
        points.append(points[-1] + way * rng.uniform(120, 300))
    return tube(points, np.linspace(rng.uniform(110, 190), rng.uniform(45, 80), 5).tolist())


def grow_fragment(number: int, centre: np.ndarray, donor: Donor, rng: np.random.Generator) -> Body:
    """A small piece of a cell, of the size of a granule."""
    radii = rng.uniform(90, 240) * np.exp(rng.normal(0, 0.25, 3))
    return Body(number, Ellipsoid(centre, turn(rng, 90.0), radii), (), float(rng.normal(-0.05, 0.05)), True)


# ---- room inside -------------------------------------------------------------------------------


class Room:
    """The inside of a body between its neighbours, and the balls in it that are taken.

    Args:
        body: whose inside it is.
        rivals: bodies near it; where two overlap, the border lies halfway.
        gap_nm: width of the gap between touching cells.
    """

    def __init__(self, body: Body, rivals: Sequence[Body], gap_nm: float) -> None:
        self.body = body
        self._centres, self._radii = np.zeros((0, 3)), np.zeros(0)
        sides = np.ceil(2 * body.trunk.radii / _DEPTH_STEP_NM).astype(int) + 3
        self._corner = -(sides - 1) * _DEPTH_STEP_NM / 2
        local = np.stack(np.meshgrid(*(np.arange(n) for n in sides), indexing="ij"), -1) * _DEPTH_STEP_NM
        world = ((local + self._corner) @ body.trunk.axes.T + body.trunk.centre).astype(np.float32)
        at = (world[..., 0], world[..., 1], world[..., 2])
        own = self._depth = body.distance(at)
        for rival in rivals:
            self._depth = np.maximum(self._depth, (own - rival.distance(at) + gap_nm) / 2)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Signed distance in nm from points (N, 3) to the border of the cell; negative inside.

        Read from a lattice around the trunk, so exact to a few nm; outside the lattice it is that of its edge.
        """
        local = (points - self.body.trunk.centre) @ self.body.trunk.axes - self._corner
        return ndimage.map_coordinates(self._depth, (local / _DEPTH_STEP_NM).T, order=1, mode="nearest")

    def fits(self, points: np.ndarray, radii: np.ndarray, margin_nm: float = _MARGIN_NM) -> bool:
        """Whether balls at points (N, 3) lie inside by a margin and away from all that is taken."""
        return self._is_free(points, radii) and bool((self.depth(points) < -(radii + margin_nm)).all())

    def _is_free(self, points: np.ndarray, radii: np.ndarray) -> bool:
        apart = np.linalg.norm(points[:, None] - self._centres[None], axis=2)
        return bool((apart > radii[:, None] + self._radii[None] + _SPACE_NM).all())

    def take(self, points: np.ndarray, radii: np.ndarray) -> None:
        """Mark balls as taken."""
        self._centres = np.concatenate([self._centres, points])
        self._radii = np.concatenate([self._radii, radii])

    def scatter(self, rng: np.random.Generator, count: int, inset_nm: float) -> np.ndarray:
        """Points (<= count, 3), uniform in the trunk, deeper than `inset_nm`."""
        trunk = self.body.trunk
        ball = rng.normal(size=(count, 3))
        ball *= (rng.random(count) ** (1 / 3) / np.linalg.norm(ball, axis=1))[:, None]
        points = trunk.centre + (ball * trunk.radii) @ trunk.axes.T
        return points[self.depth(points) < -inset_nm]

    def volume(self, rng: np.random.Generator) -> float:
        """Volume of the cell in nm3, estimated from 2,000 points in the trunk."""
        share = len(self.scatter(rng, 2000, 0.0)) / 2000
        return float(share * 4 / 3 * np.pi * np.prod(self.body.trunk.radii))


# ---- organelles --------------------------------------------------------------------------------


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
    placed += _vessels(room, donor, volume * plan.vessels, rng)
    return tuple(placed[:MAX_ORGANELLES])


def _radius(content: Content, rng: np.random.Generator) -> float:
    return float(content.radius_nm * np.exp(rng.normal(0, content.radius_spread)))


def _grey(content: Content, rng: np.random.Generator) -> float:
    return float(rng.normal(content.grey, content.grey_spread))


class _Budget:
    """A volume in nm3 to be filled; the last object is taken by chance, so that the mean is met exactly."""

    def __init__(self, volume: float, rng: np.random.Generator) -> None:
        self._left, self._rng = volume, rng
        self._chance = rng.random()

    def spend(self, volume: float) -> None:
        """An object of that volume was placed."""
        self._left -= volume
        self._chance = self._rng.random()

    def allows(self, volume: float) -> bool:
        """Whether an object of that volume shall still be placed."""
        return self._left > self._chance * volume


def _ball_volume(radius: float) -> float:
    return float(4 / 3 * np.pi * radius**3)


def _spots(
    room: Room, rng: np.random.Generator, radii: Iterator[float], total: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Places and radii of free balls whose volumes add up to `total` nm3."""
    budget, radius = _Budget(total, rng), next(radii)
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
    radii = iter(lambda: float(np.clip(_radius(content, rng), 60, 330)), None)
    for centre, radius in _spots(room, rng, radii, content.share * volume * 1.3):
        solid = _ball(centre, radius, rng, 0.25)
        yield Organelle(SCHEMA["alpha_granule"].id, (solid,), _grey(content, rng), direction(rng))


def _dense_granules(room: Room, donor: Donor, volume: float, rng: np.random.Generator) -> Iterator[Organelle]:
    content, inner = donor.dense_granule, donor.dense_granule_core
    radii = iter(lambda: float(np.clip(_radius(content, rng), 110, 260)), None)
    for centre, radius in _spots(room, rng, radii, content.share * volume * 1.15):
        solid = _ball(centre, radius, rng, 0.12)
        size = min(_radius(inner, rng), 0.6 * radius)
        core = _ball(centre + direction(rng) * rng.uniform(0, 0.3) * (radius * 0.85 - size), size, rng, 0.2)
        yield Organelle(SCHEMA["dense_granule"].id, (solid,), _grey(content, rng), direction(rng), core)


def _mitochondria(room: Room, donor: Donor, volume: float, rng: np.random.Generator) -> Iterator[Organelle]:
    content = donor.mitochondrion
    budget, radius = _Budget(content.share * volume, rng), _radius(content, rng)
    for centre in room.scatter(rng, 400, 200.0):
        points = _bent(centre, rng.uniform(0.6, 2.6) * radius, rng)
        way, radii = points[-1] - points[0], radius * np.array([0.9, 1.0, 1.0, 1.0, 0.9])
        size = np.pi * radius**2 * (np.linalg.norm(way) + 4 / 3 * radius)
        if not budget.allows(size):
            return
        if room.fits(points, radii):
            room.take(points, radii)
            budget.spend(size)
            radius = _radius(content, rng)
            solids = tube(list(points), radii.tolist())
            axis = way / np.linalg.norm(way)
            yield Organelle(SCHEMA["mitochondrion"].id, solids, _grey(content, rng), axis)


def _bent(centre: np.ndarray, half_nm: float, rng: np.random.Generator) -> np.ndarray:
    """Five points (5, 3) on a slightly bent line through `centre`."""
    way, side = direction(rng), direction(rng)
    t = np.linspace(-1, 1, 5)[:, None]
    return centre + t * half_nm * way + (t**2 - 0.5) * 0.25 * half_nm * side


# ---- canalicular vessels -----------------------------------------------------------------------


def _vessels(room: Room, donor: Donor, volume: float, rng: np.random.Generator) -> Iterator[Organelle]:
    content = donor.canalicular_vessel
    budget = _Budget(content.share * volume, rng)
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
        yield Organelle(SCHEMA["canalicular_vessel"].id, tuple(cones), _grey(content, rng), direction(rng))


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


_Tip = tuple[np.ndarray, np.ndarray, float]


def _extend(room: Room, content: Content, tip: _Tip, rng: np.random.Generator) -> Cone | None:
    """One more piece at a tip, if one of six tries finds room."""
    point, way, radius = tip
    for _ in range(6):
        ahead = way + 0.55 * rng.normal(size=3)
        stop = point + ahead / np.linalg.norm(ahead) * rng.uniform(110, 230)
        wide = float(np.clip(np.sqrt(radius * _radius(content, rng)), 40, 260))
        wide *= 2.0 if rng.random() < 0.04 else 1.0
        if room.fits(np.array([(point + stop) / 2, stop]), np.array([(radius + wide) / 2, wide]), 25.0):
            return Cone(point, stop, (radius, wide))
    return None


def _seed(room: Room, content: Content, rng: np.random.Generator) -> tuple[list[Cone], list[_Tip]] | None:
    """Two tips that lead away from a free point inside."""
    for point in room.scatter(rng, 24, 120.0):
        radius, way = _radius(content, rng), direction(rng)
        if room.fits(point[None], np.array([radius])):
            return [], [(point, way, radius), (point, -way, radius)]
    return None


def _mouth(room: Room, content: Content, rng: np.random.Generator) -> tuple[list[Cone], list[_Tip]] | None:
    """A stem from the outline inwards, where no neighbour touches."""
    trunk = room.body.trunk
    for _ in range(12):
        place, radius = direction(rng), _radius(content, rng)
        way = trunk.axes @ (place / trunk.radii)
        way /= np.linalg.norm(way)
        outer = trunk.centre + trunk.axes @ (place * trunk.radii) + 40.0 * way
        inner = outer - way * (2.0 * radius + 190.0)
        open_there = room.depth((outer - 130.0 * way)[None])[0] < -80.0
        if open_there and room.fits(inner[None], np.array([radius])):
            return [Cone(outer, inner, (radius, radius))], [(inner, -way, radius)]
    return None
