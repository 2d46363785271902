"""Palettes: label files in which the colour of a voxel says its class.

A colour stands for a class by its name, so one palette serves every schema with these classes.
Fully transparent voxels have a class of their own, whatever their colour.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densem.blocks import Box
from densem.errors import InputError, NotFoundError, SchemaError, nearest
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes.slabs import slabs
from densem.volumes.stacks import Stack
from densem.volumes.volume import Volume

UNLABELLED_NAME = "unlabelled"
GREY = "#808080"
UNKNOWN = 256
"""What `Palette.lookup` gives for a colour that is not in the palette."""

BUILTIN: dict[str, dict[str, str]] = {
    # The label files of the platelet-em release; background is transparent black.
    "platelet-em": {
        "#000000": "background",
        "#0101e0": "cell",
        "#01abfe": "mitochondrion",
        "#01fe01": "alpha_granule",
        "#ffe000": "canalicular_vessel",
        "#fa5e00": "dense_granule",
        "#f500cb": "dense_granule_core",
    }
}
"""Built-in palettes by name: colour to class name."""


@dataclass(frozen=True)
class Palette:
    """Colours and the label ids they stand for.

    Attributes:
        name: for messages.
        ids: packed colour (0xrrggbb) to label id; 255 is unlabelled.
        transparent: label id of fully transparent voxels; None if they count by their colour.
    """

    name: str
    ids: dict[int, int]
    transparent: int | None = None

    @classmethod
    def from_names(
        cls, name: str, colors: dict[str, str], schema: LabelSchema, transparent: str | None = None
    ) -> Palette:
        """From colours (`#rrggbb`) to class names of the schema, or `unlabelled`.

        Raises:
            SchemaError: naming the colour or class that is wrong.
        """
        ids = {_packed(color, name): _id_of(word, schema, name) for color, word in colors.items()}
        clear = schema.background_id if transparent is None else _id_of(transparent, schema, name)
        return cls(name, ids, clear)

    @classmethod
    def of_schema(cls, schema: LabelSchema) -> Palette:
        """The schema's own colours; unlabelled is mid grey unless a class has that colour."""
        ids = {_packed(GREY, "schema"): UNLABELLED}
        ids |= {_packed(c.color, "schema"): c.id for c in schema.classes}
        return cls("schema", ids, schema.background_id)

    @classmethod
    def read(cls, path: Path, schema: LabelSchema) -> Palette:
        """From a TOML file: a `[colors]` table, `"#0101e0" = "cell"`, and optionally `transparent`."""
        try:
            data = tomllib.loads(path.read_text())
        except OSError as error:
            raise NotFoundError(f"{path}: no palette file there ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SchemaError(f"{path}: not a TOML file: {error}") from None
        colors, clear = data.get("colors"), data.get("transparent")
        if not isinstance(colors, dict) or not colors or not (clear is None or isinstance(clear, str)):
            raise SchemaError(
                f'{path}: expected a [colors] table such as  "#0101e0" = "cell", found none; and optionally '
                'transparent = "background"'
            )
        return cls.from_names(str(path), {c: str(n) for c, n in colors.items()}, schema, clear)

    @classmethod
    def resolve(cls, word: str, schema: LabelSchema) -> Palette:
        """A built-in palette by name, `schema` for the schema's own colours, or a TOML file by path."""
        if word in BUILTIN:
            return cls.from_names(word, BUILTIN[word], schema)
        if word == "schema":
            return cls.of_schema(schema)
        if word.endswith(".toml"):
            return cls.read(Path(word), schema)
        raise InputError(
            f"--palette {word}: neither a built-in palette nor a .toml "
            f"file.{nearest(word, [*BUILTIN, 'schema'])}"
        )

    def lookup(self) -> np.ndarray:
        """Table uint16 (2**24,): packed colour to label id, `UNKNOWN` where it is none."""
        table = np.full(2**24, UNKNOWN, np.uint16)
        for color, label in self.ids.items():
            table[color] = label
        return table


def _packed(color: str, where: str) -> int:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise SchemaError(f"palette {where}: expected colours as #rrggbb, found {color!r}")
    return int(color[1:], 16)


def _id_of(word: str, schema: LabelSchema, where: str) -> int:
    if word == UNLABELLED_NAME:
        return UNLABELLED
    if word not in schema.names:
        raise SchemaError(
            f"palette {where}: no class {word!r} in the "
            f"schema.{nearest(word, [*schema.names, UNLABELLED_NAME])}"
        )
    return schema[word].id


# ---- colours of voxels -----------------------------------------------------------------------


def packed_colors(stack: Stack, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours of a box, uint32 (Z, Y, X) as 0xrrggbb, and where they are transparent, bool.

    Raises:
        InputError: if the stack has no colours of 8 bits.
    """
    block = stack.read(box)
    if stack.colormap is not None and block.ndim == 3 and block.dtype == np.uint8:
        block = stack.colormap[block]
    if block.ndim != 4 or block.shape[3] not in (3, 4) or block.dtype != np.uint8:
        raise InputError(
            f"{stack.path}: expected labels as 8-bit RGB or RGBA colours, found {stack.samples} value(s) of "
            f"{stack.dtype} per voxel; leave out --palette if the values are class ids"
        )
    red, green, blue = (block[..., i].astype(np.uint32) for i in range(3))
    clear = block[..., 3] == 0 if block.shape[3] == 4 else None
    return red << 16 | green << 8 | blue, clear


def write_rgba(
    volume: Volume, path: Path, palette: Palette, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a label volume as RGBA TIFF in the colours of a palette, slice by slice.

    The class of transparent voxels is written as transparent black. `progress` is told (slices read, slices
    in all).

    Raises:
        SchemaError: if the volume has an id that no colour of the palette stands for.
    """
    import tifffile

    table, known = _rgba_of_id(palette)
    z, y, x = volume.voxel_size_nm
    with tifffile.TiffWriter(path, bigtiff=4 * volume.box.size > 2**32 - 2**25) as file:
        file.write(
            _rgba_slices(volume, table, known, palette.name, progress),
            shape=(*volume.shape, 4),
            dtype=np.uint8,
            photometric="rgb",
            extrasamples=["unassalpha"],
            compression="zlib",
            resolution=(1 / x, 1 / y),
            metadata={"axes": "ZYXS", "spacing": z, "unit": "nm"},
        )


def _rgba_of_id(palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """Colours uint8 (256, 4) of label ids, and which ids have one, bool (256,)."""
    table, known = np.zeros((256, 4), np.uint8), np.zeros(256, bool)
    for color, label in palette.ids.items():
        table[label] = (color >> 16, color >> 8 & 255, color & 255, 255)
        known[label] = True
    if palette.transparent is not None:
        table[palette.transparent], known[palette.transparent] = 0, True
    return table, known


def _rgba_slices(
    volume: Volume,
    table: np.ndarray,
    known: np.ndarray,
    name: str,
    progress: Callable[[int, int], None] | None,
) -> Iterator[np.ndarray]:
    for first, slab in slabs(volume, progress):
        for z, labels in enumerate(slab, first):
            missing = sorted(set(np.unique(labels).tolist()) - set(np.flatnonzero(known).tolist()))
            if missing:
                hint = "; palette schema has grey for unlabelled" if missing[0] == UNLABELLED else ""
                raise SchemaError(
                    f"{volume.name}: expected ids that palette {name} has a colour for, found {missing[0]} "
                    "in "
                    f"slice {z}{hint}"
                )
            yield table[labels]
