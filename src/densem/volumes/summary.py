"""Summary: what a file of images or labels holds, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box
from densem.volumes.layers import slabs
from densem.volumes.ome_zarr import Layout
from densem.volumes.stacks import Stack, open_stack

WHOLE_BYTES = 512 * 2**20
"""Larger files are not read whole; their range is that of three slices."""
FEW = 64


def describe_file(path: Path, dataset: str | None = None) -> dict[str, Any]:
    """Facts of any file that densem reads; what was stored at import is taken, the rest is measured.

    Keys: `path`, `format`, `shape`, `dtype`, `voxel size nm` (three numbers or "none stored"),
    `offset nm`, `range`, `labels` (counts per value, where there are few), `notes`, `id`, `provenance`.

    Raises:
        NotFoundError, FormatError, ShapeError: with what to do.
    """
    stack = open_stack(path, dataset)
    facts: dict[str, Any] = {
        "path": str(path),
        "format": stack.format,
        "shape": list(stack.shape),
        "dtype": stack.dtype.name + (f" x {stack.samples} colours" if stack.samples > 1 else ""),
        "voxel size nm": list(stack.voxel_size_nm) if stack.voxel_size_nm else "none stored",
    }
    if any(stack.offset_nm):
        facts["offset nm"] = list(stack.offset_nm)
    facts |= _stored(stack) or _measured(stack)
    if stack.notes:
        facts["notes"] = list(stack.notes)
    return facts | {k: stack.record[k] for k in ("kind", "id", "provenance") if k in stack.record}


def _stored(stack: Stack) -> dict[str, Any]:
    """From densem's own record, where it has one."""
    record = stack.record
    if "intensity" in record:
        keys = ("minimum", "maximum", "mean", "std")
        low, high, mean, std = (round(float(record["intensity"][k]), 3) for k in keys)
        return {"range": [low, high], "mean": mean, "std": std}
    if "label_counts" in record:
        counts = {int(k): v for k, v in record["label_counts"].items()}
        names = {entry["id"]: name for name, entry in record.get("classes", {}).items()}
        return {"labels": {_named(i, names): counts[i] for i in sorted(counts)}}
    return {"objects": record["object_count"]} if "object_count" in record else {}


def _named(label: int, names: dict[int, str]) -> str:
    name = "unlabelled" if label == 255 else names.get(label, "")
    return f"{label} {name}".strip()


def _measured(stack: Stack) -> dict[str, Any]:
    """Range, and counts of values where there are few; of three slices where the file is large."""
    z, y, x = stack.shape
    whole = z * y * x * stack.samples * stack.dtype.itemsize <= WHOLE_BYTES
    boxes = slabs(stack.shape, stack.dtype, Layout.fitting(stack.shape)) if whole else _three(stack)
    low, high, counts = np.inf, -np.inf, _Counts()
    for box in boxes:
        block = stack.read(box)
        low, high = min(low, block.min()), max(high, block.max())
        counts.add(block)
    facts: dict[str, Any] = {"range": [_plain(low), _plain(high)]}
    if not whole:
        facts["sampled"] = "range of three slices; the file is large"
    elif counts.table is not None and stack.samples == 1:
        facts["labels"] = {str(v): n for v, n in sorted(counts.table.items())}
    return facts


def _three(stack: Stack) -> list[Box]:
    z, y, x = stack.shape
    return [Box((i, 0, 0), (i + 1, y, x)) for i in sorted({0, z // 2, z - 1})]


def _plain(value: Any) -> float | int:
    return int(value) if float(value).is_integer() else float(value)


class _Counts:
    """Counts of whole-number values until there are more than a few."""

    def __init__(self) -> None:
        self.table: dict[int, int] | None = {}

    def add(self, block: np.ndarray) -> None:
        """Take in a block; gives up at `FEW` different values."""
        if self.table is None or block.dtype.kind not in "biu" or np.unique(block[:1, :64]).size > FEW:
            self.table = None
            return
        values, numbers = np.unique(block, return_counts=True)
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            self.table[int(value)] = self.table.get(int(value), 0) + number
        if len(self.table) > FEW:
            self.table = None
