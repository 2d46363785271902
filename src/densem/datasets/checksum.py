"""Checksum: an algorithm and a hex digest, written `md5:2533...` in registry files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from densem.errors import ConfigError, nearest

DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""Algorithms and the hex digits of their digests. The older two are here because publishers used them."""
PIECE = 2**22

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Checksum:
    """What a file's bytes must hash to.

    Attributes:
        algorithm: md5, sha1, sha256 or sha512.
        digest: lower-case hex.
    """

    algorithm: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """From `algorithm:digest`.

        Raises:
            ConfigError: if it is anything else.
        """
        algorithm, _, digest = text.partition(":")
        if algorithm not in DIGITS:
            raise ConfigError(
                f"checksum {text!r}: expected algorithm:digest such as sha256:9f86d0..., found the algorithm "
                f"{algorithm!r}.{nearest(algorithm, list(DIGITS))}"
            )
        if not re.fullmatch(f"[0-9a-fA-F]{{{DIGITS[algorithm]}}}", digest):
            raise ConfigError(
                f"checksum {text!r}: expected {DIGITS[algorithm]} hex digits after {algorithm}:, found "
                f"{len(digest)} characters"
            )
        return cls(algorithm, digest.lower())

    @classmethod
    def of(cls, path: Path, algorithm: str = "sha256", progress: Progress | None = None) -> Checksum:
        """Of a file; read in pieces."""
        total, done = path.stat().st_size, 0
        running = hashlib.new(algorithm, usedforsecurity=False)
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                running.update(piece)
                done += len(piece)
                if progress:
                    progress(done, total)
        return cls(algorithm, running.hexdigest())

    def __str__(self) -> str:
        """As it is written in registry files."""
        return f"{self.algorithm}:{self.digest}"
