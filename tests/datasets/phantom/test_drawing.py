import numpy as np
import pytest

from densem.blocks import Box
from densem.datasets.phantom import PhantomConfig
from densem.datasets.phantom.drawing import draw
from densem.datasets.phantom.micrograph import rays
from densem.datasets.phantom.noise import Rays
from densem.datasets.phantom.outline import Positions, outline
from densem.datasets.phantom.tissue import Tissue

CONFIG = PhantomConfig(shape=(2, 200, 240), voxel_size_nm=(40, 20, 18), seed=5)


@pytest.fixture(scope="module")
def section() -> Rays:
    return rays(Box((1, 0, 0), (2, 200, 240)), CONFIG.voxel_size_nm, CONFIG.traits, CONFIG.seed)


@pytest.fixture(scope="module")
def positions(section) -> Positions:
    return Positions(CONFIG.seed, section)


def test_positions_near_hold_all_voxels_of_a_box(positions):
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(60):
        low = rng.uniform((-200, 0, 0), (200, 4000, 4000))
        high = low + rng.uniform(20, 600, 3)
        inside = np.all([(a > p) & (a < q) for a, p, q in zip(positions.at, low, high, strict=True)], axis=0)
        where = positions.near(low, high)
        if where is not None:
            found += 1
            inside[where] = False
        assert not inside.any()
    assert found > 10


def test_owners_lie_inside_their_border(positions, section):
    bodies = [b for _, b in Tissue(CONFIG).near(positions.low, positions.high)]
    cells = outline(positions, bodies, CONFIG.seed, section)
    np.testing.assert_array_equal(cells.owner > 0, cells.distance < 0)
    assert len(np.unique(cells.owner)) > 3


def test_membranes_are_darker_than_what_they_bound(positions, section):
    tissue = Tissue(CONFIG)
    bodies = [b for _, b in tissue.near(positions.low, positions.high)]
    d = outline(positions, bodies, CONFIG.seed, section).distance
    grey = draw(tissue, CONFIG.traits, CONFIG.seed, section).grey

    def between(low: float, high: float) -> float:
        return float(grey[(d > low) & (d < high)].mean())

    assert between(-40, -15) < between(-120, -60) - 0.08
    assert between(15, 60) == pytest.approx(CONFIG.traits.resin, abs=0.01)
