from collections import Counter

import numpy as np
import pytest

from densem.datasets.phantom.body import Body, grow_body
from densem.datasets.phantom.donor import DONORS
from densem.datasets.phantom.furnishing import Plan, furnish
from densem.datasets.phantom.organelle import SCHEMA
from densem.datasets.phantom.room import Budget, Room
from densem.datasets.phantom.solids import Ellipsoid


def ball_room(radius: float = 1500.0) -> Room:
    return Room(Body(1, Ellipsoid(np.array([5e3, 1e3, 2e3]), np.eye(3), np.full(3, radius))), [], 30.0)


def beside(body: Body) -> Body:
    centre = body.trunk.centre + np.array([0.0, 1500.0, -400.0])
    return Body(2, Ellipsoid(centre, body.trunk.axes, body.trunk.radii))


def cell_room() -> Room:
    rng = np.random.default_rng(4)
    frame = np.array([[0.0, 1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
    body = grow_body(9, np.array([900.0, -400.0, 3e3]), frame, DONORS["a"], rng)
    return Room(body, [beside(body)], 30.0)


@pytest.fixture
def cell() -> Room:
    return cell_room()


def test_depth_is_the_distance_to_the_border():
    room = ball_room()
    points = room.body.trunk.centre + np.array([[0, 0, 0], [500, 0, 0], [0, -600, 300]])
    expected = np.linalg.norm(points - room.body.trunk.centre, axis=1) - 1500
    np.testing.assert_allclose(room.depth(points)[1:], expected[1:], atol=10)


def test_a_rival_takes_half_of_what_both_would_have(cell):
    points = cell.scatter(np.random.default_rng(0), 3000, 60.0)
    at = tuple(points.T)
    assert 500 < len(points) < 2900
    assert (cell.body.distance(at) < beside(cell.body).distance(at)).all()


def test_balls_fit_where_nothing_is_taken():
    room = ball_room()
    centre = room.body.trunk.centre[None]
    assert room.fits(centre, np.array([200.0]))
    room.take(centre, np.array([200.0]))
    assert not room.fits(centre + 150.0, np.array([100.0]))
    assert room.fits(centre + 300.0, np.array([100.0]))
    assert not room.fits(centre + 800.0, np.array([100.0]))


def test_a_budget_is_met_in_the_mean():
    rng = np.random.default_rng(0)
    totals = []
    for _ in range(2000):
        budget, placed = Budget(2.3, rng), 0
        while budget.allows(1.0):
            budget.spend(1.0)
            placed += 1
        totals.append(placed)
    assert set(totals) == {2, 3}
    assert np.mean(totals) == pytest.approx(2.3, abs=0.04)


def test_organelles_lie_inside_and_apart(cell):
    placed = furnish(cell, Plan(DONORS["a"], dense_granules=8), np.random.default_rng(1))
    count = Counter(SCHEMA.names[SCHEMA.channel_of_id[o.label]] for o in placed)
    assert set(count) == {"mitochondrion", "alpha_granule", "canalicular_vessel", "dense_granule"}
    points = cell.scatter(np.random.default_rng(2), 20000, -100.0)
    at = tuple(points.T)
    inside = np.array([np.min([p.distance(at) for p in o.parts], axis=0) < 0 for o in placed])
    granules = np.array([o.label != SCHEMA["canalicular_vessel"].id for o in placed])
    assert inside[granules].sum(axis=0).max() == 1
    assert (cell.depth(points[inside[granules].any(axis=0)]) < -40).all()
    assert inside.sum(axis=0).max() <= 2


def test_cores_lie_in_their_bodies(cell):
    placed = furnish(cell, Plan(DONORS["a"], dense_granules=20), np.random.default_rng(5))
    cores = [o for o in placed if o.core is not None]
    assert len(cores) >= 3
    for o in cores:
        rim = np.array(
            [o.core.centre + o.core.axes[:, i] * o.core.radii[i] * s for i in range(3) for s in (-1, 1)]
        )
        assert (o.parts[0].distance(tuple(rim.T)) < 0).all()


def test_shares_scale_with_the_plan():
    def alpha(times: float) -> int:
        placed = furnish(
            cell_room(), Plan(DONORS["a"], alpha_granules=times, vessels=0), np.random.default_rng(3)
        )
        return sum(o.label == SCHEMA["alpha_granule"].id for o in placed)

    assert alpha(0) == 0
    assert alpha(1) > 1.5 * alpha(0.5) > 0
