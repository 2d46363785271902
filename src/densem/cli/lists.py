"""Lists: options that take several words, repeated or with commas."""

from __future__ import annotations

from densem.errors import ConfigError


def listed(
    values: list[str] | None, flag: str, what: str = "names, such as a or a,b"
) -> tuple[str, ...] | None:
    """The words of an option; None where it was not given.

    Args:
        values: of the option, one for each time it was given.
        flag: its name.
        what: what its words are, for a message.

    Raises:
        ConfigError: if it was given without a word.
    """
    if not values:
        return None
    found = tuple(word.strip() for value in values for word in value.split(",") if word.strip())
    if not found:
        raise ConfigError(f"{flag} nothing: expected {what}")
    return found
