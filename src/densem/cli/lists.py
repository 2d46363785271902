"""Lists: options that take several words, repeated or with commas."""

from __future__ import annotations


def listed(values: list[str] | None) -> tuple[str, ...] | None:
    """The words of an option; None where it has none."""
    found = (word.strip() for value in values or () for word in value.split(","))
    return tuple(word for word in found if word) or None
