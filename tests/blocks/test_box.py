import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from densem.blocks import Box, triple

SHAPE = (7, 9, 11)


def boxes(low=-3, high=14):
    corner = st.tuples(*[st.integers(low, high)] * 3)
    return st.builds(lambda a, b: Box(tuple(map(min, a, b)), tuple(map(max, a, b))), corner, corner)


def members(box):
    return {
        (z, y, x)
        for z in range(box.start[0], box.stop[0])
        for y in range(box.start[1], box.stop[1])
        for x in range(box.start[2], box.stop[2])
    }


def test_by_hand():
    box = Box((1, 20, 300), (4, 25, 302))
    assert (box.shape, box.size) == ((3, 5, 2), 30)
    assert str(box) == "z 1:4, y 20:25, x 300:302"
    assert box.grow((1, 2, 3)) == Box((0, 18, 297), (5, 27, 305))
    assert box.shift((-1, 0, 5)) == Box((0, 20, 305), (3, 25, 307))
    assert box.relative_to(Box((1, 10, 100), (9, 99, 999))) == Box((0, 10, 200), (3, 15, 202))
    assert Box.of_shape(np.array(SHAPE)) == Box((0, 0, 0), SHAPE)


@given(boxes())
def test_slices_take_its_voxels(box):
    array = np.zeros((20, 20, 20), int)
    inside = box.clip(Box.of_shape(array.shape))
    array[inside.slices] = 1
    assert array.sum() == inside.size


@given(boxes(), boxes())
def test_clipping_is_intersection(one, other):
    clipped = one.clip(other)
    assert members(clipped) == members(one) & members(other)
    assert min(clipped.shape) >= 0


@given(boxes(), boxes())
def test_containing_is_being_a_superset(one, other):
    if other.size:
        assert one.contains(other) == (members(one) >= members(other))


@given(boxes(), st.tuples(*[st.integers(0, 5)] * 3))
def test_growing_and_shifting_can_be_undone(box, by):
    assert box.grow(by).grow([-b for b in by]) == box
    assert box.shift(by).relative_to(Box(by, by)) == box


def test_triples_are_three():
    assert triple(np.array([1, 2, 3])) == (1, 2, 3)
    with pytest.raises(ValueError, match="unpack"):
        triple((1, 2))
