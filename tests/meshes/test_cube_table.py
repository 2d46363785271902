"""Every way to fill a cube, looked at one by one."""

from collections import Counter

import numpy as np
import pytest

from densem.meshes.cube_table import CORNERS, EDGES, triangles


def sides(code, connectivity):
    table, starts = triangles(connectivity)
    found = table[starts[code] : starts[code + 1]]
    return found, Counter((int(a), int(b)) for t in found for a, b in zip(t, np.roll(t, -1), strict=True))


def in_a_face(one, other):
    places = np.array([CORNERS[i] for e in (one, other) for i in EDGES[e]])
    return bool((places == places[0]).all(axis=0).any())


@pytest.mark.parametrize("connectivity", [6, 26])
def test_edges_in_the_cube_have_two_triangles_and_those_in_faces_one(connectivity):
    for code in range(256):
        _, run = sides(code, connectivity)
        for one, other in run:
            assert run[one, other] == 1
            assert ((other, one) in run) != in_a_face(one, other), (code, one, other)


@pytest.mark.parametrize("connectivity", [6, 26])
def test_vertices_lie_on_the_edges_that_are_cut(connectivity):
    for code in range(256):
        found, _ = sides(code, connectivity)
        cut = {e for e, (a, b) in enumerate(EDGES) if (code >> a & 1) != (code >> b & 1)}
        assert set(found.reshape(-1).tolist()) == cut


def test_literals():
    corner, _ = sides(1, 26)
    assert len(corner) == 1
    points = np.array([np.mean([CORNERS[i] for i in EDGES[e]], axis=0)[::-1] for e in corner[0]])
    assert np.cross(points[1] - points[0], points[2] - points[0]) @ [1, 1, 1] > 0
    assert len(sides(0b10000001, 26)[0]) == 6  # a tube between corners that face each other
    assert len(sides(0b10000001, 6)[0]) == 2
