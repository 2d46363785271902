from types import SimpleNamespace

import pytest

from densem.inference import machine
from densem.inference.machine import Cores, Memory

GB = 10**9


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Control groups on a machine of 16 cores, 12 of which may be used, and 64 GB, 40 of them free."""
    membership = tmp_path / "membership"
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "MEMBERSHIP", membership)
    monkeypatch.setattr(machine.psutil, "cpu_count", lambda: 16)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(12), raising=False)
    seen = SimpleNamespace(total=64 * GB, available=40 * GB)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: seen)

    def write(folder, **files):
        membership.write_text("4:cpu,memory:/slurm/job_7\n0::/slurm/job_7\n")
        path = tmp_path / "groups" / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / name.replace("__", ".")).write_text(f"{text}\n")

    return write


def test_without_groups_affinity_and_the_machine_count(group):
    assert Cores.look() == Cores(12, 16)
    assert Memory.look() == Memory(64 * GB, 40 * GB, limited=False)


@pytest.mark.parametrize(
    ("quota", "usable"),
    [("300000 100000", 3), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 12), ("", 12)],
)
def test_a_quota_of_time_counts_as_whole_cores(group, quota, usable):
    group("slurm/job_7", cpu__max=quota)
    assert Cores.look() == Cores(usable, 16)


def test_the_tightest_group_above_counts(group):
    group("slurm/job_7", cpu__max="max 100000")
    group("slurm", cpu__max="400000 100000")
    group("", cpu__max="900000 100000")
    assert Cores.look() == Cores(4, 16)


def test_a_limit_of_memory_less_what_cannot_be_let_go(group):
    group(
        "slurm/job_7",
        memory__max=8 * GB,
        memory__current=5 * GB,
        memory__stat=f"anon 1\ninactive_file {2 * GB}",
    )
    assert Memory.look() == Memory(8 * GB, 5 * GB, limited=True)


def test_limits_of_the_older_groups_are_read(group):
    group(
        "memory/slurm",
        memory__limit_in_bytes=6 * GB,
        memory__usage_in_bytes=9 * GB,
        memory__stat=f"total_inactive_file {GB}",
    )
    assert Memory.look() == Memory(6 * GB, 0, limited=True)


def test_no_limit_is_none(group):
    group("slurm/job_7", memory__max="max", memory__current=5 * GB, memory__stat="")
    group("memory/slurm", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=GB, memory__stat="")
    assert Memory.look() == Memory(64 * GB, 40 * GB, limited=False)
