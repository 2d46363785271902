"""Run-length JSON of label volumes, as in the platelet-em release.

One object: `.info` holds `shape` and `dtype`; every other key is a label that is not 0, its value
the text `start length start length ...` of its runs in the flattened volume (C order, z slowest).
Starts count from 1. Runs are held in memory, 16 bytes each; voxels are decoded when asked for.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from densem.blocks import Box, Triple, triple
from densem.errors import FormatError
from densem.volumes.stacks import Stack
from densem.volumes.volume import Volume

FORMAT = "run-length JSON"
SLAB_VOXELS = 2**24


@dataclass(frozen=True, eq=False)
class RunLengthArray:
    """Labels as runs sorted by their start; (Z, Y, X) when indexed.

    `starts` and `stops` are int64 (R,), half-open flat voxel numbers from 0; `labels` (R,).
    """

    starts: np.ndarray
    stops: np.ndarray
    labels: np.ndarray
    shape: Triple

    @property
    def dtype(self) -> np.dtype:
        """Narrowest unsigned type that holds the labels."""
        return self.labels.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """The voxels of a box; whole slices are decoded."""
        z0, z1, _ = key[0].indices(self.shape[0])
        plane = self.shape[1] * self.shape[2]
        low, high = z0 * plane, max(z0, z1) * plane
        chosen = slice(
            int(np.searchsorted(self.stops, low, "right")), int(np.searchsorted(self.starts, high, "left"))
        )
        starts, stops = (np.clip(v[chosen], low, high) - low for v in (self.starts, self.stops))
        out = np.zeros(high - low, self.dtype)
        lengths = stops - starts
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        out[np.repeat(starts, lengths) + within] = np.repeat(self.labels[chosen], lengths)
        return out.reshape(-1, *self.shape[1:])[(slice(None), *key[1:])]


def open_run_length(path: Path, dataset: str | None) -> Stack:
    """Open a run-length JSON file as a stack of labels.

    Raises:
        FormatError: if it is not one, or its runs do not fit its shape.
    """
    del dataset
    try:
        table = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise FormatError(f"{path}: expected run-length JSON, but it cannot be read ({error})") from None
    shape = _shape(table, path)
    runs = [_runs(str(key), text, path) for key, text in table.items() if key not in (".info", "info")]
    return Stack(_assembled(runs, shape, path), path, FORMAT, whole=f"{FORMAT} is read as a whole")


def _shape(table: Any, path: Path) -> Triple:
    info = table.get(".info", table.get("info")) if isinstance(table, dict) else None
    try:
        sides = [int(s) for s in info["shape"]]  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        raise FormatError(
            f'{path}: expected run-length JSON with ".info": {{"shape": [z, y, x]}}, found none'
        ) from None
    if not 2 <= len(sides) <= 3 or min(sides) < 1:
        raise FormatError(f"{path}: expected a shape of three sides (z, y, x), found {sides}")
    return triple([1] * (3 - len(sides)) + sides)


Runs = tuple[int, np.ndarray, np.ndarray]


def _runs(key: str, text: Any, path: Path) -> Runs:
    """Label, starts from 0 and lengths."""
    try:
        numbers = np.array(str(text).split(), dtype=np.int64)
        label = int(key)
    except ValueError:
        raise FormatError(f"{path}: label {key!r}: expected whole numbers 'start length ...'") from None
    if numbers.size % 2 or label < 0:
        raise FormatError(
            f"{path}: label {key!r}: expected pairs 'start length' of a label from 0 up, found "
            f"{numbers.size} numbers"
        )
    return label, numbers[0::2] - 1, numbers[1::2]


def _assembled(runs: list[Runs], shape: Triple, path: Path) -> RunLengthArray:
    """All runs in order of their start; they must lie inside and not overlap."""
    top = max([label for label, _, _ in runs], default=0)
    starts = np.concatenate([s for _, s, _ in runs] or [np.zeros(0, np.int64)])
    lengths = np.concatenate([n for _, _, n in runs] or [np.zeros(0, np.int64)])
    labels = np.concatenate(
        [np.full(s.size, label, np.min_scalar_type(top)) for label, s, _ in runs] or [np.zeros(0, np.uint8)]
    )
    order = np.argsort(starts, kind="stable")
    starts, stops, labels = starts[order], (starts + lengths)[order], labels[order]
    size = shape[0] * shape[1] * shape[2]
    if starts.size and (starts[0] < 0 or int(stops.max()) > size or int(lengths.min()) < 1):
        raise FormatError(
            f"{path}: expected runs within voxels 1 to {size} of shape {' x '.join(map(str, shape))}, found "
            f"{int(starts[0]) + 1} to {int(stops.max())}"
        )
    if (stops[:-1] > starts[1:]).any():
        at = int((stops[:-1] > starts[1:]).argmax())
        raise FormatError(
            f"{path}: labels {labels[at]} and {labels[at + 1]} both claim voxel {int(starts[at + 1]) + 1}; "
            "the file is corrupt"
        )
    return RunLengthArray(starts, stops, labels, shape)


# ---- writing ---------------------------------------------------------------------------------

BATCH_RUNS = 2**20
"""Runs held in memory while the text of several labels is made."""


def write_run_length(volume: Volume, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write a label volume as run-length JSON; label 0 is left out.

    The volume is read slab by slab; its runs wait in a temporary file beside `path` until those of a label
    can be written together, so that memory depends neither on the size of the volume nor on the labels.

    Args:
        volume: of integers from 0 up.
        path: the file to make.
        progress: told (slices read, slices in all).
    """
    with tempfile.TemporaryFile(dir=path.parent) as spool, path.open("w") as file:
        counts = _spool(volume, spool, progress)
        info = {"shape": list(volume.shape), "dtype": volume.dtype.name}
        file.write(f'{{".info": {json.dumps(info)}')
        for batch in _batches(counts):
            _write_batch(batch, spool, file)
        file.write("}")


def _spool(volume: Volume, spool: IO[bytes], progress: Callable[[int, int], None] | None) -> Counter[int]:
    """Append all runs, int64 (label, start, length); gives how many each label has."""
    counts: Counter[int] = Counter()
    carry = np.zeros((0, 3), np.int64)
    plane = volume.shape[1] * volume.shape[2]
    depth = max(1, SLAB_VOXELS // plane)
    for z in range(0, volume.shape[0], depth):
        stop = min(z + depth, volume.shape[0])
        flat = volume.read(Box((z, 0, 0), (stop, *volume.shape[1:]))).ravel()
        runs = _joined(carry, _runs_of(flat, z * plane))
        _append(spool, runs[:-1], counts)
        carry = runs[-1:]
        if progress:
            progress(stop, volume.shape[0])
    _append(spool, carry, counts)
    return counts


def _runs_of(flat: np.ndarray, first: int) -> np.ndarray:
    """Label, start and length of all runs of a flat array whose voxel 0 has the number `first`."""
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    return np.column_stack([flat[starts].astype(np.int64), starts + first, lengths])


def _joined(carry: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """A run that goes on over the border of two slabs is one."""
    if len(carry) and carry[0, 0] == runs[0, 0]:
        runs[0, 1:] = carry[0, 1], carry[0, 2] + runs[0, 2]
        return runs
    return np.concatenate([carry, runs])


def _append(spool: IO[bytes], runs: np.ndarray, counts: Counter[int]) -> None:
    runs = runs[runs[:, 0] != 0]
    spool.write(np.ascontiguousarray(runs).data.cast("B") if runs.size else b"")
    labels, found = np.unique(runs[:, 0], return_counts=True)
    counts.update(dict(zip(labels.tolist(), found.tolist(), strict=True)))


def _batches(counts: Counter[int]) -> Iterator[list[int]]:
    """Labels, ascending, whose runs together are few enough; one with more stands alone."""
    batch: list[int] = []
    size = 0
    for label in sorted(counts):
        if batch and size + counts[label] > BATCH_RUNS:
            yield batch
            batch, size = [], 0
        batch.append(label)
        size += counts[label]
    if batch:
        yield batch


def _write_batch(batch: list[int], spool: IO[bytes], file: IO[str]) -> None:
    """Write the entries of some labels; those of a single one pass through, others are gathered first."""
    if len(batch) == 1:
        file.write(f', "{batch[0]}": "')
        for i, runs in enumerate(_chosen(batch, spool)):
            file.write((" " if i else "") + _text(runs))
        file.write('"')
        return
    gathered = np.concatenate(list(_chosen(batch, spool)))
    gathered = gathered[np.argsort(gathered[:, 0], kind="stable")]
    cuts = np.searchsorted(gathered[:, 0], batch)
    for label, runs in zip(batch, np.split(gathered, cuts[1:]), strict=True):
        file.write(f', "{label}": "{_text(runs)}"')


def _chosen(batch: list[int], spool: IO[bytes]) -> Iterator[np.ndarray]:
    """The runs of some labels, piece by piece."""
    spool.seek(0)
    while piece := spool.read(24 * max(1, BATCH_RUNS // 4)):
        runs = np.frombuffer(piece, np.int64).reshape(-1, 3)
        runs = runs[np.isin(runs[:, 0], batch)]
        if len(runs):
            yield runs


def _text(runs: np.ndarray) -> str:
    """Starts from 1 and lengths."""
    return " ".join(map(str, (runs[:, 1:] + (1, 0)).ravel().tolist()))
