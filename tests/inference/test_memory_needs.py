import itertools
import math

from densem.inference.memory_needs import Blocks, MemoryNeeds

BLOCKS = Blocks((10, 100, 90), (4, 20, 30), (1, 8, 8), voxel_bytes=2, outputs=2, channels=0)


def test_a_worker_and_several_in_one_process():
    needs = MemoryNeeds(process_bytes=100, window_bytes=30, block_bytes=7)
    assert needs.worker == 137
    assert needs.together(3) == 100 + 3 * 37


def test_a_block_by_hand():
    reach = 6 * 36 * 46  # with the context around it
    assert BLOCKS.size((4, 20, 30)) == max(reach * 2 + 2400 * 4, 2400 * 8)
    many = Blocks((10, 100, 90), (4, 20, 30), (0, 0, 0), 4, outputs=3, channels=5)
    assert many.size((10, 20, 30)) == 6000 * max(4 + 3 + 20 + 40, 8 * 6)


def test_the_largest_block_is_the_largest():
    for room in (20_000, 60_000, 150_000, 700_000):
        found = BLOCKS.largest_within((12, 100, 90), room)
        every = [
            (4 * i, 20 * j, 30 * k) for i, j, k in itertools.product(range(1, 4), range(1, 6), range(1, 4))
            if BLOCKS.size((min(4 * i, 10), 20 * j, 30 * k)) <= room
        ]  # fmt: skip
        assert (found is None) == (not every)
        if every:
            assert math.prod(found) == max(math.prod(b) for b in every)
            assert BLOCKS.size((min(found[0], 10), *found[1:])) <= room


def test_no_block_fits():
    assert BLOCKS.largest_within((12, 100, 90), 10_000) is None
