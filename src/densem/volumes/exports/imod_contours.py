"""Contours of labels for IMOD: closed lines around every class or object, slice by slice.

Each class is an object of the model. Of object ids, each one is a surface of its class's object, with the id
as the number of the surface. Lines run halfway between voxels that differ (marching squares).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np
from scipy import ndimage

from densem.errors import InputError
from densem.schema import UNLABELLED
from densem.volumes.exports.imod_model import (
    ModelObject,
    contour,
    end_model,
    write_model_head,
    write_object_head,
)
from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import GREY, Color, Entry, Source
from densem.volumes.exports.staging import Staging
from densem.volumes.slabs import Progress, slabs

LARGEST_SURFACE = 2**31 - 1


@dataclass
class _Part:
    """The contours of one object of the model, on disk until all are known."""

    name: str
    rgb: Color
    file: IO[bytes]
    contours: int = 0
    surfaces: int = 0


def write_imod_contours(
    source: Source, area: Staging, options: ExportOptions, progress: Progress | None
) -> list[str]:
    """Write contours of all classes but the background, or of all objects; nothing around unlabelled voxels.

    Raises:
        InputError: if there is nothing to draw a contour around.
    """
    del options
    with ExitStack() as stack:
        parts: dict[str, _Part] = {}
        owner = _owners(source)
        for first, slab in slabs(source.volume, progress):
            for z, plane in enumerate(slab, first):
                for number, points in _contours(plane, source):
                    entry = owner(number)
                    if entry.name not in parts:
                        spool = stack.enter_context(tempfile.TemporaryFile(dir=area.main.parent))
                        parts[entry.name] = _Part(entry.name, entry.rgb, spool)
                    _add(parts[entry.name], points, z, number if source.kind == "objects" else 0)
        if not parts:
            raise InputError(f"{source.title}: expected labels to draw contours around, found none")
        _assemble(source, area, sorted(parts.values(), key=lambda p: p.name))
    return ["IMOD: 3dmod IMAGE.mrc MODEL.mod, with an image exported with the same --box and --scale"]


def _owners(source: Source) -> Callable[[int], Entry]:
    """A function that gives the entry whose object a label's contours belong to."""
    classes = {e.id: e for e in source.entries}
    by_name = {c.name: Entry(c.id, c.name, c.rgb) for c in source.schema.classes} if source.schema else {}

    def owner(number: int) -> Entry:
        if source.kind == "classes":
            return classes.get(number, Entry(number, f"class {number}", GREY))
        name = source.class_of.get(number, "objects")
        return by_name.get(name, Entry(0, name, GREY))

    return owner


def _contours(plane: np.ndarray, source: Source) -> Iterator[tuple[int, np.ndarray]]:
    """Labels and their closed lines in a slice, float (N, 2) in x, y, where corners of pixels are whole."""
    from contourpy import contour_generator

    numbers, coded = np.unique(plane, return_inverse=True)
    boxes = ndimage.find_objects(coded.reshape(plane.shape) + 1)
    for number, box in zip(numbers.tolist(), boxes, strict=True):
        if box is None or number in _left_out(source):
            continue
        inside = np.pad(plane[box] == number, 1).astype(np.float32)
        shift = (box[1].start - 0.5, box[0].start - 0.5)
        for line in contour_generator(z=inside).lines(0.5):
            yield number, np.asarray(line)[:-1] + shift


def _left_out(source: Source) -> tuple[int, ...]:
    if source.kind == "objects":
        return (0,)
    background = source.schema.background_id if source.schema else None
    return (UNLABELLED,) if background is None else (background, UNLABELLED)


def _add(part: _Part, line: np.ndarray, z: int, surface: int) -> None:
    if surface > LARGEST_SURFACE:
        raise InputError(f"expected object ids up to {LARGEST_SURFACE}, the largest in IMOD, found {surface}")
    points = np.column_stack([line, np.full(len(line), z)])
    part.file.write(contour(points, surface))
    part.contours += 1
    part.surfaces = max(part.surfaces, surface)


def _assemble(source: Source, area: Staging, parts: list[_Part]) -> None:
    volume = source.volume
    with area.main.open("wb") as file:
        write_model_head(file, source.title, volume.shape, volume.voxel_size_nm, len(parts))
        for part in parts:
            head = ModelObject(part.name, part.rgb, contours=part.contours, surfaces=part.surfaces)
            write_object_head(file, head)
            part.file.seek(0)
            shutil.copyfileobj(part.file, file)
        end_model(file)
