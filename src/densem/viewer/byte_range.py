"""Byte ranges of HTTP (RFC 9110, section 14): one range, from an offset or counted from the end."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


class UnsatisfiableError(Exception):
    """No byte of the file is asked for."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte that are asked for, the last one included.

    Args:
        header: of the request, such as `bytes=0-99`, `bytes=100-` or `bytes=-100`.
        size: of the file.

    Returns:
        None for the whole file: no range, several, or one that cannot be understood.

    Raises:
        UnsatisfiableError: the range lies behind the end, or is empty.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < int(found[1]):
            return None
    if first > last:
        raise UnsatisfiableError
    return first, last
