"""Bringing labels in: class ids from indices, colours or run lengths; object ids from numbers or colours.

Classes are stored as uint8, 255 is unlabelled. Every id is counted over the whole volume; ids that
the schema does not know are listed with their counts at the end, and nothing is left on disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box
from densem.errors import InputError, SchemaError, ShapeError
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes.intake import Draft, LabelRows, Ledger, Writing, with_source, write_volume
from densem.volumes.layers import slabs
from densem.volumes.ome_zarr import Layout
from densem.volumes.palettes import UNKNOWN, Palette, packed_colors
from densem.volumes.shared import Shared
from densem.volumes.stacks import Stack, check_grey
from densem.volumes.volume import Volume

LISTED = 10
PIECE_VOXELS = 2**22
MOST_UNKNOWN = 100_000
"""Different unknown values after which counting stops: this is no label file."""


@dataclass(frozen=True)
class LabelCoding:
    """What the values of a label file mean: colours of a palette or ids, and which id is unlabelled.

    Attributes:
        palette: for labels in colours.
        unlabelled_value: the value that means that nobody has labelled the voxel.
        values: value in the file to id, where the file's numbers are not the schema's; others are refused.
    """

    palette: Palette | None = None
    unlabelled_value: int | None = None
    values: dict[int, int] | None = None


# ---- classes ---------------------------------------------------------------------------------


def import_labels(
    source: Stack,
    target: Path,
    schema: LabelSchema,
    like: Volume,
    coding: LabelCoding | None = None,
    writing: Writing | None = None,
) -> Volume:
    """Bring class labels into OME-Zarr 0.5 beside an image, uint8, with the schema in their metadata.

    The attribute `label_counts` holds the voxels of each id (as text), 255 included.

    Args:
        source: ids (any integer type), or colours with a palette.
        target: folder to make.
        schema: the classes; other ids are refused. 255 is always unlabelled.
        like: the image; gives shape, voxel size and offset.
        coding: palette, and the id that means unlabelled.
        writing: provenance, overwrite and progress.

    Raises:
        ShapeError, SchemaError, InputError, FormatError, ExistsError, ResourceError: and nothing is
            left at the target.
    """
    coding = coding or LabelCoding()
    _check_shape(source, like)
    if not coding.palette:
        check_grey(source)
        check_integers(source)
    read = ClassReader(Shared(source), schema, coding, str(source.path))
    tally = read.tally()

    def describe(_: Volume) -> dict[str, Any]:
        tally.check()
        return {"kind": "labels", "label_counts": tally.label_counts(), "classes": schema.to_table()}

    draft = Draft(target, like.shape, np.dtype(np.uint8), like.voxel_size_nm, like.offset_nm, "labels")
    ledger = Ledger(describe, tally.add)
    return write_volume(draft, read, ledger, with_source(writing, source), label_rows(schema))


def label_rows(schema: LabelSchema) -> LabelRows:
    """(id, name, rgb) of every class, for the OME `image-label` metadata."""
    return [(c.id, c.name, c.rgb) for c in schema.classes]


@dataclass(frozen=True)
class ClassReader:
    """Reads class ids out of a label file; can be sent to other processes.

    Attributes:
        source: a stack.
        schema: the classes.
        coding: palette, and the id that means unlabelled.
        name: of the stack, for messages.
    """

    source: Shared
    schema: LabelSchema
    coding: LabelCoding
    name: str

    def __call__(self, box: Box) -> tuple[np.ndarray, Note]:
        """Ids of a box, uint8 (Z, Y, X), and how often each occurs."""
        coding, tally, decode = self.coding, self.tally(), self._decoder()
        out = np.empty(box.shape, np.uint8)
        for piece in _pieces(box):
            coded, raw = decode(piece)
            if coding.unlabelled_value is not None:
                values = coded if coding.palette else raw
                coded[values == coding.unlabelled_value] = UNLABELLED
            out[piece.relative_to(box).slices] = tally.count(coded, raw)
        return out, tally.note()

    def tally(self) -> Tally:
        """An empty one."""
        return Tally(self.schema, self.name, self.coding)

    def _decoder(self) -> Decoder:
        stack, coding = self.source.get(), self.coding
        if coding.palette:
            return _ids_of_colors(stack, coding.palette)
        return _ids_of_values(stack) if coding.values is None else _ids_of_table(stack, coding.values)


Note = dict[str, list[tuple[int, int]]]
"""Counts of known ids, and of unknown values in the order in which they were met."""
Decoder = Callable[[Box], tuple[np.ndarray, np.ndarray]]
"""Gives ids as uint16 with `UNKNOWN` for what cannot be one, and the raw values for messages."""


def _ids_of_table(source: Stack, values: dict[int, int]) -> Decoder:
    known = np.array(sorted(values), np.int64)
    ids = np.array([values[v] for v in sorted(values)], np.uint16)

    def decode(box: Box) -> tuple[np.ndarray, np.ndarray]:
        raw = source.read(box)
        if raw.dtype == np.bool_:
            raw = raw.astype(np.uint8)
        place = np.minimum(np.searchsorted(known, raw), known.size - 1)
        return np.where(known[place] == raw, ids[place], np.uint16(UNKNOWN)), raw

    return decode


def _ids_of_values(source: Stack) -> Decoder:
    def decode(box: Box) -> tuple[np.ndarray, np.ndarray]:
        raw = source.read(box)
        if raw.dtype == np.bool_ or raw.dtype == np.uint8:
            return raw.astype(np.uint16), raw
        inside = (raw >= 0) & (raw < UNKNOWN)
        return np.where(inside, raw, UNKNOWN).astype(np.uint16), raw

    return decode


def _ids_of_colors(source: Stack, palette: Palette) -> Decoder:
    table = palette.lookup()

    def decode(box: Box) -> tuple[np.ndarray, np.ndarray]:
        raw, clear = packed_colors(source, box)
        coded = table[raw]
        if clear is not None and palette.transparent is not None:
            coded[clear] = palette.transparent
        return coded, raw

    return decode


def check_integers(source: Stack) -> None:
    """Refuse labels that are not whole numbers.

    Raises:
        InputError: naming the type that was found.
    """
    if source.dtype.kind not in "biu":
        raise InputError(
            f"{source.path}: expected labels as whole numbers, found {source.dtype.name}; convert them to 8 "
            "or 16 bits"
        )


def _check_shape(source: Stack, like: Volume) -> None:
    if source.shape != like.shape:
        raise ShapeError(
            f"{source.path}: expected labels of {' x '.join(map(str, like.shape))} voxels (z y x) like the "
            f"image {like.path or like.name}, found {' x '.join(map(str, source.shape))}; give files of the "
            "same region, or the same --slices for both"
        )


class Tally:
    """Counts of ids over a whole label volume, those the schema does not know apart."""

    def __init__(self, schema: LabelSchema, where: str, coding: LabelCoding | None = None) -> None:
        coding = coding or LabelCoding()
        self._where, self._palette, self._schema = where, coding.palette, schema
        self._values = coding.values
        self._counts = np.zeros(UNKNOWN + 1, np.int64)
        self._unknown: Counter[int] = Counter()
        self._known = np.zeros(UNKNOWN + 1, bool)
        self._known[[*schema.ids, UNLABELLED]] = True

    def count(self, coded: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """Count ids, uint16 (Z, Y, X), and give them as uint8; `raw` tells what the unknown ones were."""
        counts = np.bincount(coded.ravel(), minlength=UNKNOWN + 1)
        self._counts += counts
        if counts[~self._known].any():
            values, numbers = np.unique(raw[~self._known[coded]], return_counts=True)
            self._add_unknown(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        return coded.astype(np.uint8)

    def note(self) -> Note:
        """What was counted, as plain values."""
        known = [(int(i), int(self._counts[i])) for i in np.flatnonzero(self._counts)]
        return {"known": known, "unknown": list(self._unknown.items())}

    def add(self, note: Note) -> None:
        """Take in what was counted elsewhere."""
        for value, number in note["known"]:
            self._counts[value] += number
        self._add_unknown(dict(note["unknown"]))

    def _add_unknown(self, counts: dict[int, int]) -> None:
        self._unknown.update(counts)
        if len(self._unknown) > MOST_UNKNOWN:
            self.check()

    def label_counts(self) -> dict[str, int]:
        """Voxels of each id that occurs; ids as text."""
        return {str(i): int(n) for i, n in enumerate(self._counts[:UNKNOWN]) if n}

    def check(self) -> None:
        """Refuse ids or colours that are not known.

        Raises:
            SchemaError: listing them with their counts, the most frequent first.
        """
        if not self._unknown:
            return
        rows = [f"{self._name(v)} ({n} voxels)" for v, n in self._unknown.most_common(LISTED)]
        more = f", and {len(self._unknown) - LISTED} more" if len(self._unknown) > LISTED else ""
        if self._palette:
            expected = f"colours of palette {self._palette.name}"
            hint = "give the right --palette, or add them to a palette file"
        elif self._values is not None:
            expected = f"the values {', '.join(map(str, sorted(self._values)))}"
            hint = "add the others to the table of values"
        else:
            expected = f"ids {', '.join(map(str, self._schema.ids))} of the schema or 255 (unlabelled)"
            hint = "add classes to the schema, or name one value with --unlabelled-value"
        raise SchemaError(f"{self._where}: expected {expected}, found {', '.join(rows)}{more}; {hint}")

    def _name(self, value: int) -> str:
        return f"#{value:06x}" if self._palette else str(value)


# ---- objects ---------------------------------------------------------------------------------


def import_objects(source: Stack, target: Path, like: Volume, writing: Writing | None = None) -> Volume:
    """Bring object ids into OME-Zarr 0.5 beside an image, in the narrowest of uint16, uint32, uint64.

    Numbers are kept. Of colours, each one is an object, numbered from 1 in the order of red, green,
    blue; black and transparent voxels are no object (0). The file is read twice, the first time by this
    thread alone; a crew must work in this process.

    Raises:
        ShapeError, InputError, FormatError, ExistsError, ResourceError: and nothing is left at the
            target.
    """
    _check_shape(source, like)
    colored = source.samples > 1 or source.colormap is not None
    read, ids = _numbered_colors(source) if colored else _plain_numbers(source)
    draft = Draft(target, like.shape, _narrowest(ids), like.voxel_size_nm, like.offset_nm, "labels")

    def describe(_: Volume) -> dict[str, Any]:
        return {"kind": "objects", "object_count": int(ids.size)}

    def convert(box: Box) -> tuple[np.ndarray, None]:
        out = np.empty(box.shape, draft.dtype)
        for piece in _pieces(box):
            out[piece.relative_to(box).slices] = read(piece)
        return out, None

    return write_volume(draft, convert, Ledger(describe), with_source(writing, source))


def _narrowest(ids: np.ndarray) -> np.dtype:
    top = int(ids.max()) if ids.size else 0
    return np.dtype(np.uint16 if top < 2**16 else np.uint32 if top < 2**32 else np.uint64)


def _plain_numbers(source: Stack) -> tuple[Callable[[Box], np.ndarray], np.ndarray]:
    """How to read ids, and all ids that occur."""
    check_integers(source)
    found = np.zeros(0, source.dtype)
    for box in _slabs(source):
        found = np.union1d(found, np.unique(source.read(box)))
    if found.size and found[0] < 0:
        raise InputError(f"{source.path}: expected object ids from 0 up, found {found[0]}; 0 means no object")
    return source.read, found[found > 0]


def _numbered_colors(source: Stack) -> tuple[Callable[[Box], np.ndarray], np.ndarray]:
    """How to read colours as ids, and all ids."""
    seen = np.zeros(2**24, bool)
    for box in _slabs(source):
        colors, clear = packed_colors(source, box)
        seen[colors if clear is None else colors[~clear]] = True
    seen[0] = False
    table = np.cumsum(seen, dtype=np.uint32) * seen

    def read(box: Box) -> np.ndarray:
        colors, clear = packed_colors(source, box)
        ids = table[colors]
        if clear is not None:
            ids[clear] = 0
        return ids

    return read, np.arange(1, int(seen.sum()) + 1)


def _slabs(source: Stack) -> Iterator[Box]:
    for box in slabs(source.shape, np.dtype(np.uint8), Layout.fitting(source.shape)):
        yield from _pieces(box)


def _pieces(box: Box) -> Iterator[Box]:
    """A box in thinner ones, in z: decoding takes many times the memory of its result."""
    depth = max(1, PIECE_VOXELS // (box.shape[1] * box.shape[2]))
    for z in range(box.start[0], box.stop[0], depth):
        yield Box((z, *box.start[1:]), (min(z + depth, box.stop[0]), *box.stop[1:]))
