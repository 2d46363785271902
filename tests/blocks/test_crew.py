import threading

import pytest

from densem.blocks import Grid, Journal, LocalCrew, RunOptions, verify
from densem.errors import IncompleteError

GRID = Grid((5, 9, 14), (2, 4, 5))  # 27 blocks


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.begin({})
    LocalCrew(RunOptions(workers=3)).do(lambda index, box: {"value": index * index}, GRID, journal)
    return journal


@pytest.mark.parametrize("workers", [1, 4])
def test_what_the_disk_does_not_hold_is_forgotten(journal, workers):
    lost = {0, 5, 26}
    assert verify(journal, lambda r: r["block"] not in lost and r["value"] == r["block"] ** 2, workers) == 3
    assert journal.done() == set(range(27)) - lost
    assert verify(journal, lambda r: True, workers) == 0
    assert journal.done() == set(range(27)) - lost


def test_so_many_are_looked_at_at_the_same_time(journal):
    meet = threading.Barrier(3, timeout=20)
    assert verify(journal, lambda r: meet.wait() >= 0, workers=3) == 0  # 27 blocks, three by three


def test_an_error_while_looking_forgets_nothing(journal):
    def broken(record):
        raise OSError("the disk is away")

    with pytest.raises(OSError, match="the disk is away"):
        verify(journal, broken, workers=2)
    assert journal.done() == set(range(27))


def test_nothing_done_is_nothing_to_look_at(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.begin({})
    assert verify(journal, lambda r: True, workers=2) == 0


def test_a_local_crew_says_what_is_missing(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.begin({})

    def task(index, box):
        if index == 7:
            raise ValueError("odd")
        return {}

    with pytest.raises(
        IncompleteError, match=r"1 of 27 blocks are missing after 1 attempts each: block 7 \("
    ):
        LocalCrew(RunOptions(workers=2, retries=0)).do(task, GRID, journal)
