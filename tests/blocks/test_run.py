import errno
import sys
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import pytest

from densem.blocks import Box, Grid, Journal, RunOptions, run
from densem.blocks.journal import Pen
from densem.errors import FormatError, IncompleteError, InputError, ResourceError

GRID = Grid((5, 9, 14), (2, 4, 5))  # 3 x 3 x 3 blocks, clipped ones among them


class Recorder:
    """Notes what it was called with; fails where it is told to."""

    def __init__(self, failing=None):
        self.calls = []
        self.failing = dict(failing or {})
        self.lock = threading.Lock()

    def __call__(self, index, box):
        with self.lock:
            self.calls.append(index)
            left = self.failing.get(index, 0)
            self.failing[index] = left - 1
        if left > 0:
            raise ValueError(f"no luck with {index}")
        return {"size": box.size}


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.begin({})
    return journal


@pytest.mark.parametrize("workers", [1, 3])
def test_every_block_once(journal, workers):
    task = Recorder()
    report = run(task, GRID, journal, RunOptions(workers=workers))
    assert sorted(task.calls) == list(range(27))
    assert (report.planned, report.resumed, report.done) == (27, 0, 27)
    assert sum(r["size"] for r in journal.records().values()) == 5 * 9 * 14


def test_finished_blocks_are_left_out(journal):
    run(Recorder(), GRID, journal, RunOptions(order=[5, 0, 26]))
    task = Recorder()
    report = run(task, GRID, journal)
    assert (report.resumed, report.done) == (3, 24)
    assert not {0, 5, 26} & set(task.calls)


def test_a_share_is_run_in_its_order(journal):
    task = Recorder()
    run(task, GRID, journal, RunOptions(order=[7, 3, 20]))
    assert task.calls == [7, 3, 20]


def test_a_block_that_fails_twice_is_done_in_the_end(journal):
    task = Recorder({4: 2})
    run(task, GRID, journal, RunOptions(retries=2))
    assert task.calls.count(4) == 3
    assert journal.done() == set(range(27))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_block_that_always_fails_is_put_aside_and_named(journal, workers):
    task = Recorder({4: 99, 13: 99})
    with pytest.raises(IncompleteError) as caught:
        run(task, GRID, journal, RunOptions(workers=workers, retries=1))
    text = str(caught.value)
    assert text.startswith(
        "2 of 27 blocks are missing after 2 attempts each: "
        "block 4 (z 0:2, y 4:8, x 5:10); 13 (z 2:4, y 4:8, x 5:10). First failure: ValueError: no luck with "
    )
    assert text.endswith("Finished blocks are kept: repair the cause and run the same again")
    assert journal.done() == set(range(27)) - {4, 13}
    assert task.calls.count(4) == 2
    run(Recorder(), GRID, journal)
    assert journal.done() == set(range(27))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_at_once(journal, workers):
    def task(index, box):
        if index >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return {}

    with pytest.raises(ResourceError, match=r"the disk is full .*free some space and run again"):
        run(task, GRID, journal, RunOptions(workers=workers))
    assert journal.done() == {0, 1, 2}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is always full")
def test_a_log_on_a_full_disk_does_not_bury_the_error(journal, capsys):
    def task(index, box):
        raise OSError(errno.ENOSPC, "No space left on device")

    journal.logs.mkdir()
    (journal.logs / "worker-0.log").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"the disk is full \(block \d+: .*free some space and run again"):
        run(task, GRID, journal, RunOptions(workers=1))
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is always full")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_is_full_at_the_journal_line_is_told_of(journal, workers, monkeypatch):
    monkeypatch.setattr(Journal, "worker", lambda self, name: Pen(Path("/dev/full")))
    with pytest.raises(ResourceError, match=r"the disk is full \(block \d+: .*free some space and run again"):
        run(lambda index, box: {}, GRID, journal, RunOptions(workers=workers))


def test_ctrl_c_keeps_what_is_finished(journal):
    def task(index, box):
        if index == 6:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        run(task, GRID, journal)
    assert journal.done() == set(range(6))


def test_ctrl_c_stops_the_other_threads(journal, monkeypatch):
    options, calls = RunOptions(workers=2), []

    def task(index, box):
        time.sleep(0.05)
        return {}

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return wait(*arguments)

    monkeypatch.setattr(sys.modules["densem.blocks.run"], "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(task, GRID, journal, options)
    assert options.stop.is_set()
    assert len(journal.done()) < 27


def test_progress_counts_voxels(journal):
    run(Recorder(), GRID, journal, RunOptions(order=[0, 26]))
    told = []
    run(Recorder(), GRID, journal, on_progress=lambda done, total: told.append((done, total)))
    assert told[0] == (2 * 4 * 5 + 1 * 1 * 4, 630)
    assert told[-1] == (630, 630)
    assert [d for d, _ in told] == sorted(d for d, _ in told)


def test_a_failing_progress_callback_is_not_lost(journal):
    def broken(done, total):
        if done:
            raise RuntimeError("terminal gone")

    with pytest.raises(RuntimeError, match="terminal gone"):
        run(Recorder(), GRID, journal, RunOptions(workers=2), broken)


def test_box_and_index_belong_together(journal):
    seen = {}

    def task(index, box):
        seen[index] = box
        return {}

    run(task, GRID, journal)
    assert seen[26] == Box((4, 8, 10), (5, 9, 14))


def test_the_rest_of_a_block_is_done_beside_the_next(journal):
    """The rest of block 0 waits until block 1 is begun: one after the other, they would wait for ever."""
    begun, names = threading.Event(), set()

    def task(index, box):
        names.add(threading.current_thread().name)
        if index == 1:
            begun.set()

        def rest():
            assert begun.wait(20)
            return {"index": index}

        return rest

    run(task, GRID, journal)
    assert journal.done() == set(range(len(GRID)))
    assert names == {threading.current_thread().name}


def test_a_rest_that_fails_is_tried_again(journal):
    left = [2]

    def task(index, box):
        def rest():
            if index == 3 and left[0]:
                left[0] -= 1
                raise OSError("disk")
            return {}

        return rest

    assert run(task, GRID, journal).done == len(GRID)
    assert left == [0]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_that_nothing_mends_ends_the_run_as_it_is(journal, workers):
    calls = []

    def task(index, box):
        calls.append(index)
        if index == 4:
            raise FormatError("slices 8:10 cannot be read")
        return {}

    with pytest.raises(FormatError, match=r"^slices 8:10 cannot be read$"):
        run(task, GRID, journal, RunOptions(workers, fatal=(InputError,)))
    assert calls.count(4) == 1
    assert len(journal.done()) < 27


def test_nothing_is_said_to_be_kept_where_it_is_not(journal):
    def task(index, box):
        raise ValueError("odd")

    with pytest.raises(
        IncompleteError, match=r"odd\. Nothing was kept: repair the cause and run the same again$"
    ):
        run(task, GRID, journal, RunOptions(retries=0, order=[1], kept=False))

    def full(index, box):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match=r"free some space and run again: nothing was kept$"):
        run(full, GRID, journal, RunOptions(kept=False))
