"""Shared: a stack or volume that other processes open anew by its path, each of them once.

What is sent is the address. A machine that cannot open it, or finds something else there, is named.
"""

from __future__ import annotations

import functools
import socket
import threading
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from densem.blocks import UnfitWorkerError
from densem.errors import ConfigError, DensemError
from densem.volumes.ome_zarr import open_volume
from densem.volumes.stacks import Stack, open_stack
from densem.volumes.volume import Volume

KEPT = 4
"""Sources that a process keeps open."""
_opening = threading.Lock()


def _token() -> str:
    return uuid.uuid4().hex[:8]


@dataclass(frozen=True)
class StackAddress:
    """Where a stack is, and what it must be there.

    A worker that lives long keeps what it has opened; the token, new for every `Shared`, keeps it from taking
    a file for the one that lay there before.
    """

    path: Path
    dataset: str | None
    first: int
    shape: tuple[int, ...]
    dtype: str
    token: str = field(default_factory=_token)

    @classmethod
    def of(cls, stack: Stack) -> StackAddress:
        """The address of a stack that was opened from a file or folder."""
        if stack.address is None:
            raise ConfigError(
                f"{stack.path}: expected images that other machines can open by their path, found some in "
                "memory; write them to a file first"
            )
        path, dataset = stack.address
        return cls(path.resolve(), dataset, stack.first, stack.shape, stack.dtype.name)

    def open(self) -> Stack:
        """Open it again."""
        return replace(open_stack(self.path, self.dataset), first=self.first, depth=self.shape[0])

    def facts(self, found: Stack) -> tuple[Any, ...]:
        """What must be as expected."""
        return found.shape, found.dtype.name

    @property
    def expected(self) -> tuple[Any, ...]:
        """What is expected of it."""
        return self.shape, self.dtype


@dataclass(frozen=True)
class VolumeAddress:
    """Where a volume is, and what it must be there; with a token as a stack."""

    path: Path
    voxel_size_nm: tuple[float, float, float]
    shape: tuple[int, ...]
    id: str
    token: str = field(default_factory=_token)

    @classmethod
    def of(cls, volume: Volume) -> VolumeAddress:
        """The address of a volume that was opened by its path."""
        if volume.path is None:
            raise ConfigError(
                f"{volume.name}: expected a volume that other machines can open by its path, found one in "
                "memory; write it as OME-Zarr first"
            )
        return cls(volume.path.resolve(), volume.voxel_size_nm, volume.shape, volume.id)

    def open(self) -> Volume:
        """Open it again."""
        return open_volume(self.path, voxel_size_nm=self.voxel_size_nm)

    def facts(self, found: Volume) -> tuple[Any, ...]:
        """What must be as expected."""
        return found.shape, found.id

    @property
    def expected(self) -> tuple[Any, ...]:
        """What is expected of it."""
        return self.shape, self.id


Address = StackAddress | VolumeAddress


@dataclass
class Shared:
    """A source that is read here as it is, and elsewhere through its address.

    Attributes:
        source: a stack or volume; not sent.
    """

    source: Any
    _address: Address | None = field(default=None, init=False)

    def get(self) -> Any:
        """The stack or volume.

        Raises:
            UnfitWorkerError: naming a machine that cannot open it.
        """
        if self.source is None:
            assert self._address is not None
            with _opening:
                self.source = _opened(self._address)
        return self.source

    def __getstate__(self) -> Address:
        if self._address is None:
            found = self.source
            self._address = StackAddress.of(found) if isinstance(found, Stack) else VolumeAddress.of(found)
        return self._address

    def __setstate__(self, address: Address) -> None:
        self.source, self._address = None, address


@functools.lru_cache(maxsize=KEPT)
def _opened(address: Address) -> Any:
    host = socket.gethostname()
    shared = "it must lie on a disk that all machines see under the same path"
    try:
        found: Any = address.open()
    except (DensemError, OSError) as error:
        raise UnfitWorkerError(f"machine {host} cannot open {address.path} ({error}): {shared}") from None
    if address.facts(found) != address.expected:
        raise UnfitWorkerError(
            f"machine {host} finds something else at {address.path}: expected "
            f"{_text(address.expected)}, found {_text(address.facts(found))}; {shared}"
        )
    return found


def _text(facts: tuple[Any, ...]) -> str:
    shape, kind = facts
    return f"{' x '.join(map(str, shape))} voxels ({kind})"
