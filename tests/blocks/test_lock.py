import errno
import fcntl
import os

import pytest

from densem.blocks import Journal, lock
from densem.errors import IntegrityError


@pytest.fixture
def refuses(monkeypatch):
    """Every lock is refused with this error."""

    def make(number):
        def flock(*arguments):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return make


def test_a_lock_that_is_held_is_not_taken(tmp_path, caplog):
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("w") as second:
        assert lock.take(first)
        assert not lock.take(second)
    with (tmp_path / "lock").open("w") as third:
        assert lock.take(third, wait=True)
    assert caplog.messages == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_without_locks_a_run_goes_on_and_says_so_once(tmp_path, refuses, caplog, number):
    refuses(number)
    journal = Journal(tmp_path / "p" / "journal")
    for _ in range(2):
        with journal.lock():
            pass
    assert caplog.messages == [
        f"{journal.folder / 'lock'}: file locks do not work on this file system ({os.strerror(number)}): never "
        "start two runs on one folder there, for nothing keeps them apart"
    ]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_another_process_is_told_of(tmp_path, refuses, number):
    refuses(number)
    with (
        pytest.raises(IntegrityError, match="another process is working on it"),
        Journal(tmp_path / "j").lock(),
    ):
        pass
