import numpy as np
import pytest

from densem.datasets.phantom.body import turn
from densem.datasets.phantom.solids import Cone, Ellipsoid, blend, hull, tube


def grid(low: np.ndarray, high: np.ndarray, step: float):
    return tuple(np.meshgrid(*(np.arange(a, b, step) for a, b in zip(low, high, strict=True)), indexing="ij"))


def test_a_ball_has_its_true_distance():
    ball = Ellipsoid(np.array([3.0, -5.0, 8.0]), np.eye(3), np.array([40.0, 40.0, 40.0]))
    points = np.random.default_rng(0).normal(0, 60, (200, 3))
    expected = np.linalg.norm(points - ball.centre, axis=1) - 40
    np.testing.assert_allclose(ball.distance(tuple(points.T)), expected, atol=1e-2)


def test_an_ellipsoid_fills_its_volume_and_its_box():
    rng = np.random.default_rng(1)
    solid = Ellipsoid(np.array([10.0, 20.0, 30.0]), turn(rng, 50), np.array([90.0, 50.0, 30.0]))
    low, high = solid.bounds()
    at = grid(low - 6, high + 6, 2.0)
    inside = solid.distance(at) < 0
    assert inside.sum() * 8 == pytest.approx(4 / 3 * np.pi * 90 * 50 * 30, rel=0.01)
    for axis in range(3):
        assert at[axis][inside].min() == pytest.approx(low[axis], abs=3)
        assert at[axis][inside].max() == pytest.approx(high[axis], abs=3)


def test_a_cone_with_one_radius_is_a_capsule():
    start, stop = np.array([0.0, 10.0, 5.0]), np.array([60.0, -30.0, 25.0])
    points = np.random.default_rng(2).normal(20, 50, (100, 3))
    line = start + np.linspace(0, 1, 4001)[:, None] * (stop - start)
    nearest = np.linalg.norm(points[:, None] - line[None], axis=2).min(axis=1)
    np.testing.assert_allclose(Cone(start, stop, (12, 12)).distance(tuple(points.T)), nearest - 12, atol=0.05)


def test_a_cone_narrows_towards_its_end():
    cone = Cone(np.zeros(3), np.array([0.0, 0.0, 100.0]), (30, 10))
    at = (np.zeros(3), np.zeros(3), np.array([0.0, 50.0, 100.0]))
    np.testing.assert_allclose(cone.distance(at), [-30, -20, -10], atol=1e-3)


def test_a_tube_is_a_chain_and_lies_in_its_hull():
    parts = tube([np.zeros(3), np.array([0.0, 50.0, 0.0]), np.array([0.0, 50.0, 80.0])], [20, 15, 10])
    assert [p.radii for p in parts] == [(20, 15), (15, 10)]
    low, high = hull(parts)
    np.testing.assert_allclose(low, [-20, -20, -20])
    np.testing.assert_allclose(high, [20, 65, 90])


def test_blend_rounds_near_and_keeps_far():
    a, b = np.array([0.0, -50.0, 5.0]), np.array([0.0, 10.0, 5.0])
    np.testing.assert_allclose(blend(a, b, 20.0), [-5, -50, 0], atol=1e-5)
