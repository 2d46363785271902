import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from densem.blocks import Box, Grid

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


@given(SHAPES, SHAPES)
def test_every_voxel_lies_in_exactly_one_box(shape, cell):
    grid = Grid(shape, cell)
    seen = np.zeros(shape, int)
    for box in grid:
        seen[box.slices] += 1
        assert all(a % c == 0 for a, c in zip(box.start, cell, strict=True))
        assert box.size > 0
    assert (seen == 1).all()
    assert len(list(grid)) == len(grid)


@given(SHAPES, SHAPES, SHAPES, SHAPES)
def test_within_gives_those_that_meet_a_box(shape, cell, one, other):
    grid = Grid(shape, cell)
    box = Box(tuple(map(min, one, other)), tuple(map(max, one, other)))
    assert list(grid.within(box)) == [b for b in grid if b.clip(box).size]


@given(SHAPES, SHAPES, st.data())
def test_voxels_of_some_boxes(shape, cell, data):
    grid = Grid(shape, cell)
    some = data.draw(st.lists(st.integers(0, len(grid) - 1)))
    assert grid.voxels(some) == sum(grid.box(i).size for i in some)
    assert grid.voxels(range(len(grid))) == np.prod(shape)


def test_by_hand():
    grid = Grid((5, 4, 7), (2, 4, 3))
    assert (grid.counts, len(grid)) == ((3, 1, 3), 9)
    assert grid.box(0) == Box((0, 0, 0), (2, 4, 3))
    assert grid.box(4) == Box((2, 0, 3), (4, 4, 6))
    assert grid.box(8) == Box((4, 0, 6), (5, 4, 7))


def test_an_empty_grid_and_wrong_ones():
    assert list(Grid((0, 4, 7), (2, 4, 3))) == []
    with pytest.raises(IndexError, match="box 9 of a grid of 9"):
        Grid((5, 4, 7), (2, 4, 3)).box(9)
    with pytest.raises(
        ValueError, match=r"a grid needs positive cells, found cell \(0, 4, 3\) in shape \(5, 4, 7\)"
    ):
        Grid((5, 4, 7), (0, 4, 3))


def test_whole_cells_around_a_box():
    grid = Grid((9, 50, 70), (4, 16, 24))
    assert grid.covering(Box((3, 16, 25), (5, 32, 26))) == Box((0, 16, 24), (8, 32, 48))
    assert grid.covering(Box((8, 40, 0), (9, 50, 70))) == Box((8, 32, 0), (9, 50, 70))
