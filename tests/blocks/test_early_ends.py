"""Jobs that end before their worker comes; the real ones are in test_slurm.py."""

import logging
from types import SimpleNamespace

import pytest

from densem.blocks.early_ends import EarlyEnds


class Job:
    def __init__(self, number):
        self.job_id, self.closed = number, False

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
    cluster = FakeCluster(a="11", b="12", c="13", d=None)
    ends = EarlyEnds(cluster, queue)
    (queue.logs / "densem-x-12.err").write_text("loading\nno such file: python\n\n")
    assert ends.look() == []
    queue.jobs = ["13"]
    cluster.came("a")  # it came, and its job has left the queue: Dask sees to that
    job = cluster.workers["b"]
    assert ends.look() == []  # the first time it is only suspected
    with caplog.at_level(logging.WARNING):
        assert ends.look() == ["12"]
    assert sorted(cluster.workers) == ["a", "c", "d"]
    assert job.closed
    assert caplog.messages == [
        "the Slurm job 12 ended before its worker came, and another is asked for; look at its node and at "
        f"slurm.toml ({queue.logs}/densem-x-12.err: no such file: python)"
    ]
    assert ends.look() == []


def test_a_suspect_that_comes_after_all_is_kept(queue):
    cluster = FakeCluster(a="11")
    ends = EarlyEnds(cluster, queue)
    queue.jobs = []
    assert ends.look() == []
    cluster.came("a")
    assert ends.look() == []
    assert list(cluster.workers) == ["a"]


def test_jobs_without_a_log_are_named_all_the_same(queue, caplog):
    cluster = FakeCluster(a="21")
    ends = EarlyEnds(cluster, queue)
    ends.look()
    assert ends.look() == ["21"]
    assert caplog.messages[0].endswith("/densem-x-21.err: no line)")


def test_after_a_few_in_a_row_it_waits_longer_until_a_worker_comes(queue):
    cluster = FakeCluster()
    ends, pauses, queue.jobs = EarlyEnds(cluster, queue, look_seconds=2.0), [], []
    for number in range(30, 43):
        cluster.workers = {f"w{number}": Job(str(number))}
        ends.look()
        ends.look()
        pauses.append(ends.pause)
    assert pauses[:6] == [2, 2, 2, 4, 8, 16]
    assert pauses[-1] == 600
    cluster.came("w9")
    ends.look()
    assert ends.pause == 2
