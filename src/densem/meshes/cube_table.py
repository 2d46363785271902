"""Cube table: the triangles between eight neighbouring voxels, for each of the 256 ways to fill them.

A vertex lies on each of the cube's edges whose ends differ. On a face with two filled corners at a diagonal
the filled ones are joined, so both cubes beside a face cut it alike and surfaces are closed. Filled corners
that face each other through the cube are joined by a tube. So the body's topology is that of voxels joined
by faces, edges and corners (26); of voxels joined by faces alone (6) it is the complement's turned round.

    corner i at (z, y, x) = bits 2, 1, 0 of i;   edges 0-3 along z, 4-7 along y, 8-11 along x

No diagonal of a polygon lies in a face of the cube, where the neighbour might have the same one: each edge
of the surface has two triangles. Source: Lorensen and Cline 1987 (the cubes); Kong and Rosenfeld 1989 (6
and 26 as a pair).
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

CORNERS = tuple(itertools.product((0, 1), repeat=3))
Triangle = tuple[int, int, int]


def _edge_list() -> tuple[tuple[int, int], ...]:
    """Both corners of each edge, the lower one first."""
    found = []
    for axis in range(3):
        bit = 4 >> axis
        found += [(i, i | bit) for i in range(8) if not i & bit]
    return tuple(found)


EDGES = _edge_list()


@functools.cache
def triangles(connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of all codes one after the other, and where those of each code start.

    Bit i of a code is set where corner i is filled.

    Returns:
        int64 (T, 3): edges that the vertices lie on; outward in (x, y, z). int64 (257,).
    """
    lists = [_of_code(code, connectivity) for code in range(256)]
    starts = np.concatenate([[0], np.cumsum([len(found) for found in lists])]).astype(np.int64)
    return np.array([t for found in lists for t in found], np.int64).reshape(-1, 3), starts


def _of_code(code: int, connectivity: int) -> list[Triangle]:
    if connectivity == 6:
        return [(a, c, b) for a, b, c in _of_code(255 - code, 26)]
    loops = _loops(code)
    if len(loops) == 2 and _is_antipodal(code):
        return _tube(*loops)
    return [t for loop in loops for t in _filled(loop)]


def _is_antipodal(code: int) -> bool:
    """Whether two corners are filled that face each other through the cube."""
    filled = [i for i in range(8) if code >> i & 1]
    return len(filled) == 2 and filled[0] ^ filled[1] == 7


@functools.cache
def _faces() -> list[list[int]]:
    """The corners of each face in turn, counter-clockwise seen from outside in (x, y, z)."""
    found = []
    for axis in range(3):
        bit, (one, other) = 4 >> axis, [4 >> a for a in range(3) if a != axis]
        for side in (0, bit):
            ring = [side, side | one, side | one | other, side | other]
            found.append(ring if _turns_outward(ring) else ring[::-1])
    return found


def _turns_outward(ring: list[int]) -> bool:
    points = np.array([CORNERS[i][::-1] for i in ring], float)
    normal = np.cross(points[1] - points[0], points[2] - points[1])
    return bool(normal @ (points.mean(axis=0) - 0.5) > 0)


def _loops(code: int) -> list[list[int]]:
    """The closed lines in which the surface meets the cube's faces, as edges in turn."""
    after: dict[int, int] = {}
    for ring in _faces():
        filled = [bool(code >> i & 1) for i in ring]
        number = [EDGES.index((min(ring[k], ring[k - 3]), max(ring[k], ring[k - 3]))) for k in range(4)]
        for k in range(4):  # edge k leads from corner k to the next one
            if filled[k] and not filled[k - 3]:  # from here on empty corners, until one is filled again
                end = next(j % 4 for j in range(k + 1, k + 4) if filled[(j + 1) % 4])
                after[number[end]] = number[k]
    loops = []
    while after:
        start, here = min(after), min(after)
        loop = []
        while here in after:
            loop.append(here)
            here = after.pop(here)
        assert here == start
        loops.append(loop)
    return loops


@functools.cache
def _share_face(one: int, other: int) -> bool:
    ends = {*EDGES[one], *EDGES[other]}
    return any(ends <= set(ring) for ring in _faces())


@functools.cache
def _cuts(first: int, last: int, loop: tuple[int, ...]) -> list[list[Triangle]]:
    """All ways to fill the part of a polygon between two of its corners."""
    if last - first < 2:
        return [[]]
    return [
        [*left, (loop[first], loop[middle], loop[last]), *right]
        for middle in range(first + 1, last)
        for left in _cuts(first, middle, loop)
        for right in _cuts(middle, last, loop)
    ]


def _filled(loop: list[int]) -> list[Triangle]:
    """A polygon as triangles, the diagonals short and none of them in a face."""
    sides = {frozenset((a, b)) for a, b in zip(loop, [*loop[1:], loop[0]], strict=True)}
    ways = []
    for cut in _cuts(0, len(loop) - 1, tuple(loop)):
        inner = {frozenset(p) for t in cut for p in itertools.combinations(t, 2)} - sides
        if not any(_share_face(*pair) for pair in inner):
            ways.append((sum(_distance(*pair) for pair in inner), cut))
    return min(ways)[1]


def _distance(one: int, other: int) -> float:
    a, b = (np.mean([CORNERS[i] for i in EDGES[e]], axis=0) for e in (one, other))
    return float(np.linalg.norm(a - b))


def _tube(one: list[int], other: list[int]) -> list[Triangle]:
    """Between two triangular loops, the shortest edges none of which lies in a face."""
    ways = []
    for turn in range(3):
        far = [other[(turn - k) % 3] for k in range(3)]  # the loops run against each other
        for first in (0, 1):
            found: list[Triangle] = []
            for k in range(3):
                a, b, c, d = one[k], one[(k + 1) % 3], far[(k + 1) % 3], far[k]
                found += [(a, b, c), (a, c, d)] if first else [(a, b, d), (b, c, d)]
            across = {frozenset(p) for t in found for p in itertools.combinations(t, 2)}
            across = {p for p in across if len(p & set(one)) == 1}
            if not any(_share_face(*p) for p in across):
                ways.append((sum(_distance(*p) for p in across), found))
    return min(ways)[1]
