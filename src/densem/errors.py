"""The mistakes a user can make, each with a class of its own that is also a builtin.

A message says what was expected, what was found, where (path, field, block) and what to do.
The command line prints it on one line and exits with code 2; nothing half-written is left behind.
"""

from __future__ import annotations


class DensemError(Exception):
    """Anything densem refuses. Ends a command with exit code 2."""


class InputError(DensemError, ValueError):
    """A value, file or array that cannot be what was asked for."""


class EmptyError(InputError):
    """An image that holds a single value wherever it was looked at."""


class FormatError(InputError):
    """A file that is empty, truncated, corrupt, or not of the format its name says."""


class VoxelSizeError(InputError):
    """A voxel size that is missing, zero, negative or different from what is needed."""


class ShapeError(InputError):
    """Arrays whose rank or shape does not fit."""


class SchemaError(InputError):
    """Labels or class definitions that do not fit the label schema."""


class ConfigError(InputError):
    """A recipe, study or model file with a wrong or unknown entry."""


class NotFoundError(DensemError, FileNotFoundError):
    """A file, volume, model or prediction that is not there."""

    def __str__(self) -> str:
        """The message as it was given (FileNotFoundError would quote it)."""
        return str(self.args[0]) if self.args else ""


class ExistsError(DensemError, FileExistsError):
    """An output that is there already and was not asked to be replaced."""

    def __str__(self) -> str:
        """The message as it was given."""
        return str(self.args[0]) if self.args else ""


class ResourceError(DensemError, OSError):
    """Too little disk or memory for what was asked."""

    def __str__(self) -> str:
        """The message as it was given."""
        return str(self.args[0]) if self.args else ""


class DownloadError(DensemError, ConnectionError):
    """A file that could not be fetched: no network, not there, broken off again and again."""

    def __str__(self) -> str:
        """The message as it was given."""
        return str(self.args[0]) if self.args else ""


class IntegrityError(DensemError, RuntimeError):
    """Something on disk changed under us: a tampered model, a changed input, a bad checksum."""


class IncompleteError(DensemError, RuntimeError):
    """A run over blocks that ended with blocks missing or quarantined."""


class CollapseError(DensemError, ArithmeticError):
    """A training run that collapsed in every attempt."""


class AccuracyError(DensemError, ArithmeticError):
    """A cheaper form of a model that labels worse than is allowed."""


class DensemWarning(UserWarning):
    """Something a user should look at, but that does not stop the work."""


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint naming the known word closest to `word`, or listing all; for messages.

    Returns:
        `" Did you mean 'x'?"` where one is close, else `" Known: a, b, c."`.
    """
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(sorted(known))}." if known else ""
