"""Lock: an open file that one process at a time holds; the system lets go of it when the process ends.

Some network file systems have no locks (Lustre without `-o flock`, NFS without its lock daemon). There nobody
is kept out, which is said once for each file, and the work goes on.
"""

from __future__ import annotations

import errno
import functools
import logging
from typing import IO

HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
_log = logging.getLogger(__name__)


def take(file: IO[str], wait: bool = False) -> bool:
    """Take the lock of an open file, or find that another process holds it.

    Args:
        file: open for writing; closing it lets go of the lock.
        wait: until the other process lets go.

    Returns:
        Whether nobody else holds it, as far as the file system can tell.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in HELD:
            return False
        _warn(file.name, str(error.strerror))
    return True


@functools.cache
def _warn(path: str, reason: str) -> None:
    _log.warning(
        "%s: file locks do not work on this file system (%s): never start two runs on one folder there, for "
        "nothing keeps them apart", path, reason,
    )  # fmt: skip
