"""Surface areas against analytic bodies, Euler numbers against scikit-image."""

import math

import numpy as np
import pytest
from scipy.integrate import dblquad
from skimage.measure import euler_number

from densem.blocks import Box
from densem.objects.measure import _euler, _facing
from densem.objects.surface import UNIT_NM2, directions, euler_table, reach

SIZES = [(10.0, 10.0, 10.0), (20.0, 10.0, 10.0), (40.0, 10.0, 10.0), (8.0, 25.0, 10.0)]


def area(mask, size):
    ways = directions(size)
    number = np.pad(mask, [(k, k) for k in reach(ways)]).astype(np.int32)
    facing = _facing(number, np.zeros(number.shape, np.int64), Box.of_shape(number.shape), ways, (1, 1))
    return facing.sum() * UNIT_NM2


def points(reach_nm, size, rng):
    axes = [np.arange(-math.ceil(reach_nm / s) - 1, math.ceil(reach_nm / s) + 2) * s for s in size]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) + rng.uniform(-0.5, 0.5, 3) * size


def turned(rng):
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


@pytest.mark.parametrize("size", SIZES)
def test_sphere(size):
    rng = np.random.default_rng(1)
    for radius, error in ((200.0, 0.012), (400.0, 0.005)):
        found = [area((points(radius, size, rng) ** 2).sum(-1) <= radius**2, size) for _ in range(3)]
        assert np.mean(found) == pytest.approx(4 * math.pi * radius**2, rel=error)


@pytest.mark.parametrize("size", SIZES)
def test_ellipsoid_in_any_direction(size):
    a, b, c = semi = np.array([400.0, 200.0, 120.0])

    def patch(p, t):
        return math.sin(t) * math.sqrt(
            (math.sin(t) * b * c * math.cos(p)) ** 2
            + (math.sin(t) * a * c * math.sin(p)) ** 2
            + (a * b * math.cos(t)) ** 2
        )

    true = 8 * dblquad(patch, 0, math.pi / 2, 0, math.pi / 2, epsrel=1e-4)[0]
    rng = np.random.default_rng(2)
    for _ in range(4):
        inside = ((points(400, size, rng) @ turned(rng) / semi) ** 2).sum(-1) <= 1
        assert area(inside, size) == pytest.approx(true, rel=0.025)


@pytest.mark.parametrize("size", SIZES)
def test_tube_in_any_direction(size):
    radius, length = 120.0, 900.0
    true = 2 * math.pi * radius * (length + radius)
    rng = np.random.default_rng(3)
    for _ in range(4):
        p = points(470, size, rng) @ turned(rng)
        inside = (np.hypot(p[..., 1], p[..., 2]) <= radius) & (np.abs(p[..., 0]) <= length / 2)
        assert area(inside, size) == pytest.approx(true, rel=0.045)


@pytest.mark.parametrize("size", [(10.0, 10.0, 10.0), (40.0, 10.0, 10.0), (1.0, 4.0, 6.0)])
@pytest.mark.parametrize("axis", [0, 2])
def test_discs_in_a_single_slice_have_the_area_of_their_rim(size, axis):
    flat = tuple(a == axis for a in range(3))
    ways = directions(size, flat)
    assert len(ways) == 4
    rng = np.random.default_rng(4)
    for semi in ((200.0, 200.0), (300.0, 150.0)):
        sides = [s for a, s in enumerate(size) if a != axis]
        axes = [np.arange(-math.ceil(320 / s), math.ceil(320 / s)) * s for s in sides]
        place = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) + rng.uniform(-0.5, 0.5, 2) * sides
        angle = rng.uniform(0, np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        number = np.expand_dims(((place @ turn / semi) ** 2).sum(-1) <= 1, axis).astype(np.int32)
        nothing = np.zeros(number.shape, np.int64)
        facing = _facing(number, nothing, Box.of_shape(number.shape), ways, (1, 1))
        a, b = semi
        rim = math.pi * (3 * (a + b) - math.sqrt((3 * a + b) * (a + 3 * b)))
        assert facing.sum() * UNIT_NM2 == pytest.approx(rim * size[axis], rel=0.05)


def test_directions_of_cubes_and_of_long_voxels():
    cubes = directions((10.0, 10.0, 10.0))
    assert {w.step for w in cubes} >= {(0, 0, 1), (0, 1, -1), (1, 1, 1)}
    assert len(cubes) == 13
    long = {w.step for w in directions((40.0, 10.0, 20.0))}
    assert {(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 4, 0), (1, 0, 2), (0, 2, 1), (1, -4, 2)} <= long
    # every crossing of a plane across z: the area of the plane by all lines together, within rounding
    number = np.zeros((6, 40, 40), np.int32)
    number[:3] = 1
    ways = directions((40.0, 10.0, 10.0))
    core = Box((0, 8, 8), (6, 32, 32))
    facing = _facing(number, np.zeros(number.shape, np.int64), core, ways, (1, 1)).sum() * UNIT_NM2
    assert facing == pytest.approx(24 * 24 * 100, rel=0.08)  # one plane: 13 directions are few


@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (26, 3)])
def test_euler_numbers_equal_scikit_image(connectivity, rank):
    rng = np.random.default_rng(4)
    column = (6, 26).index(connectivity)
    for share in (0.1, 0.3, 0.5, 0.8):
        mask = rng.random((6, 9, 11)) < share
        found = _euler(np.pad(mask, 1).astype(np.int32), 1)[0, column]
        assert found == 8 * euler_number(mask, rank)


def test_euler_table_by_hand():
    assert euler_table(26)[1] == 1  # an eighth of a cube
    assert euler_table(6)[0b10000001] == 2  # two voxels that meet at a corner: apart
    assert euler_table(26)[0b10000001] == -6  # joined there
    assert euler_table(6)[255] == euler_table(26)[255] == 0
