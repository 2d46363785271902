"""Solids: forms given by a signed distance in nm, negative inside and exact near zero.

Places are three arrays (z, y, x) of one shape, in nm. An ellipsoid's distance is the usual first-order
one (exact on the surface); a tube is a chain of round cones joined by their minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Places = tuple[np.ndarray, np.ndarray, np.ndarray]


class Solid(Protocol):
    """What can be drawn: a signed distance and a box that holds it."""

    def distance(self, at: Places) -> np.ndarray:
        """Signed distance in nm, of the shape of the places."""
        ...

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner in nm, float64 (3,), (z, y, x)."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; `axes` has the unit axes as columns, float64 (3, 3), `radii` their half lengths in nm."""

    centre: np.ndarray
    axes: np.ndarray
    radii: np.ndarray

    def distance(self, at: Places) -> np.ndarray:
        """Signed distance in nm, exact on the surface."""
        to_unit = (self.axes / self.radii).T.astype(np.float32)
        d = [a - np.float32(c) for a, c in zip(at, self.centre, strict=True)]
        near = np.float32(1e-12)
        far = near * np.float32(1 / self.radii.min() ** 2)
        for row, radius in zip(to_unit, self.radii, strict=True):
            u = row[0] * d[0] + row[1] * d[1] + row[2] * d[2]
            u *= u
            near = near + u
            far = far + u * np.float32(1 / radius**2)
        length = np.sqrt(near)
        return length * (length - np.float32(1)) / np.sqrt(far)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner in nm."""
        half = np.sqrt(((self.axes * self.radii) ** 2).sum(axis=1))
        return self.centre - half, self.centre + half


@dataclass(frozen=True)
class Cone:
    """A round cone from `start` to `stop`, with the radii in nm at its ends."""

    start: np.ndarray
    stop: np.ndarray
    radii: tuple[float, float]

    def distance(self, at: Places) -> np.ndarray:
        """Signed distance in nm."""
        way = (self.stop - self.start).astype(np.float32)
        d = [a - np.float32(c) for a, c in zip(at, self.start, strict=True)]
        along = (d[0] * way[0] + d[1] * way[1] + d[2] * way[2]) * np.float32(1 / max(float(way @ way), 1e-9))
        np.clip(along, 0, 1, out=along)
        square = sum((a - along * w) ** 2 for a, w in zip(d, way, strict=True))
        first, last = self.radii
        return np.sqrt(square) - (np.float32(first) + along * np.float32(last - first))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner in nm."""
        a, b = self.radii
        return np.minimum(self.start - a, self.stop - b), np.maximum(self.start + a, self.stop + b)


def tube(points: Sequence[np.ndarray], radii: Sequence[float]) -> tuple[Cone, ...]:
    """A chain of round cones through the points."""
    pairs = zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
    return tuple(Cone(a, b, (float(ra), float(rb))) for a, b, ra, rb in pairs)


def blend(a: np.ndarray, b: np.ndarray, reach_nm: float) -> np.ndarray:
    """Union of two distances, rounded where they meet within `reach_nm`."""
    h = np.maximum(np.float32(reach_nm) - np.abs(a - b), 0) * np.float32(1 / reach_nm)
    return np.minimum(a, b) - h * h * np.float32(reach_nm / 4)


def hull(parts: Sequence[Solid]) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box that holds all parts, in nm."""
    corners = [p.bounds() for p in parts]
    return np.min([c[0] for c in corners], axis=0), np.max([c[1] for c in corners], axis=0)
