"""The cell: one cell of the truth in 3D, and what each row made of the space it fills, side by side.

This is how the seed study's poster shows its networks. It needs the objects of the labels, which say what
a cell is:  densem objects STUDY --labels VOLUME.
"""

from __future__ import annotations

import warnings
from contextlib import suppress

from densem.errors import DensemError, DensemWarning, InputError
from densem.experiments.folder import BenchmarkFolder
from densem.experiments.shown import Shown, shown_volumes
from densem.report import render
from densem.report.content import Gallery
from densem.report.render import Found, Region, Subject, View
from densem.report.results.cell import Cell, cell_gallery
from densem.report.results.table import ResultsTable
from densem.study.render_scenes import Choice, Wanted, region_of, scenes_of
from densem.study.render_sources import Source, open_source

VOXELS = 500_000
"""Of the space around the cell at most: there is a picture for each row, and each is small."""


def benchmark_cell(table: ResultsTable, folder: BenchmarkFolder) -> Gallery | None:
    """The cell that holds most objects, as truth and as each row has it.

    There is none without objects of the labels of a scored volume, and where pictures cannot be drawn (no
    pyvista, no OpenGL).
    """
    for shown in shown_volumes(table, folder):
        truth = _objects_of(shown)
        if truth is not None and _can_draw():
            return _gallery(shown, truth)
    return None


def _objects_of(shown: Shown) -> Source | None:
    """Finished objects of the volume's labels as they are now."""
    for name, entry in shown.study.manifest.objects.items():
        if entry.source != "labels" or entry.volume != shown.name or entry.classes_id != shown.truth.id:
            continue
        try:
            found = open_source(shown.study, "objects", name, "truth")
        except DensemError:
            continue
        if found.found is not None and found.found.outermost:
            return found
    return None


def _can_draw() -> bool:
    try:
        render.check_installed("pyvista", "vtkmodules")
    except DensemError:
        return False
    return render.has_opengl()


def _gallery(shown: Shown, truth: Source) -> Gallery | None:
    assert truth.found is not None
    schema, cell = shown.study.schema, _fullest(truth.found)
    others = [Source(c.title, shown.name, c.prediction) for c in shown.contestants]
    choice = Choice.of(truth, schema, Wanted(cells=(cell,)))
    try:
        region = _region(truth, others, choice)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DensemWarning)  # an empty picture says so itself
            scenes = scenes_of(truth, others, choice, region, "truth")
    except DensemError:
        return None
    entries = render.legend([body for scene in scenes for body in scene.bodies], schema)
    held, kind = len(truth.found.with_content([cell])) - 1, truth.found.items[cell].name.replace("_", " ")
    title = f"Volume {shown.name}, {kind} {cell} with {held} object{'s' * (held != 1)} in it"
    return cell_gallery(Cell(Subject(scenes, entries, View()), title), shown.missing)


def _region(truth: Source, others: list[Source], choice: Choice) -> Region:
    """Of at most `VOXELS` where the pyramids are high enough for that."""
    with suppress(InputError):
        return region_of(truth, others, choice, VOXELS)
    return region_of(truth, others, choice)


def _fullest(found: Found) -> int:
    """The outermost object that holds most objects; of several the one with the largest box."""

    def rank(identity: int) -> tuple[int, float]:
        low, high = found.items[identity].box_nm
        return len(found.with_content([identity])), float((high - low).prod())

    return max(found.outermost, key=rank)
