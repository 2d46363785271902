"""Jobs that end before their worker comes; the real ones are in test_slurm.py."""

import itertools
import logging
import threading
from types import SimpleNamespace

import pytest

from densem.blocks import early_ends
from densem.blocks.early_ends import EarlyEnds

Status = pytest.importorskip("distributed").Status


class Job:
    def __init__(self, number):
        self.job_id, self.closed, self.status = number, False, None

    async def close(self):
        self.closed = True


class FakeCluster:
    """Calls back at once."""

    def __init__(self, **jobs):
        self.workers = {name: Job(number) for name, number in jobs.items()}
        self.scheduler_info = {"workers": {}}
        self.loop = SimpleNamespace(add_callback=self._call)

    def came(self, *names):
        self.scheduler_info = {"workers": {f"tcp://{n}": {"name": n} for n in names}}

    @staticmethod
    def _call(function, *arguments):
        with pytest.raises(StopIteration):
            function(*arguments).send(None)


@pytest.fixture
def queue(tmp_path):
    queue = SimpleNamespace(logs=tmp_path, name="densem-x", jobs=["11", "12", "13"])
    queue.queued = lambda: queue.jobs
    return queue


def test_only_a_job_that_is_gone_and_never_came_is_dropped(queue, caplog):
    cluster = FakeCluster(a="11", b="12", c="13", hidden="99")
    ends = EarlyEnds(cluster, queue)
    (queue.logs / "densem-x-12.err").write_text("loading\nno such file: python\n\n")
    assert ends.look() == []
    queue.jobs = ["13"]
    cluster.came("a")  # it came, and its job has left the queue: Dask sees to that
    job = cluster.workers["b"]
    assert ends.look() == []  # the first time it is only suspected
    with caplog.at_level(logging.WARNING):
        assert ends.look() == ["12"]
    assert sorted(cluster.workers) == ["a", "c", "hidden"]
    assert job.closed
    assert job.status == Status.closed
    assert caplog.messages == [
        "the Slurm job 12 ended before its worker came, and another is asked for; look at its node and at "
        f"slurm.toml ({queue.logs}/densem-x-12.err: no such file: python)"
    ]
    assert ends.look() == []


def test_a_job_that_ended_between_two_looks_is_known_by_its_log(queue):
    cluster = FakeCluster(a="44")
    ends = EarlyEnds(cluster, queue)
    (queue.logs / "densem-x-44.err").touch()
    assert [ends.look(), ends.look()] == [[], ["44"]]


def test_a_job_that_slurm_did_not_take_is_dropped(queue, caplog):
    cluster = FakeCluster(a=None)
    ends = EarlyEnds(cluster, queue)
    assert [ends.look(), ends.look()] == [[], ["none"]]
    assert cluster.workers == {}
    assert caplog.messages == ["Slurm did not take a job (sbatch failed), and another is asked for"]


def test_a_suspect_that_comes_after_all_is_kept(queue):
    cluster = FakeCluster(a="11")
    ends = EarlyEnds(cluster, queue)
    ends.look()
    queue.jobs = []
    assert ends.look() == []
    cluster.came("a")
    assert ends.look() == []
    assert list(cluster.workers) == ["a"]


def test_jobs_without_a_log_are_named_all_the_same(queue, caplog):
    cluster = FakeCluster(a="11")
    ends = EarlyEnds(cluster, queue)
    ends.look()
    queue.jobs = []
    ends.look()
    assert ends.look() == ["11"]
    assert caplog.messages[0].endswith("/densem-x-11.err: no line)")


def test_after_a_few_rounds_it_waits_longer_until_a_new_worker_comes(queue, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(early_ends, "time", SimpleNamespace(monotonic=lambda: now[0]))
    cluster = FakeCluster()
    cluster.came("old")
    ends, rounds = EarlyEnds(cluster, queue, look_seconds=2.0), []
    for _ in range(2000):
        now[0] += 2
        cluster.workers = cluster.workers or {
            f"w{now[0]:.0f}{k}": Job(None) for k in range(7)
        }  # seven at once
        if ends.look():
            rounds.append(now[0])
    assert [b - a for a, b in itertools.pairwise(rounds)][:6] == [4, 4, 4, 8, 16, 32]
    assert rounds[-1] - rounds[-2] == 600
    assert ends.pause == 600
    cluster.came("old", "w9")
    ends.look()
    assert ends.pause == 0


def test_what_goes_wrong_in_a_look_does_not_end_the_thread(queue):
    looks = threading.Event()
    calls = []

    def broken():
        calls.append(0)
        if len(calls) == 3:
            looks.set()
        raise OSError(116, "Stale file handle")

    queue.queued = broken
    with EarlyEnds(FakeCluster(), queue, look_seconds=0.01):
        assert looks.wait(5)


def test_nothing_is_dropped_while_the_cluster_closes(queue):
    cluster = FakeCluster(a=None)
    ends = EarlyEnds(cluster, queue)
    ends._over.set()
    ends.look()
    ends.look()
    assert list(cluster.workers) == ["a"]
