"""Run-length JSON of label volumes, as in the platelet-em release.

One object: `.info` holds `shape` and `dtype`; every other key is a label that is not 0, its value
the text `start length start length ...` of its runs in the flattened volume (C order, z slowest).
Starts count from 1. Runs are held in memory, 16 bytes each; voxels are decoded when asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def write_run_length(volume: Volume, path: Path) -> None:
    """Write a label volume as run-length JSON; read slab by slab, label 0 is left out."""
    pieces: dict[int, list[str]] = {}
    carry: list[tuple[int, int, int]] = []
    depth = max(1, SLAB_VOXELS // (volume.shape[1] * volume.shape[2]))
    for z in range(0, volume.shape[0], depth):
        box = Box((z, 0, 0), (min(z + depth, volume.shape[0]), *volume.shape[1:]))
        runs = _joined(carry, _runs_of(volume.read(box).ravel(), z * volume.shape[1] * volume.shape[2]))
        _append(pieces, runs[:-1])
        carry = runs[-1:]
    _append(pieces, carry)
    table = {".info": {"shape": list(volume.shape), "dtype": volume.dtype.name}}
    texts = {str(label): " ".join(pieces[label]) for label in sorted(pieces)}
    path.write_text(json.dumps({**table, **texts}))


def _runs_of(flat: np.ndarray, first: int) -> list[tuple[int, int, int]]:
    """(label, start, length) of all runs of a flat array whose voxel 0 has the number `first`."""
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    return list(zip(flat[starts].tolist(), (starts + first).tolist(), lengths.tolist(), strict=True))


def _joined(
    carry: list[tuple[int, int, int]], runs: list[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """A run that goes on over the border of two slabs is one."""
    if carry and runs and carry[0][0] == runs[0][0]:
        label, start, length = carry[0]
        return [(label, start, length + runs[0][2]), *runs[1:]]
    return carry + runs


def _append(pieces: dict[int, list[str]], runs: list[tuple[int, int, int]]) -> None:
    for label, start, length in runs:
        if label:
            pieces.setdefault(label, []).append(f"{start + 1} {length}")
