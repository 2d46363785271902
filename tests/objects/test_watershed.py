"""The watershed of bodies against scikit-image's h-maxima, and bodies with a known neck."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction

from densem.objects.watershed import may_fall_apart, split_body

SIZE = (40.0, 10.0, 8.0)
OPEN = ((False, False),) * 3


def balls(centres, radii, shape=(15, 50, 70)):
    grid = np.stack(np.indices(shape), axis=-1) * SIZE
    return np.any([((grid - c) ** 2).sum(-1) <= r**2 for c, r in zip(centres, radii, strict=True)], axis=0)


def test_two_balls_are_cut_at_their_neck_and_only_up_to_its_depth():
    centres, radii = [(280, 250, 180), (280, 250, 370)], (120, 110)
    mask = balls(centres, radii)
    distance = distance_transform_edt(mask, sampling=SIZE)
    where = np.indices(mask.shape)[2] * SIZE[2]
    peak = min(distance[where < 275].max(), distance[where >= 275].max())
    line = distance[7, 25]
    depth = peak - line[180 // 8 : 370 // 8].min()
    labels, count = split_body(mask, SIZE, 0.8 * depth, 26, OPEN)
    assert count == 2
    assert np.array_equal(labels > 0, mask)
    assert set(np.unique(labels[..., : 180 // 8])) == {0, 1}
    assert set(np.unique(labels[..., 370 // 8 :])) == {0, 2}
    cut = np.flatnonzero(np.diff(labels[7, 25]) == 1)
    assert 260 < cut[-1] * SIZE[2] < 300
    assert split_body(mask, SIZE, 1.2 * depth, 26, OPEN)[1] == 1


@pytest.mark.parametrize("seed", range(4))
def test_as_many_parts_as_h_maxima(seed):
    mask = gaussian_filter(np.random.default_rng(seed).normal(size=(11, 40, 52)), (0.8, 2.5, 3)) > -0.02
    distance = distance_transform_edt(mask, sampling=SIZE)
    for h in (7.3, 16.1, 29.7):  # no difference of distances, so that rounding decides nothing
        raised = reconstruction(distance - h, distance, footprint=np.ones((3, 3, 3)))
        expected = label(local_maxima(raised, connectivity=3) & (distance >= h), connectivity=3)
        peaks = [distance[expected == k].max() for k in range(1, expected.max() + 1)]
        labels, count = split_body(mask, SIZE, h, 26, OPEN)
        alone = _parts_without_peak(mask, distance, h)
        assert count == sum(p >= h for p in peaks) + alone
        assert np.array_equal(labels > 0, mask)


def _parts_without_peak(mask, distance, h):
    """Connected bodies that are thinner than h everywhere, and so have no maximum that rises by h."""
    bodies = label(mask, connectivity=3)
    tops = np.zeros(bodies.max() + 1)
    np.maximum.at(tops, bodies, distance)
    return int((tops[1:] < h).sum())


def test_a_closed_side_is_outside_and_an_open_one_is_not():
    mask = np.ones((3, 20, 60), bool)
    mask[:, 6:, 28:32] = False
    closed = ((False, False), (True, True), (True, True))
    assert split_body(mask, (10.0, 10.0, 10.0), 20.0, 26, closed)[1] == 2
    assert split_body(np.ones((3, 4, 5), bool), SIZE, 5.0, 26, OPEN)[1] == 1  # no surface at all


def test_joined_by_corners_or_not():
    mask = np.zeros((4, 8, 8), bool)
    mask[:2, :4, :4] = mask[2:, 4:, 4:] = True
    assert split_body(mask, SIZE, 500.0, 26, OPEN)[1] == 1
    assert split_body(mask, SIZE, 500.0, 6, OPEN)[1] == 2


@pytest.mark.parametrize("h", [8.0, 20.0, 30.0, 47.0])
def test_what_may_not_fall_apart_does_not(h):
    """Boxes of all small shapes, full, and with random holes; open and closed."""
    rng = np.random.default_rng(int(h))
    told = {True: 0, False: 0}
    for shape in [(z, y, x) for z in (1, 2, 4) for y in (1, 3, 5, 8, 14) for x in (1, 4, 6, 11)]:
        closed = [tuple(bool(b) for b in rng.integers(0, 2, 2)) for _ in range(3)]
        may = may_fall_apart(shape, SIZE, h, closed)
        told[may] += 1
        for share in (1.0, 0.85, 0.7):
            parts = label(rng.random(shape) <= share, connectivity=3)
            bodies = [parts == k for k in range(1, parts.max() + 1)]
            counts = [split_body(body, SIZE, h, 26, closed)[1] for body in bodies]
            assert may or set(counts) <= {1}
    assert min(told.values()) > 5
