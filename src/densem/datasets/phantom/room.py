"""Room: what is left inside a body, given the neighbours that press on it and what is placed already.

The depth below the cell's border is tabulated once on a lattice around the trunk; organelles are balls
while they look for a place. A budget says how much of a kind is still to be placed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from densem.datasets.phantom.body import Body

MARGIN_NM = 60.0
"""How far below the border organelles stay."""
_SPACE_NM = 35.0
_DEPTH_STEP_NM = 120.0


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

        Read from a lattice around the trunk, so exact to a few nm; outside it the edge is read.
        """
        local = (points - self.body.trunk.centre) @ self.body.trunk.axes - self._corner
        return ndimage.map_coordinates(self._depth, (local / _DEPTH_STEP_NM).T, order=1, mode="nearest")

    def fits(self, points: np.ndarray, radii: np.ndarray, margin_nm: float = MARGIN_NM) -> bool:
        """Whether balls at points (N, 3) lie inside by a margin and away from all that is taken."""
        return self._is_free(points, radii) and bool((self.depth(points) < -(radii + margin_nm)).all())

    def _is_free(self, points: np.ndarray, radii: np.ndarray) -> bool:
        away = points[:, None] - self._centres
        apart = np.einsum("ijk,ijk->ij", away, away)
        return not (apart < (radii[:, None] + self._radii + _SPACE_NM) ** 2).any()

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


class Budget:
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
