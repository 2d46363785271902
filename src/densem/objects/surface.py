"""Surface area and Euler number of voxel bodies, from counts that add up over blocks.

Area: lines of 13 directions are laid through the voxels. Crofton's formula: the area is twice the mean, over
all directions, of the area that the lines hit, counted with each crossing of the surface

    S = 2 sum_d  c_d  N_d  v / |d|

with N_d crossings between voxels p and p + d, v the volume of a voxel (v / |d| is the area that a line stands
for) and c_d the share of the sphere that is nearest to direction d. Directions are those of a cubic lattice:
along an axis whose voxels are n times as short as the longest ones, d takes n steps where it is oblique to
a longer axis, so that long voxels do not leave most of the sphere without a direction. The area of a crossing
is rounded to 1e-6 nm2, so that sums are whole numbers: exact, in any order.

In a volume of a single slice no line leaves the slice: the same formula in the plane, with pi / 2 instead of
2 and c_d the share of the circle, gives the length of the outlines times the thickness.

Euler number: bodies less tunnels plus cavities, by counting corners, edges, faces and voxels of the union.

Sources: Lehmann and Legland, Efficient N-dimensional surface estimation using Crofton formula and run-length
encoding, 2012; Ohser and Muecklich, Statistical Analysis of Microstructures, 2000.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import SphericalVoronoi

from densem.blocks import Triple, triple
from densem.objects.seams import NEIGHBOURS
from densem.volumes.volume import Nanometres

UNIT_NM2 = 1e-6
"""Areas are summed as whole numbers of this."""
LONGEST_STEP = 8
CORNERS = tuple(itertools.product((0, 1), repeat=3))


@dataclass(frozen=True)
class Direction:
    """A direction of lines: voxel to voxel by `step`; each crossing counts `area` units of `UNIT_NM2`."""

    step: Triple
    area: int


@functools.cache
def directions(voxel_size_nm: Nanometres, flat: tuple[bool, ...] = (False,) * 3) -> tuple[Direction, ...]:
    """The 13 directions for a voxel size; of them those across no `flat` axis, of a single voxel."""
    longest = max(voxel_size_nm)
    steps = [min(LONGEST_STEP, max(1, round(longest / v))) for v in voxel_size_nm]
    found = []
    for way in NEIGHBOURS:
        if any(w and f for w, f in zip(way, flat, strict=True)):
            continue
        step = [w * s for w, s in zip(way, steps, strict=True)]
        common = math.gcd(*step)
        found.append(triple(s // common for s in step))
    vectors = np.array(found).reshape(-1, 3) * np.array(voxel_size_nm)
    lengths = np.linalg.norm(vectors, axis=1)
    areas = _weights(vectors / lengths[:, None], flat) * math.prod(voxel_size_nm) / lengths
    return tuple(Direction(s, round(a / UNIT_NM2)) for s, a in zip(found, areas, strict=True))


def _weights(rays: np.ndarray, flat: tuple[bool, ...]) -> np.ndarray:
    """Factor of Crofton's formula times the share of the sphere, or circle, nearest to each direction."""
    if sum(flat) == 0:
        whole: np.ndarray = SphericalVoronoi(np.concatenate([rays, -rays])).calculate_areas()
        return 2 * (whole[: len(rays)] / (2 * np.pi))
    if sum(flat) > 1:
        return np.ones(len(rays))
    angles = np.arctan2(*rays[:, ~np.array(flat)].T) % np.pi
    order = np.argsort(angles)
    gaps = np.diff(angles[order], append=angles[order[0]] + np.pi)
    shares = np.empty(len(rays))
    shares[order] = (gaps + np.roll(gaps, 1)) / (2 * np.pi)
    return np.pi / 2 * shares


def reach(ways: tuple[Direction, ...]) -> Triple:
    """How far the directions look along each axis."""
    return triple(max((abs(w.step[axis]) for w in ways), default=0) for axis in range(3))


@functools.cache
def euler_table(connectivity: int) -> np.ndarray:
    """Eight times what a way to fill 2 x 2 x 2 voxels adds to the Euler number, int64 (256,).

    Bit i is the voxel at `CORNERS[i]`. With 26 voxels are closed cubes, joined where they touch; with 6
    they are points, joined by faces.
    """
    return np.array([_euler(code, connectivity) for code in range(256)], np.int64)


def _euler(code: int, connectivity: int) -> int:
    filled = {triple(corner) for i, corner in enumerate(CORNERS) if code >> i & 1}
    groups = {n: [set(g) for g in _faces_of(n)] for n in (2, 4)}
    if connectivity == 26:  # the corner in the middle, its 6 edges, 12 faces and 8 cubes
        edges = sum(bool(g & filled) for g in groups[4])
        faces = sum(bool(g & filled) for g in groups[2])
        return 8 * bool(filled) - 4 * edges + 2 * faces - len(filled)
    pairs = sum(g <= filled for g in groups[2])
    squares = sum(g <= filled for g in groups[4])
    return len(filled) - 2 * pairs + 4 * squares - 8 * (len(filled) == 8)


def _faces_of(size: int) -> list[list[Triple]]:
    """The groups of 2 (along an axis) or 4 (in a plane) of the eight corners."""
    free = 1 if size == 2 else 2
    found = []
    for axes in itertools.combinations(range(3), 3 - free):
        for fixed in itertools.product((0, 1), repeat=len(axes)):
            wanted = dict(zip(axes, fixed, strict=True))
            found.append([triple(c) for c in CORNERS if all(c[a] == v for a, v in wanted.items())])
    return found
