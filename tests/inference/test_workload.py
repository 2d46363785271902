"""The arithmetic, by hand on an asymmetric volume."""

import pytest

from densem.blocks import Grid
from densem.inference.measurement import Measurement, Timing
from densem.inference.tiles import Tiling
from densem.inference.workload import Workload, times

TILING = Tiling((4, 10, 20), (4, 5, 10), (1, 2, 0), (1, 1, 1))
BLOCKS = Grid((4, 10, 20), (4, 10, 10))
MEASURED = Measurement(
    device="cpu", precision="fp32", threads=1, passes=1, window_seconds=14.0, window_voxels=280, timed=(),
    process_bytes=0, peak_bytes=0, write_seconds={"classes": 0.5, "confidence": 0.25},
    pyramid_seconds={"classes": 0.125, "confidence": 0.0},
)  # fmt: skip


def test_a_window_timed_in_part():
    timing = Timing(slices=8, of=96, first=20.0, first_slices=2, steady=1.5)
    assert timing.seconds == 20 + 94 * 1.5


def test_what_there_is_to_do():
    workload = Workload(TILING, BLOCKS, 1.0, 2)
    assert workload.voxels == 800
    assert workload.windows_of_a_block == 2  # 1 x 2 x 1
    assert workload.read_overhead == 1.0  # a block is as long as the volume wherever there is context
    assert TILING.overhead == pytest.approx(2 * 7 / 10)  # y: two windows of 5 + 2 within 10


def test_times_by_hand():
    found = times(Workload(TILING, BLOCKS, 1.0, 2), MEASURED, read_seconds=0.1)
    assert found.computing == pytest.approx(800 * 1.4 * 14 / 280)
    assert found.reading == pytest.approx(80)
    assert found.writing == pytest.approx(600)
    assert found.end == pytest.approx(100)
    assert found.block == pytest.approx(2 * 14 + 400 * 0.1 + 400 * 0.75)
    assert found.wall(1) == pytest.approx(56 + 80 + 600 + 100)
    assert found.wall(2) == found.wall(64) == pytest.approx(368 + 100)  # never more workers than blocks


def test_blocks_that_are_left_over_keep_one_worker_busy():
    found = times(Workload(TILING, Grid((4, 10, 20), (4, 10, 4)), 1.0, 5), MEASURED, 0.0)
    assert found.wall(4) - found.end == pytest.approx(found.work * 2 / 5)


def test_what_is_done_is_not_done_again_but_for_the_end():
    whole = times(Workload(TILING, BLOCKS, 1.0, 2), MEASURED, 0.1)
    half = times(Workload(TILING, BLOCKS, 0.5, 1), MEASURED, 0.1, end_more=7)
    assert half.work == pytest.approx(whole.work / 2)
    assert half.end == pytest.approx(whole.end + 7)
    assert times(Workload(TILING, BLOCKS, 0.0, 0), MEASURED, 0.1).wall(8) == pytest.approx(100)
