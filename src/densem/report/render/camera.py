"""Camera: from where a scene is looked at, orthographically, so that a length is the same everywhere.

Directions are unit vectors in (x, y, z), as those of meshes. z, the axis of slicing, runs down the picture:

    azimuth 0, elevation 0     from the far end of y: x to the right, the first slice on top
    azimuth 0, elevation 90    from above, slices as an image viewer shows them: x to the right, y down
    azimuth grows              the camera goes round the z axis, to its right
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from densem.errors import ConfigError, nearest


@dataclass(frozen=True)
class View:
    """A direction to look from.

    Attributes:
        azimuth: degrees around the z axis.
        elevation: degrees above the slices, -90 to 90.
    """

    azimuth: float = 30.0
    elevation: float = 30.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.azimuth):
            raise ConfigError(f"--azimuth {self.azimuth:g}: expected degrees, such as 30")
        if not -90 <= self.elevation <= 90:
            raise ConfigError(
                f"--elevation {self.elevation:g}: expected -90 (from below) to 90 (from above) degrees"
            )

    @classmethod
    def named(cls, name: str, azimuth: float | None = None, elevation: float | None = None) -> View:
        """A view of `VIEWS`, with another azimuth or elevation where one is given.

        Raises:
            ConfigError: no such view, with the nearest name, or angles that are none.
        """
        if name not in VIEWS:
            raise ConfigError(
                f"--camera {name}: expected one of {', '.join(VIEWS)}.{nearest(name, list(VIEWS))}"
            )
        known = VIEWS[name]
        return cls(
            known.azimuth if azimuth is None else azimuth,
            known.elevation if elevation is None else elevation,
        )

    def turned(self, degrees: float) -> View:
        """The same from further round."""
        return View(self.azimuth + degrees, self.elevation)

    @property
    def axes(self) -> np.ndarray:
        """Rows right, up, towards the viewer: float64 (3, 3), each in (x, y, z)."""
        a, e = math.radians(self.azimuth), math.radians(self.elevation)
        level = np.array([math.sin(a), math.cos(a), 0.0])
        top = np.array([0.0, 0.0, -1.0])
        right = np.array([math.cos(a), -math.sin(a), 0.0])
        up = math.cos(e) * top - math.sin(e) * level
        return np.stack([right, up, math.cos(e) * level + math.sin(e) * top])


VIEWS = {"oblique": View(), "z": View(0, 90), "y": View(0, 0), "x": View(90, 0)}
"""Views by name: `z`, `y` and `x` look along that axis."""


@dataclass(frozen=True)
class Frame:
    """What of the world is in a picture.

    Attributes:
        centre_nm: the point in its middle, (x, y, z).
        nm_per_pixel: the same in all directions of the picture.
    """

    centre_nm: tuple[float, float, float]
    nm_per_pixel: float

    @classmethod
    def fitting(cls, points: np.ndarray, view: View, width: int, height: int, fill: float = 0.94) -> Frame:
        """All points, float (N, 3) in (x, y, z) and nm, in the middle of a picture of so many pixels."""
        axes = view.axes
        seen = points @ axes.T
        low, high = seen.min(axis=0), seen.max(axis=0)
        x, y, z = ((low + high) / 2) @ axes
        need = (high - low)[:2] / (fill * np.array([width, height]))
        return cls((float(x), float(y), float(z)), max(float(need.max()), 1e-6))

    @classmethod
    def fitting_round(cls, points: np.ndarray, views: list[View], width: int, height: int) -> Frame:
        """As `fitting`, for all views alike: the middle of the points' box stays in place."""
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        around = np.concatenate([points, 2 * middle - points])  # mirrored, so that every fit has its middle
        frames = [cls.fitting(around, view, width, height) for view in views]
        x, y, z = (float(v) for v in middle)
        return cls((x, y, z), max(frame.nm_per_pixel for frame in frames))

    def pixel_of(self, points: np.ndarray, view: View, width: int, height: int) -> np.ndarray:
        """Where points (N, 3) appear: float (N, 2), column and row from the upper left corner."""
        seen = (points - np.array(self.centre_nm)) @ view.axes[:2].T / self.nm_per_pixel
        return seen * (1, -1) + (width / 2, height / 2)
