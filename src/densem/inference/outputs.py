"""Outputs: the volumes of a prediction while they are written.

Each lies under a temporary name until all are whole: an unfinished prediction cannot be mistaken for a
finished one. A block covers whole shards; it is read back and compared before it counts as written.
Digests are taken shard by shard, so a volume's id does not depend on the blocks it was written in.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import zarr

from densem.blocks import Box, Crew, Grid, Journal, LocalCrew, Triple
from densem.errors import IntegrityError, ResourceError
from densem.inference.quantities import size_text
from densem.model import AffinityHead
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Layout, ome_zarr, pyramid, shards
from densem.volumes.volume import Nanometres

FILL = {"classes": UNLABELLED}
"""Where nothing was predicted; 0 in the other outputs."""
NAMES = ("classes", "confidence", "entropy", "probabilities", "affinities")
LARGEST_SHARD_COUNT = 100_000
LARGE_TILE = 2_000_000
Digests = dict[str, list[str]]
DIGEST_BYTES = 8


@dataclass(frozen=True)
class Outputs:
    """The volumes of one prediction.

    Attributes:
        folder: of the prediction.
        names: of `classes`, `confidence`, `entropy`, `probabilities`, `affinities`.
        shape: of the volume, in voxels.
        layout: chunks are tiles, shards are whole tiles.
        schema: number of classes and their names.
        head: whose affinities are written, if they are.
    """

    folder: Path
    names: tuple[str, ...]
    shape: Triple
    layout: Layout
    schema: LabelSchema
    head: AffinityHead | None = None

    def channels(self, name: str) -> int:
        """Length of the first axis of an output; 0 where it has none, or is not written."""
        if name not in self.names:
            return 0
        if name == "affinities":
            assert self.head is not None
            return len(self.head.offsets)
        return len(self.schema) if name == "probabilities" else 0

    def lead(self, name: str) -> tuple[int, ...]:
        """The axes of an output before z, y and x."""
        return (self.channels(name),) if self.channels(name) else ()

    def dtype(self, name: str) -> str:
        """Of an output."""
        return "float32" if name == "probabilities" else "uint8"

    def path(self, name: str) -> Path:
        """Where a finished output lies."""
        return self.folder / f"{name}.zarr"

    def create(self) -> None:
        """Lay out all outputs, empty; what was begun before is removed."""
        self.clear()
        for name in self.names:
            part = ome_zarr.temporary(self.path(name))
            part.mkdir(parents=True)
            group = zarr.open_group(part, mode="w", zarr_format=3)
            shape = (*self.lead(name), *self.shape)
            ome_zarr.create_array(group, "s0", shape, self.dtype(name), self.layout, FILL.get(name, 0))
            group.attrs["densem"] = {"kind": name, "complete": False}

    def clear(self) -> None:
        """Remove what was begun and what was finished."""
        for name in self.names:
            ome_zarr.discard(self.path(name))
            shutil.rmtree(self.path(name), ignore_errors=True)

    @property
    def begun(self) -> bool:
        """Whether every output is laid out, begun or finished."""
        places = ((ome_zarr.temporary(self.path(n)), self.path(n)) for n in self.names)
        return all(any((p / "s0" / "zarr.json").exists() for p in pair) for pair in places)

    # ---- blocks ------------------------------------------------------------------------------

    def write(self, box: Box, arrays: Mapping[str, np.ndarray]) -> Digests:
        """Write a block of every output and read it back; on return it is on disk.

        Args:
            box: whole shards of the volume.
            arrays: by name; (Z, Y, X), of the probabilities and affinities (C, Z, Y, X).

        Returns:
            For each output the digests of its shards, to be noted in the journal.

        Raises:
            IntegrityError: if the disk gives back something else.
        """
        digests = {}
        for name in self.names:
            array = self.array(name)
            shards.write(array, box, arrays[name])
            digests[name] = self._digest(arrays[name], box)
            if self._found(array, box) != digests[name]:
                raise IntegrityError(
                    f"{self.path(name)}: the block {box} read back differs from what was written; "
                    "check the disk"
                )
        for name in self.names:
            shards.sync(self.array(name), box)
        return digests

    def holds(self, box: Box, digests: Digests) -> bool:
        """Whether a block on disk is what the journal says."""
        blank = self._blank(box)
        return all(self._holds(name, box, digests.get(name), blank[name]) for name in self.names)

    def _holds(self, name: str, box: Box, known: list[str] | None, blank: list[str]) -> bool:
        array = self.array(name)
        if not any(path.exists() for path in shards.files(array, box)):
            return known == blank
        return self._found(array, box) == known

    def _found(self, array: zarr.Array, box: Box) -> list[str] | None:
        """Digests of the shards on disk; None where one is damaged."""
        block = shards.read(array, box)
        return None if block is None else self._digest(block, box)

    def leave_out(self, box: Box) -> Digests:
        """Leave a block unlabelled, which takes no files; gives what `write` would give of it."""
        for name in self.names:
            shards.remove(self.array(name), box)
        return self._blank(box)

    def _blank(self, box: Box) -> Digests:
        shapes = [shard.shape for shard in Grid(box.shape, self.layout.shard)]
        return {
            n: [_blank(self.lead(n) + shape, self.dtype(n), FILL.get(n, 0)) for shape in shapes]
            for n in self.names
        }

    def sweep(self, blocks: Grid, done: Set[int]) -> None:
        """Remove the half-written files of the blocks that are not done; nobody is to be writing them."""
        for name in self.names:
            shards.sweep(self.array(name), blocks, done)

    def array(self, name: str) -> zarr.Array:
        """Level 0 of an output, begun or finished."""
        part, whole = ome_zarr.temporary(self.path(name)), self.path(name)
        array = zarr.open_group(part if part.exists() else whole, mode="r+")["s0"]
        assert isinstance(array, zarr.Array)
        return array

    def _digest(self, block: np.ndarray, box: Box) -> list[str]:
        shards = Grid(box.shape, self.layout.shard)
        return [_hash(np.ascontiguousarray(block[(..., *shard.slices)])) for shard in shards]

    # ---- the end -----------------------------------------------------------------------------

    def finish(
        self,
        digests: ShardDigests,
        place: tuple[Nanometres, Nanometres],
        attributes: dict[str, Any],
        crew: Crew | None = None,
        workers: int = 1,
    ) -> None:
        """Add pyramids and metadata and put every output in place; may be repeated after a kill.

        Args:
            digests: what `write` gave, of all blocks.
            place: voxel size and offset of the volume, in nm.
            attributes: densem's record, the same for all.
            crew: who does the blocks of the pyramids; by default one thread of this process.
            workers: threads that look at the part of the pyramids that an earlier call left.
        """
        for name in self.names:
            part = ome_zarr.temporary(self.path(name))
            if not part.exists():
                continue
            # Every block is done: what is half-written is of workers that were killed over one.
            shards.sweep(self.array(name), Grid(self.shape, self.layout.shard), frozenset())
            levels = [("s0", place[0])]
            if not self.channels(name):
                kind: ome_zarr.Kind = "labels" if name == "classes" else "image"
                levels = pyramid.build(part, place[0], kind, crew or LocalCrew(), workers)
            record = {**attributes, "kind": name, "id": digests.identity(name, place[0]), "complete": True}
            self._describe(name, levels, place, record)
            os.replace(part, self.path(name))

    def forget_levels(self) -> None:
        """Remove what was begun of the pyramids: the level below them has changed."""
        for name in self.names:
            part = ome_zarr.temporary(self.path(name))
            if part.exists():
                pyramid.forget(part)

    def _describe(
        self,
        name: str,
        levels: list[tuple[str, Nanometres]],
        place: tuple[Nanometres, Nanometres],
        attributes: dict[str, Any],
    ) -> None:
        part = ome_zarr.temporary(self.path(name))
        if self.channels(name):
            if name == "affinities" and self.head is not None:
                attributes = {**attributes, "affinities": self.head.model_dump(mode="json")}
            group = zarr.open_group(part, mode="r+")
            group.attrs.put({"ome": _channel_axes(name, place), "densem": attributes})
            return
        rows = None
        if name == "classes":
            rows = [(c.id, c.name, c.rgb) for c in self.schema.classes]
            attributes = {**attributes, "schema": self.schema.to_table()}
        ome_zarr.describe(part, levels, place[1], attributes, rows)

    # ---- the disk ----------------------------------------------------------------------------

    @property
    def largest_size(self) -> int:
        """Bytes on disk at the most: uncompressed, with pyramids."""
        of_a_voxel = {
            "classes": 1.34,
            "confidence": 1.34,
            "entropy": 1.34,
            "probabilities": 4.0 * len(self.schema),
            "affinities": 1.0 * self.channels("affinities"),
        }
        return int(math.prod(self.shape) * sum(of_a_voxel[n] for n in self.names))

    def check_disk(self, share: float = 1.0) -> None:
        """Refuse to start where the outputs might not fit.

        Args:
            share: of the volume that is still to be written.

        Raises:
            ResourceError: with what is needed and what is free.
        """
        where = next(p for p in (self.folder, *self.folder.parents) if p.exists())
        free = int(psutil.disk_usage(str(where)).free)
        needed = share * self.largest_size
        if needed > free:
            raise ResourceError(
                f"{self.folder}: the prediction may need up to {size_text(needed)} "
                f"({', '.join(self.names)}), {size_text(free)} are free there; "
                "free some space or write elsewhere"
            )


class ShardDigests:
    """The digests of all shards of a prediction, 8 bytes for each, while the journal is read once.

    Args:
        outputs: whose they are.
        blocks: in which they were written.
    """

    def __init__(self, outputs: Outputs, blocks: Grid) -> None:
        self._blocks, self._shards = blocks, Grid(outputs.shape, outputs.layout.shard)
        self._found = {n: np.zeros((len(self._shards), DIGEST_BYTES), np.uint8) for n in outputs.names}

    @classmethod
    def of(cls, outputs: Outputs, blocks: Grid, journal: Journal) -> tuple[Self, dict[str, int]]:
        """Those that a journal knows, and of how many voxels each class is, by id as text."""
        counts, digests = Counter[str](), cls(outputs, blocks)
        for record in journal.scan():
            counts.update(record["counts"])
            digests.add(record["block"], record["digests"])
        return digests, dict(sorted(counts.items(), key=lambda c: int(c[0])))

    def add(self, block: int, digests: Digests) -> None:
        """Take in those of a block."""
        box = self._blocks.box(block)
        _, ny, nx = self._shards.counts
        for position, shard in enumerate(Grid(box.shape, self._shards.cell)):
            at = zip(box.start, shard.start, self._shards.cell, strict=True)
            z, y, x = ((a + b) // c for a, b, c in at)
            for name, found in self._found.items():
                found[(z * ny + y) * nx + x] = np.frombuffer(bytes.fromhex(digests[name][position]), np.uint8)

    def identity(self, name: str, voxel_size_nm: Nanometres) -> str:
        """The id of an output: 16 hex digits over its shape, voxel size and shards in C order."""
        total = hashlib.sha256(json.dumps([name, self._shards.shape, voxel_size_nm]).encode())
        for digest in self._found[name]:
            total.update(digest.tobytes().hex().encode())
        return total.hexdigest()[:16]


def count_labels(blocks: Iterable[np.ndarray]) -> dict[str, int]:
    """Voxels of each class id (as text, as JSON wants it) in uint8 arrays."""
    total = np.zeros(256, np.int64)
    for block in blocks:
        for section in block:  # counting turns what it is given into int64: eight times as much memory
            total += np.bincount(section.ravel(), minlength=256)
    return {str(i): int(n) for i, n in enumerate(total) if n}


def layout_for(core: Triple, shape: Triple) -> Layout:
    """Chunks of one tile or even parts of it; shards of one large tile, of more where there are many."""
    side = 1 if math.prod(core) >= LARGE_TILE else 2
    while side < 16 and math.prod(shape) / (math.prod(core) * side * side) > LARGEST_SHARD_COUNT:
        side *= 2
    counts = Grid(shape, core).counts
    shard = (core[0], core[1] * min(side, counts[1]), core[2] * min(side, counts[2]))
    return Layout((_part(core[0], 32), _part(core[1], 256), _part(core[2], 256)), shard)


def _part(side: int, most: int) -> int:
    """An even part of a side of at most so many voxels, where one of up to 16 parts is."""
    return next((side // k for k in range(1, 17) if side % k == 0 and side // k <= most), side)


@functools.cache
def _blank(shape: tuple[int, ...], dtype: str, fill: int) -> str:
    """Digest of a shard of one value; a volume has few shapes of shards."""
    return _hash(np.full(shape, fill, dtype))


def _hash(block: np.ndarray) -> str:
    return hashlib.blake2b(block.data, digest_size=DIGEST_BYTES).hexdigest()


def _channel_axes(name: str, place: tuple[Nanometres, Nanometres]) -> dict[str, Any]:
    """OME metadata of a (c, z, y, x) image with a single level."""
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, *place[0]]}]
    if any(place[1]):
        transforms.append({"type": "translation", "translation": [0.0, *place[1]]})
    space = [{"name": a, "type": "space", "unit": "nanometer"} for a in ome_zarr.AXES]
    axes = [{"name": "c", "type": "channel"}, *space]
    datasets = [{"path": "s0", "coordinateTransformations": transforms}]
    return {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}
