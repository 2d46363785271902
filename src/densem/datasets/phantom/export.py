"""Export: a phantom written to disk, as densem's own volumes or as files like those of a published release.

1. Make the phantom piece by piece into plain scratch arrays, image and truth together.
2. Bring these in through the same door as a user's files, or write them as TIFF.
3. Remove the scratch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import zarr

from densem import __version__
from densem.blocks import Grid, triple
from densem.datasets.phantom.config import PhantomConfig
from densem.datasets.phantom.phantom import PIECE, Phantom
from densem.errors import ExistsError
from densem.volumes import Palette, Stack, Volume, Writing, import_image, import_labels, import_objects
from densem.volumes.ome_zarr import Layout, create_array
from densem.volumes.palettes import write_rgba
from densem.volumes.tiff_writer import write_tiff

Form = Literal["ome-zarr", "tiff"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PhantomFiles:
    """Where the parts of a written phantom lie.

    Attributes:
        image: grey values.
        semantic: classes; as TIFF in the colours of palette `platelet-em`, or ids if some are unlabelled.
        cells: cell ids.
        organelles: organelle ids.
    """

    image: Path
    semantic: Path
    cells: Path
    organelles: Path

    @classmethod
    def inside(cls, folder: Path, form: Form) -> PhantomFiles:
        """The paths in a folder."""
        end = ".zarr" if form == "ome-zarr" else ".tif"
        return cls(*(folder / f"{part.name}{end}" for part in fields(cls)))

    def __iter__(self) -> Any:
        """The paths."""
        return iter([getattr(self, part.name) for part in fields(self)])


def write_phantom(
    config: PhantomConfig,
    folder: Path,
    form: Form = "ome-zarr",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PhantomFiles:
    """Write image, classes, cells and organelles of a phantom; memory is bounded by a few pieces.

    With `labelled_cells` set, classes, cells and organelles hold those cells only. The full truth is
    written by the same config without it: the image is the same.

    Args:
        config: which phantom.
        folder: where; made if it is not there.
        form: `ome-zarr`, or `tiff` for files as a microscopist has them.
        overwrite: replace what is there.
        progress: told (done, total) pieces.

    Raises:
        ExistsError: if one of the files is there and `overwrite` is not set.
    """
    folder = Path(folder)
    files = PhantomFiles.inside(folder, form)
    for path in files:
        if path.exists() and not overwrite:
            raise ExistsError(f"{path}: exists already; give another folder or overwrite it")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".phantom-", dir=folder) as scratch:
        group = _make(config, Path(scratch), progress)
        write = _write_zarr if form == "ome-zarr" else _write_tiff
        write(config, group, files, overwrite)
    return files


def _make(config: PhantomConfig, scratch: Path, progress: Progress | None) -> zarr.Group:
    """Make all of the phantom into the arrays `image`, `semantic`, `cells` and `organelles`."""
    phantom = Phantom(config)
    group = zarr.open_group(scratch, mode="w", zarr_format=3)
    piece = triple(min(p, s) for p, s in zip(PIECE, config.shape, strict=True))
    types = {"image": config.dtype, "semantic": "uint8", "cells": "uint32", "organelles": "uint32"}
    arrays = {n: create_array(group, n, config.shape, t, Layout(piece, piece)) for n, t in types.items()}
    grid = Grid(config.shape, piece)
    for done, box in enumerate(grid):
        for name, values in phantom.annotated(box).arrays().items():
            arrays[name][box.slices] = values
        if progress:
            progress(done + 1, len(grid))
    return group


def _write_zarr(config: PhantomConfig, group: zarr.Group, files: PhantomFiles, overwrite: bool) -> None:
    known = {"densem": __version__, "source": "phantom", "format": "phantom"}
    writing = Writing({**known, "phantom": config.model_dump(mode="json")}, overwrite)
    stacks = {path.stem: _stack(config, group, path) for path in files}
    image = import_image(stacks["image"], files.image, writing=writing)
    import_labels(stacks["semantic"], files.semantic, Phantom.schema, image, writing=writing)
    import_objects(stacks["cells"], files.cells, image, writing)
    import_objects(stacks["organelles"], files.organelles, image, writing)


def _stack(config: PhantomConfig, group: zarr.Group, path: Path) -> Stack:
    return Stack(group[path.stem], Path(f"phantom/{path.stem}"), "phantom", config.voxel_size_nm)


def _write_tiff(config: PhantomConfig, group: zarr.Group, files: PhantomFiles, overwrite: bool) -> None:
    for path in files:
        volume = Volume(group[path.stem], config.voxel_size_nm)
        if path == files.semantic and not _is_partial(config):
            write_rgba(volume, path, Palette.resolve("platelet-em", Phantom.schema))
        else:
            write_tiff(volume, path)


def _is_partial(config: PhantomConfig) -> bool:
    """Whether there are unlabelled voxels, which the published colours cannot say."""
    return config.labelled_cells is not None and config.unlabelled_value not in Phantom.schema.ids
