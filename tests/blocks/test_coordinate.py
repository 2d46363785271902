"""The coordinator over engines that do as they are told."""

import errno
import json
import logging
import threading
import time
from concurrent.futures import Future

import pytest

from densem.blocks import Grid, Journal, RunOptions, Stopped, Threads, UnfitWorkerError, coordinate
from densem.blocks.bulletin import Bulletin
from densem.blocks.engine import EngineLostError
from densem.blocks.status import Status
from densem.errors import IncompleteError, NotFoundError, ResourceError

GRID = Grid((5, 9, 14), (2, 4, 5))  # 27 blocks


class FakeEngine:
    """Does every block at once in a thread of its own; fails and repeats as told."""

    def __init__(self, journal, slots=4, failing=None, twice=(), delay=0.0):
        self.slots, self.failing, self.twice, self.delay = slots, dict(failing or {}), set(twice), delay
        self.journal, self.lock, self.threads = journal, threading.Lock(), []
        self.submitted, self.flying, self.most, self.closed = [], 0, 0, None

    def submit(self, index, box):
        future = Future()
        with self.lock:
            self.submitted.append(index)
            self.flying += 1
            self.most = max(self.most, self.flying)
        self.threads.append(threading.Thread(target=self._do, args=(index, box, future)))
        self.threads[-1].start()
        return future

    def _do(self, index, box, future):
        time.sleep(self.delay)
        errors = self.failing.get(index, [])
        with self.lock:
            self.flying -= 1
            error = errors.pop(0) if errors else None
            if error is None:
                for n in range(2 if index in self.twice else 1):
                    with self.journal.worker(f"fake-{n}") as pen:
                        pen.append(index, {"time": time.time(), "worker": f"fake-{n}"})
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def describe(self):
        return {"engine": "fake", "dashboard": "http://127.0.0.1:1/status"}

    def close(self, hurry=False):
        self.closed = hurry
        for thread in self.threads:
            thread.join()


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "p" / "journal")
    journal.begin({"shape": list(GRID.shape), "block": list(GRID.cell)})
    return journal


def test_never_more_blocks_are_handed_out_than_there_are_slots(journal):
    engine = FakeEngine(journal, slots=3, delay=0.01)
    report = coordinate(engine, GRID, journal)
    assert (report.planned, report.done) == (27, 27)
    assert engine.most == 3
    assert sorted(engine.submitted) == list(range(27))
    assert engine.closed is False


def test_new_slots_are_used(journal):
    engine = FakeEngine(journal, slots=1, delay=0.02)

    def grow(done, total):
        engine.slots = 5

    coordinate(engine, GRID, journal, on_progress=grow)
    assert engine.most == 5


def test_a_block_that_was_done_twice_counts_once(journal):
    told = []
    engine = FakeEngine(journal, twice={3, 4, 20})
    report = coordinate(engine, GRID, journal, on_progress=lambda done, total: told.append(done))
    assert report.done == 27
    assert len(journal.records()) == 27
    assert told[-1] == 5 * 9 * 14
    assert len(list(journal.folder.glob("fake-*.jsonl"))) == 2


def test_failures_are_tried_again_and_quarantined_ones_are_listed(journal):
    engine = FakeEngine(journal, failing={4: [ValueError("once")], 13: [OSError(5, "bad sector")] * 9})
    with pytest.raises(IncompleteError, match=r"1 of 27 blocks are missing after 3 attempts each: block 13 "):
        coordinate(engine, GRID, journal, RunOptions(retries=2))
    assert (engine.submitted.count(4), engine.submitted.count(13)) == (2, 3)
    found = Status.of(journal)
    assert (found.state, found.planned, found.done, found.left) == ("incomplete", 27, 26, 1)
    (failure,) = found.failures
    assert (failure.block, failure.attempts, failure.quarantined) == (13, 3, True)
    assert failure.message == "OSError: [Errno 5] bad sector"
    assert failure.box == "z 2:4, y 4:8, x 5:10"
    coordinate(Threads(lambda i, box: {}, journal), GRID, journal)
    found = Status.of(journal)
    assert (found.failures, found.engine, found.dashboard) == ([], "local", None)


def test_a_full_disk_stops_at_once(journal):
    engine = FakeEngine(journal, slots=1, failing={3: [OSError(errno.ENOSPC, "No space left")]})
    with pytest.raises(ResourceError, match=r"the disk is full \(block 3: .*free some space and run again"):
        coordinate(engine, GRID, journal)
    assert engine.submitted == [0, 1, 2, 3]
    assert engine.closed is True


def test_a_worker_that_would_give_other_bytes_ends_the_run(journal):
    engine = FakeEngine(journal, slots=1, failing={2: [UnfitWorkerError("machine n7 would not")]})
    with pytest.raises(UnfitWorkerError, match="machine n7"):
        coordinate(engine, GRID, journal)
    assert engine.submitted == [0, 1, 2]


def test_an_engine_that_is_gone_says_how_to_go_on(journal):
    engine = FakeEngine(journal, slots=1, failing={2: [EngineLostError("the scheduler is gone")]})
    with pytest.raises(IncompleteError) as caught:
        coordinate(engine, GRID, journal)
    assert str(caught.value) == (
        "the scheduler is gone; finished blocks are kept: run the same again to go on"
    )
    assert journal.done() == {0, 1}
    assert Status.of(journal).state == "incomplete"


def test_a_dropped_block_is_missing_in_the_audit(journal):
    engine = FakeEngine(journal, failing={5: [Stopped("dropped")]})
    with pytest.raises(IncompleteError, match=r"1 of 27 .* First failure: they were not run"):
        coordinate(engine, GRID, journal)


def test_a_block_reported_done_but_not_on_disk_is_missing(journal, monkeypatch):
    import sys

    class Lying(FakeEngine):
        def submit(self, index, box):
            if index != 6:
                return super().submit(index, box)
            future = Future()
            future.set_result(None)
            return future

    monkeypatch.setattr(sys.modules["densem.blocks.run"], "SETTLE_SECONDS", 0.1)
    with pytest.raises(IncompleteError, match="1 of 27 blocks are missing"):
        coordinate(Lying(journal), GRID, journal)


def test_a_stall_is_said_loudly(journal, caplog):
    engine = FakeEngine(journal, slots=1, delay=0.35)
    options = RunOptions(order=[7], stall_minutes=0.1 / 60)
    with caplog.at_level(logging.WARNING):
        coordinate(engine, GRID, journal, options)
    said = [r.getMessage() for r in caplog.records]
    assert any(s.startswith("no block was finished in 0.00") and "(1 handed out)" in s for s in said)
    assert any("look at the logs in" in s for s in said)


@pytest.mark.parametrize("rest", [True, False])
def test_one_worker_whose_blocks_are_quick_enough_has_no_stall(journal, caplog, rest):
    """The next block is computed before the last one is taken back."""

    def task(index, box):
        time.sleep(0.4)
        return (dict) if rest else {}

    with caplog.at_level(logging.WARNING):
        coordinate(
            Threads(task, journal), GRID, journal, RunOptions(order=[7, 8, 9], stall_minutes=0.65 / 60)
        )
    assert caplog.records == []


def test_without_a_stall_nothing_is_said(journal, caplog):
    with caplog.at_level(logging.WARNING):
        coordinate(FakeEngine(journal, slots=1, delay=0.01), GRID, journal, RunOptions(order=[7, 8]))
    assert caplog.records == []


def test_the_status_while_it_runs(journal):
    seen = []

    def look(done, total):
        if done > total / 2 and not seen:
            seen.append(Status.of(journal))

    coordinate(FakeEngine(journal, slots=1, delay=0.005), GRID, journal, on_progress=look)
    (found,) = seen
    assert (found.state, found.engine, found.planned) == ("running", "fake", 27)
    assert found.dashboard == "http://127.0.0.1:1/status"
    assert 0 < found.done < 27
    assert found.voxels_per_second > 0
    assert 0 < found.seconds_left < 60
    assert found.workers[0].name == "fake-0"
    assert time.time() - found.workers[0].last < 10
    assert Status.of(journal).state == "blocks done"


def test_a_run_that_was_killed_is_silent(journal):
    coordinate(FakeEngine(journal), GRID, journal)
    path = journal.folder / "run.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "state": "running", "alive": time.time() - 300}))
    assert Status.of(journal).state == "silent"
    path.write_text("{torn")
    found = Status.of(journal)
    assert (found.state, found.done, found.left) == ("unknown", 27, 0)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match=r"no run was begun there; there is no run\.json"):
        Status.of(Journal(tmp_path / "q" / "journal"))


def test_a_run_that_waits_for_its_first_worker(tmp_path):
    journal = Journal(tmp_path / "q" / "journal")
    journal.folder.mkdir(parents=True)
    bulletin = Bulletin(journal)
    bulletin.begin(GRID, {"engine": "slurm"})
    bulletin.say(state="waiting for a worker")
    found = Status.of(journal)
    assert (found.state, found.done, found.left) == ("waiting for a worker", 0, 27)


def test_a_torn_line_of_failures_is_passed_over(journal):
    (journal.folder / "failures.log").write_text(
        '{"block": 3, "attempt": 1, "message": "m", "quarantined": false}\n{"blo'
    )
    assert [f.block for f in Status.of(journal).failures] == [3]
