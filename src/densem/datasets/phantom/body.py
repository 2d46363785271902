"""Bodies: the outer form of a platelet, a flattened ellipsoid with rounded pseudopods, or a small fragment.

A body lies in material space, before the slow warp that makes outlines irregular, so that a form is a
few numbers and whether two overlap can be decided without drawing them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from densem.datasets.phantom.donor import Donor
from densem.datasets.phantom.solids import Cone, Ellipsoid, Places, blend, hull, tube

_ROUNDING_NM = 80.0


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
        return self._hull

    @cached_property
    def _hull(self) -> tuple[np.ndarray, np.ndarray]:
        return hull([self.trunk, *self.arms])


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
