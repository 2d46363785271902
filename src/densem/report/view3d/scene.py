"""Scene: surfaces of objects packed for a page: JSON that says what they are, and one block of bytes.

    positions  uint16 x, y, z of every vertex: steps of `step_nm` from `origin_nm`, the same in all directions
    triangles  the vertices of each triangle, counted within its object: uint16, or uint32 in an object
               with more than 65,536 vertices

Bytes, little-endian: the uint32 indices, then the uint16 indices, then the positions, each in order of
objects; so everything is aligned. An object's colour and name are those of its class.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from densem.meshes.mesh import Mesh
from densem.volumes.volume import Nanometres

LARGEST = 65_535
"""Largest coordinate; also the number of objects that the view can tell apart."""
VERTEX_BYTES = 6
_NARROW = 65_536  # vertices that 16 bits can number


@dataclass(frozen=True)
class SceneClass:
    """A class as it is shown.

    Attributes:
        name: in words.
        color: `#rrggbb`.
        translucent: whether it is glass around other objects.
    """

    name: str
    color: str
    translucent: bool = False


@dataclass(frozen=True, eq=False)
class SceneObject:
    """An object and its surface.

    Attributes:
        id: as in the table of objects; 0 for stuff, which is not counted.
        kind: position of its class among the classes of the scene.
        mesh: its surface in nm.
        volume_nm3: as in the table: counted in voxels, not the volume of the mesh.
        parent: id of the object it lies in; 0 for none.
        touches_border: whether the volume's border cuts it.
    """

    id: int
    kind: int
    mesh: Mesh
    volume_nm3: float
    parent: int = 0
    touches_border: bool = False


@dataclass(frozen=True, eq=False)
class Scene:
    """What a 3D view shows.

    Attributes:
        classes: in the order in which they are listed.
        objects: at most 65,534.
        low_nm, high_nm: corners of the volume, x, y, z, in nm; drawn as a box.
    """

    classes: tuple[SceneClass, ...]
    objects: tuple[SceneObject, ...]
    low_nm: Nanometres
    high_nm: Nanometres

    def __post_init__(self) -> None:
        assert len(self.objects) < LARGEST

    @cached_property
    def origin_nm(self) -> np.ndarray:
        """Where coordinate 0 lies, float64 x, y, z."""
        return self._bounds[0]

    @cached_property
    def step_nm(self) -> float:
        """Length of one step of a coordinate."""
        return float((self._bounds[1] - self._bounds[0]).max()) / LARGEST

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of all that is shown, the volume's box included."""
        corners = [np.array([self.low_nm, self.high_nm], np.float64)]
        for shown in self.objects:
            vertices = shown.mesh.vertices
            if len(vertices):
                corners.append(np.array([vertices.min(axis=0), vertices.max(axis=0)], np.float64))
        everything = np.concatenate(corners)
        return everything.min(axis=0), everything.max(axis=0)

    @property
    def count(self) -> int:
        """How many objects there are, stuff left aside."""
        return sum(o.id > 0 for o in self.objects)

    @property
    def triangles(self) -> int:
        """How many there are in all."""
        return sum(len(o.mesh.faces) for o in self.objects)

    def description(self) -> str:
        """All but the surfaces, as JSON."""
        record: dict[str, Any] = {
            "classes": [asdict(c) for c in self.classes],
            "origin_nm": [round(float(v), 3) for v in self.origin_nm],
            "step_nm": self.step_nm,
            "box": [self._steps(np.array(corner)).tolist() for corner in (self.low_nm, self.high_nm)],
            "id": [o.id for o in self.objects],
            "kind": [o.kind for o in self.objects],
            "parent": [o.parent for o in self.objects],
            "volume_nm3": [round(float(o.volume_nm3), 1) for o in self.objects],
            "border": [int(o.touches_border) for o in self.objects],
            "vertices": [len(o.mesh.vertices) for o in self.objects],
            "triangles": [len(o.mesh.faces) for o in self.objects],
        }
        return json.dumps(record, separators=(",", ":"))

    def payload(self) -> str:
        """The surfaces, in base64."""
        meshes = [o.mesh for o in self.objects]
        wide = [m.faces.astype("<u4").tobytes() for m in meshes if len(m.vertices) > _NARROW]
        narrow = [m.faces.astype("<u2").tobytes() for m in meshes if len(m.vertices) <= _NARROW]
        places = [self._steps(m.vertices).astype("<u2").tobytes() for m in meshes]
        return base64.b64encode(b"".join([*wide, *narrow, *places])).decode()

    def _steps(self, points_nm: np.ndarray) -> np.ndarray:
        """Coordinates of points (N, 3) in nm, rounded to the nearest step."""
        steps = (points_nm.astype(np.float64) - self.origin_nm) / self.step_nm
        return np.clip(np.rint(steps), 0, LARGEST).astype(np.int64)


def packed_bytes(vertices: int, triangles: int) -> int:
    """Bytes of the page that an object's surface takes, in base64."""
    return -(-4 * (VERTEX_BYTES * vertices + (12 if vertices > _NARROW else 6) * triangles) // 3)


def decode(description: str, payload: str) -> list[Mesh]:
    """The surfaces in order of the objects, as the page's script reads them."""
    record, data = json.loads(description), base64.b64decode(payload)
    sizes = list(zip(record["vertices"], record["triangles"], strict=True))
    wide = _starts(12 * t if v > _NARROW else 0 for v, t in sizes)
    narrow = _starts((6 * t if v <= _NARROW else 0 for v, t in sizes), wide[-1])
    places = _starts((VERTEX_BYTES * v for v, _ in sizes), narrow[-1])
    meshes = []
    for n, (vertices, triangles) in enumerate(sizes):
        kind, start = ("<u4", wide[n]) if vertices > _NARROW else ("<u2", narrow[n])
        faces = np.frombuffer(data, kind, 3 * triangles, start).reshape(-1, 3).astype(np.uint32)
        steps = np.frombuffer(data, "<u2", 3 * vertices, places[n]).reshape(-1, 3)
        points = np.array(record["origin_nm"]) + steps * record["step_nm"]
        meshes.append(Mesh(points.astype(np.float32), faces))
    return meshes


def _starts(lengths: Any, first: int = 0) -> Sequence[int]:
    """Where each of several parts that follow each other starts, and where the last one ends."""
    return [first, *(first + np.cumsum(list(lengths), dtype=np.int64)).tolist()]
