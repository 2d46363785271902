"""Scene: coloured surfaces and cut planes in nm, ready to be looked at; coordinates are (x, y, z)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densem.meshes.mesh import Mesh

Color = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Body:
    """A surface of one class.

    Attributes:
        mesh: vertices in nm.
        name: of its class.
        color: 0 to 255.
        translucent: whether other bodies lie in it.
    """

    mesh: Mesh
    name: str
    color: Color
    translucent: bool = False


@dataclass(frozen=True, eq=False)
class CutPlane:
    """A picture standing in the scene.

    Attributes:
        pixels: grey values uint8 (rows, columns).
        origin_nm: the outer corner of its first pixel, (x, y, z).
        along_columns_nm: from there to the corner at the end of the first row.
        along_rows_nm: from there to the corner at the end of the first column.
        one_sided: whether it is left out where it would be seen from behind; its front is the side that
            along_rows x along_columns points to.
        margin_nm: it reaches so much further on all sides, with the grey of its rim.
    """

    pixels: np.ndarray
    origin_nm: np.ndarray
    along_columns_nm: np.ndarray
    along_rows_nm: np.ndarray
    one_sided: bool = False
    margin_nm: float = 0.0

    @property
    def corners(self) -> np.ndarray:
        """The four corners in nm, float (4, 3): origin, end of columns, opposite, end of rows."""
        (left, right), (top, bottom) = self.shares
        ends = ((left, top), (right, top), (right, bottom), (left, bottom))
        return np.stack(
            [self.origin_nm + c * self.along_columns_nm + r * self.along_rows_nm for c, r in ends]
        )

    @property
    def shares(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where its sides are along columns and rows, in lengths of the picture: 0 and 1 without margin."""
        wide, high = (
            self.margin_nm / float(np.linalg.norm(v)) for v in (self.along_columns_nm, self.along_rows_nm)
        )
        return (-wide, 1 + wide), (-high, 1 + high)


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn in one panel."""

    bodies: Sequence[Body]
    planes: Sequence[CutPlane] = ()
    title: str = ""

    @property
    def points(self) -> np.ndarray:
        """Every point that a picture must hold, float64 (N, 3) in nm."""
        parts = [body.mesh.vertices for body in self.bodies] + [plane.corners for plane in self.planes]
        return np.concatenate([np.asarray(p, np.float64).reshape(-1, 3) for p in parts] or [np.zeros((0, 3))])
