"""Blocks on a Dask scheduler with worker processes, on the loopback interface.

Timing: only upper bounds that are far from what is usual; a machine under heavy load may still be slower
in starting processes than Dask waits for.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from densem.blocks import Grid, Journal, RunOptions, coordinate
from densem.blocks.cluster import Cluster, ask, connect, do_block, require, settle, threads
from densem.blocks.engine import EngineLostError
from densem.errors import ConfigError, IncompleteError, ResourceError

pytest.importorskip("distributed")

GRID = Grid((5, 9, 14), (2, 4, 5))  # 27 blocks


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.begin({"shape": list(GRID.shape), "block": list(GRID.cell)})
    return journal


def work(address, task, journal, options=None, on_progress=None):
    with connect(address) as client:
        return coordinate(Cluster(client, task, journal), GRID, journal, options, on_progress)


def test_every_block_is_noted_by_the_worker_that_did_it(dask_scheduler, journal):
    told = []
    report = work(dask_scheduler, lambda i, box: {"size": box.size}, journal, None, lambda *a: told.append(a))
    assert (report.planned, report.done) == (27, 27)
    records = journal.records()
    assert sum(r["size"] for r in records.values()) == 5 * 9 * 14
    names = {r["worker"] for r in records.values()}
    assert {p.stem for p in journal.folder.glob("*.jsonl")} == names
    assert {p.stem for p in journal.logs.glob("*.log")} == names
    assert len({n.split("-")[-2] for n in names}) == 2  # process ids
    assert all(r["seconds"] >= 0 and abs(time.time() - r["time"]) < 60 for r in records.values())
    assert told[-1] == (630, 630)


def test_a_failure_is_tried_again_and_written_into_the_worker_log(dask_scheduler, journal):
    def task(index, box):
        if index in (3, 11):
            raise ValueError(f"no luck with {index}")
        return {}

    with pytest.raises(IncompleteError, match=r"2 of 27 .* First failure: ValueError: no luck with"):
        work(dask_scheduler, task, journal, RunOptions(retries=1))
    assert len(journal.done()) == 25
    logs = "".join(p.read_text() for p in journal.logs.glob("*.log"))
    assert logs.count("ValueError: no luck with 3") == 2
    assert "block 3 (z 0:2, y 4:8, x 0:5) failed" in logs


def test_a_full_disk_of_a_worker_stops_the_run(dask_scheduler, journal):
    def task(index, box):
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match=r"the disk is full \(block \d+: .*No space left on device"):
        work(dask_scheduler, task, journal)


def test_a_killed_worker_loses_nothing(dask_scheduler, journal, tmp_path):
    marker = str(tmp_path / "killed")

    def task(index, box):
        import os
        import signal

        if index == 9 and not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"size": box.size}

    report = work(dask_scheduler, task, journal)
    assert report.done == 27
    assert os.path.exists(marker)
    assert sum(r["size"] for r in journal.records().values()) == 5 * 9 * 14


@pytest.mark.parametrize(
    ("status", "error"), [("finished", None), ("lost", None), ("cancelled", EngineLostError)]
)
def test_a_block_whose_result_died_with_its_worker_is_done(journal, status, error):
    class Given:
        """Ends at once; `lost` is what Dask says when a worker dies after its task has ended."""

        def __init__(self):
            self.status = status

        def add_done_callback(self, callback):
            self.callback = callback

        def release(self):
            pass

    class Client:
        status = "running"
        scheduler = None

        def submit(self, *arguments, **options):
            self.given = Given()
            return self.given

    client = Client()
    future = Cluster(client, lambda index, box: {}, journal).submit(0, GRID.box(0))
    client.given.callback(client.given)
    assert isinstance(future.exception(0), error or type(None))


def test_a_block_that_kills_every_worker_is_put_aside(journal):
    import dask
    from distributed import LocalCluster

    def task(index, box):
        import os

        if index == 2:
            os._exit(1)
        return {}

    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster, pytest.raises(IncompleteError, match=r"block 2 .*First failure: KilledWorker"):  # fmt: skip
        work(cluster.scheduler_address, task, journal, RunOptions(retries=0, order=[2]))


def test_a_run_that_begins_again_does_not_write_into_the_files_of_the_last(dask_scheduler, journal):
    work(dask_scheduler, lambda i, box: {}, journal, RunOptions(order=range(10)))
    journal.keep(set(range(5)))  # the workers still hold the files that are removed here
    work(dask_scheduler, lambda i, box: {}, journal)
    assert journal.done() == set(range(27))


def test_ctrl_c_drops_what_is_handed_out(dask_scheduler, journal):
    def slow(index, box):
        import time

        time.sleep(0.2)
        return {}

    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(dask_scheduler, slow, journal, on_progress=interrupt)
    with connect(dask_scheduler) as client:
        deadline = time.monotonic() + 10
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert 0 < len(journal.done()) < 27


def test_a_block_that_was_dropped_is_waited_for(dask_scheduler, journal, tmp_path, caplog):
    marker = str(tmp_path / "written")

    def slow(index, box):
        import pathlib
        import time

        pathlib.Path(marker + ".begun").touch()
        time.sleep(1.0)
        pathlib.Path(marker).touch()
        return {}

    with connect(dask_scheduler) as client:
        assert settle(client, tmp_path, 0)
        folder = str(journal.folder)
        given = client.submit(do_block, slow, folder, "settling", 0, GRID.box(0), pure=False)
        deadline = time.monotonic() + 20
        while not os.path.exists(marker + ".begun"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        client.cancel([given], force=True)
        assert not settle(client, tmp_path, 0)
        assert settle(client, tmp_path / "other", 0)
        assert not os.path.exists(marker)
        assert settle(client, tmp_path, 20)
        assert os.path.exists(marker)
    assert settle(client, tmp_path)  # gone
    assert caplog.messages == [f"workers are still doing blocks of {tmp_path} that were dropped 0 s ago"]


def test_workers_find_a_journal_whose_folder_is_given_from_here(dask_scheduler, journal, monkeypatch):
    monkeypatch.chdir(journal.folder.parent)
    relative = Journal(journal.folder.relative_to(journal.folder.parent))
    assert work(dask_scheduler, lambda i, box: {}, relative, RunOptions(order=range(4))).done == 4
    assert journal.done() == {0, 1, 2, 3}


def test_a_killed_scheduler_is_noticed(journal, tmp_path):
    file = tmp_path / "scheduler.json"
    common = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    head = subprocess.Popen([*command, "--no-dashboard", "--scheduler-file", str(file)], **common)
    worker = None
    try:
        address = _address(file)
        arms = ["distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
        worker = subprocess.Popen([sys.executable, "-m", *arms], **common)

        def slow(index, box):
            import time

            time.sleep(0.1)
            return {}

        def kill(done, total):
            if done:
                head.send_signal(signal.SIGKILL)

        start = time.monotonic()
        with pytest.raises(
            IncompleteError, match=r"the Dask scheduler at tcp://127.0.0.1:\d+ is gone .*again"
        ):
            work(address, slow, journal, on_progress=kill)
        assert time.monotonic() - start < 60
    finally:
        for process in (head, worker):
            if process is not None:
                process.kill()
                process.wait()
    assert 0 < len(journal.done()) < 27


def _address(file):
    import json

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return json.loads(file.read_text())["address"]
        except (OSError, ValueError):
            time.sleep(0.1)
    raise AssertionError("no scheduler came up")


def test_slots_follow_the_workers(dask_scheduler, journal):
    with connect(dask_scheduler) as client:
        client.wait_for_workers(2, timeout=30)
        assert Cluster(client, lambda i, b: {}, journal).slots == 2 * threads(client) + 2


def test_a_question_to_a_worker(dask_scheduler):
    with connect(dask_scheduler) as client:
        assert ask(client, divmod, 17, 5) == (3, 2)


def test_workers_that_die_of_a_question_are_no_traceback():
    from distributed import KilledWorker

    class Client:
        """Its workers died: the answer is Dask's error."""

        status = "error"

        def submit(self, *arguments, **options):
            return self

        def done(self):
            return True

        def result(self):
            raise KilledWorker("densem-ask", None, 1)

    with pytest.raises(ResourceError, match=r"the workers died while they were asked .*look at their logs"):
        ask(Client(), divmod, 17, 5)


def test_no_worker_is_said_loudly(caplog):
    import threading

    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster, connect(cluster.scheduler_address) as client:  # fmt: skip
        later = threading.Timer(1.0, lambda: cluster.scale(1))
        later.start()
        assert ask(client, divmod, 17, 5, stall_minutes=0.3 / 60) == (3, 2)
        later.join()
    assert "no worker has come in" in caplog.text


def test_no_scheduler_is_a_quick_refusal(monkeypatch):
    monkeypatch.setattr("densem.blocks.cluster.CONNECT_SECONDS", 1.0)
    with pytest.raises(ResourceError) as caught:
        connect("tcp://127.0.0.1:9")
    assert str(caught.value).startswith(
        "--scheduler tcp://127.0.0.1:9: no Dask scheduler answered there within 1 s ("
    )
    assert "start one with  dask scheduler" in str(caught.value)


def test_an_address_without_protocol_is_refused():
    with pytest.raises(ConfigError, match=r"--scheduler node7:8786: expected an address such as tcp://"):
        connect("node7:8786")


def test_a_missing_extra_names_it():
    with pytest.raises(ConfigError) as caught:
        require("no_such_distributed")
    assert str(caught.value) == (
        "--engine dask and --engine slurm need the package no_such_distributed, which is not installed here: "
        "pip install 'densem[cluster]'"
    )
