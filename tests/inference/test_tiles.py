import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densem.blocks import Box, triple
from densem.errors import ConfigError
from densem.inference.tiles import LONGEST, PLANE, Demand, Tiling, mirror, round_up
from densem.model import TilePlan


def padded(volume, multiple):
    """What one pass over the whole volume sees: its far ends mirrored up to the multiple."""
    pad = [(0, -n % m) for n, m in zip(volume.shape, multiple, strict=True)]
    return np.pad(volume, pad, mode="reflect")


@pytest.mark.parametrize(("n", "end"), [(5, 8), (5, 23), (2, 9), (1, 4), (7, 7)])
def test_mirror_equals_numpy_reflect(n, end):
    line = np.arange(10, 10 + n)
    expected = np.pad(line, (0, end - n), mode="reflect")
    np.testing.assert_array_equal(line[mirror(np.arange(end), n)], expected)


tilings = st.builds(
    lambda shape, core, context, multiple: Tiling(
        shape, round_up(core, multiple), round_up(context, multiple), multiple
    ),
    st.tuples(*(st.integers(1, 40),) * 3),
    st.tuples(*(st.integers(1, 16),) * 3),
    st.tuples(*(st.integers(0, 12),) * 3),
    st.sampled_from([(1, 8, 8), (1, 4, 8), (2, 4, 4), (1, 1, 1), (1, 16, 16)]),
)


@settings(max_examples=50, deadline=None)
@given(tilings)
def test_a_window_is_a_cut_out_of_the_padded_volume(tiling):
    rng = np.random.default_rng(1)
    volume = rng.integers(0, 60000, tiling.shape)
    whole = padded(volume, tiling.multiple)
    written = np.zeros(tiling.shape, int)
    for core in tiling.cores(Box.of_shape(tiling.shape)):
        window = tiling.window(core)
        image = window.take(volume[window.read.slices], window.read)
        start = triple(max(0, a - c) for a, c in zip(core.start, tiling.context, strict=True))
        stop = triple(a + n for a, n in zip(start, image.shape, strict=True))
        np.testing.assert_array_equal(image, whole[Box(start, stop).slices])
        np.testing.assert_array_equal(image[window.inside], volume[core.slices])
        written[core.slices] += 1
        assert all(n % m == 0 for n, m in zip(image.shape, tiling.multiple, strict=True))
        assert all(a % m == 0 for a, m in zip(start, tiling.multiple, strict=True))
    assert (written == 1).all()


@settings(max_examples=40, deadline=None)
@given(tilings)
def test_a_window_holds_the_context_or_ends_with_the_volume(tiling):
    for core in tiling.grid:
        window = tiling.window(core)
        for axis in range(3):
            before = window.inside[axis].start
            after = window.shape[axis] - window.inside[axis].stop
            assert before == min(tiling.context[axis], core.start[axis])
            end = -(-tiling.shape[axis] // tiling.multiple[axis]) * tiling.multiple[axis]
            assert after >= min(tiling.context[axis], end - core.stop[axis])


@settings(max_examples=25, deadline=None)
@given(tilings, st.integers(0, 2**31))
def test_what_is_read_together_holds_every_window(tiling, seed):
    rng = np.random.default_rng(seed)
    low = [int(rng.integers(0, n)) for n in tiling.shape]
    high = [int(rng.integers(a + 1, n + 1)) for a, n in zip(low, tiling.shape, strict=True)]
    box = Box(triple(low), triple(high))
    for cores in (list(tiling.cores(box)), list(tiling.cores_from(box))):
        reach = tiling.reach(cores)
        assert Box.of_shape(tiling.shape).contains(reach)
        covered = np.zeros(box.shape, int)
        for core in cores:
            assert reach.contains(tiling.window(core).read)
            covered[core.clip(box).relative_to(box).slices] += 1
        assert (covered == 1).all()


PLAN = TilePlan(core=(16, 128, 128), exact=(12, 80, 80))
DEMAND = Demand(PLAN.exact, (1, 8, 8))
SLABS = Demand((12, 40, 40), (1, 8, 8), streams=True)


@pytest.mark.parametrize(
    ("shape", "core"),
    [
        ((1000, 4000, 4000), (16, 128, 128)),  # nothing to gain
        ((24, 512, 512), (24, 256, 256)),  # all of z in one tile instead of two leaves room in y and x
        ((50, 128, 128), (50, 128, 128)),
        ((2, 1000, 1100), (2, 1000, 1104)),  # thin: one tile in the same memory
        ((5, 40, 60), (5, 40, 64)),
    ],
)
def test_fitted_tiles_literally(shape, core):
    assert Tiling.fit(PLAN, DEMAND, shape).core == core


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(1, 300), st.integers(1, 900), st.integers(1, 900)))
def test_fitted_windows_are_no_larger_than_the_plans_and_read_no_more(shape):
    fitted = Tiling.fit(PLAN, DEMAND, shape)
    room = math.prod(c + 2 * e for c, e in zip(PLAN.core, PLAN.exact, strict=True))
    assert max(math.prod(fitted.window(core).shape) for core in fitted.grid) <= room
    plain = Tiling(shape, PLAN.core, PLAN.exact, (1, 8, 8))
    assert fitted.overhead <= plain.overhead


def test_overhead_counts_the_voxels_of_all_windows():
    tiling = Tiling((9, 50, 70), (4, 16, 24), (2, 8, 8), (1, 8, 8))
    read = sum(math.prod(tiling.window(core).shape) for core in tiling.grid)
    assert tiling.overhead == pytest.approx(read / (9 * 50 * 70))


def test_tiles_fitted_to_a_box_count_the_context_outside_it():
    box = Box((20, 200, 304), (28, 712, 816))
    fitted = Tiling.fit(PLAN, DEMAND, (100, 2000, 2000), box)
    room = math.prod(c + 2 * e for c, e in zip(PLAN.core, PLAN.exact, strict=True))
    assert fitted.core[0] == 8
    assert max(math.prod(fitted.window(core).shape) for core in fitted.cores_from(box)) <= room


def test_a_core_or_context_off_the_multiple_is_refused():
    with pytest.raises(ConfigError) as caught:
        Tiling((9, 50, 70), (4, 12, 24), (2, 8, 8), (1, 8, 8))
    assert str(caught.value) == (
        "tile: the core (4, 12, 24) is not whole multiples of (1, 8, 8), which the network needs"
    )


@pytest.mark.parametrize(
    ("shape", "core"),
    [
        ((24, 512, 512), (24, 256, 256)),  # no slice is computed twice
        ((96, 1024, 1024), (96, 256, 256)),
        ((97, 1024, 1024), (56, 256, 256)),  # two parts, in eights
        ((5000, 700, 4000), (96, 352, 224)),
        ((3, 50, 70), (3, 56, 72)),
    ],
)
def test_tiles_for_slabs_are_long_in_z_literally(shape, core):
    assert Tiling.fit(PLAN, SLABS, shape).core == core


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(1, 400), st.integers(1, 900), st.integers(1, 900)))
def test_windows_for_slabs_are_bounded_in_plane_and_in_length(shape):
    fitted = Tiling.fit(PLAN, SLABS, shape)
    for core in fitted.grid:
        z, y, x = fitted.window(core).shape
        assert y * x <= PLANE
        assert z <= LONGEST + 2 * 12


def test_a_window_says_where_it_ends_and_how_much_context_it_has():
    tiling = Tiling((9, 50, 70), (4, 16, 24), (2, 8, 8), (1, 8, 8))
    first, last = tiling.window(Box((0, 0, 0), (4, 16, 24))), tiling.window(Box((8, 48, 48), (9, 50, 70)))
    assert (first.at_end, first.margins) == ((True, False), (0, 8, 0, 8))
    assert (last.at_end, last.margins) == (
        (False, True),
        (8, 0, 8, 0),
    )  # 6 and 2 mirrored voxels are no context
