"""Accepted sizes, padding and the arithmetic of what a voxel sees."""

import pytest

from densem.errors import ShapeError
from densem.networks.geometry import Geometry, Reach

GEOMETRY = Geometry(multiple=(1, 8, 4), context=(2, 16, 12))


@pytest.mark.parametrize(
    ("shape", "accepted"),
    [((5, 16, 12), True), ((1, 8, 4), True), ((5, 12, 12), False), ((0, 16, 12), False), ((16, 12), False)],
)
def test_accepts(shape, accepted):
    assert GEOMETRY.accepts(shape) is accepted


def test_pad_to_multiple_is_what_is_missing():
    assert GEOMETRY.pad_to_multiple((5, 17, 12)) == (0, 7, 0)
    assert GEOMETRY.pad_to_multiple((5, 24, 1)) == (0, 0, 3)


def test_check_says_what_would_fit():
    with pytest.raises(ShapeError) as caught:
        GEOMETRY.check((5, 17, 13))
    assert str(caught.value) == (
        "network input: expected (z, y, x) sizes in whole multiples of (1, 8, 4), found (5, 17, 13) "
        "(axis y, x); the next size that fits is (5, 24, 16)"
    )


@pytest.mark.parametrize("shape", [(16, 12), (0, 8, 8), (1, 2, 8, 8)])
def test_check_says_what_a_shape_is(shape):
    with pytest.raises(ShapeError, match=r"expected three sizes \(z, y, x\) of at least 1 voxel, found"):
        GEOMETRY.check(shape)


def test_reach_of_convolutions_adds_radii():
    geometry = Reach().convolve("3x3x3").convolve("1x3x3", times=4).convolve("1x1x1").geometry(1)
    assert geometry == Geometry((1, 1, 1), (1, 5, 5), (1, 5, 5))


def test_reach_through_a_pool_depends_on_the_phase():
    # Voxels 0 and 1 share the pooled voxel 0, which after a convolution sees pooled -1..1, that is -2..3.
    reach = Reach().pool().convolve("1x3x3").up()
    assert [reach.plane(p, p) for p in (0, 1, 2)] == [(-2, 3), (-2, 3), (0, 5)]
    assert reach.geometry(2) == Geometry((1, 2, 2), (0, 4, 4), (0, 3, 3))


def test_reach_of_two_paths_is_their_union():
    wide, deep = Reach().convolve("1x3x3", times=3), Reach().convolve("3x3x3")
    joined = wide.join(deep)
    assert joined.depth == 1
    assert joined.plane(10, 12) == (7, 15)
