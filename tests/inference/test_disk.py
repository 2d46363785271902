import os

import pytest

from densem.inference import disk
from densem.inference.disk import DiskSpeed, locks_hold


def test_a_measured_folder_is_left_clean(tmp_path):
    speed = DiskSpeed.measure(tmp_path, 5_000_000)
    assert 1e5 < speed.write < 1e12
    assert 1e5 < speed.read < 1e12
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reason", [KeyboardInterrupt, SystemExit])
def test_nothing_has_a_name_while_it_is_written(tmp_path, monkeypatch, reason):
    seen = []

    def interrupt(descriptor):
        seen.append(list(tmp_path.iterdir()))
        raise reason

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(reason):
        DiskSpeed.measure(tmp_path, 1000)
    assert seen == [[]]
    assert list(tmp_path.iterdir()) == []


def test_rates_are_bytes_a_second_until_all_is_moved_or_time_is_up(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(disk.time, "perf_counter", lambda: next(now))
    # start at 0; asked at 1, 2, 3; all is moved, so not asked again; the end is at 4
    assert disk._rate(lambda: 8, size=24, seconds=50) == 24 / 4
    # start at 5; moved after 6 and 7, time is up at 8; the end is at 9
    assert disk._rate(lambda: 8, size=1000, seconds=3) == 16 / 4


def test_a_lock_keeps_others_out(tmp_path):
    assert locks_hold(tmp_path) is True
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_keeps_nobody_out_is_seen(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    assert locks_hold(tmp_path) is False
    assert list(tmp_path.iterdir()) == []
