"""The report of objects: from their tables and surfaces to a page's content.

Objects that the border of the volume cuts are counted, and shown apart wherever sizes are told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from densem.report.content import (
    Block,
    Cell,
    Chart,
    Commands,
    Notice,
    Paragraph,
    ReportContent,
    Section,
    Table,
    Tile,
    View3D,
)
from densem.report.figures import percent
from densem.report.sizes import Measure, SizeRow, distribution, short, unit_of
from densem.report.view3d.collecting import Shown
from densem.schema import LabelSchema

Columns = Mapping[str, Sequence[Any]]
"""A table by columns, as `densem.object_table.read_table` gives it."""
MOST_ROWS = 60
"""Outermost objects in the page's table; the others stand in `cells.csv`."""
_BARS = "Bars: number of {}, scaled to the tallest of each class."
_CUT = "Below the line, hatched: {} that the border of the volume cuts."


@dataclass(frozen=True, eq=False)
class ObjectsFacts:
    """Everything the report of objects tells.

    Attributes:
        title: heading of the page.
        date: as printed.
        schema: the classes.
        table: a row for each object.
        cells: a row for each of the outermost ones.
        volume_nm3: of the whole volume.
        shown: their surfaces, and what is not shown.
        subtitle: a line below the heading.
        methods: how objects were found, in sentences.
        versions: of what took part, and ids.
        warnings: said at the top.
        commands: what to type next, pairs of a sentence and a command.
    """

    title: str
    date: str
    schema: LabelSchema
    table: Columns
    cells: Columns
    volume_nm3: float
    shown: Shown
    subtitle: str = ""
    methods: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()


def objects_report(facts: ObjectsFacts) -> ReportContent:
    """The content of the page."""
    sections = [
        *_view_section(facts),
        *((_size_section(facts), _cell_section(facts)) if facts.table["id"] else ()),
        Section("Methods", (Paragraph(facts.methods), Paragraph(_DEFINITIONS))),
        *([Section("What next", (Commands(facts.commands),))] if facts.commands else []),
    ]
    return ReportContent(
        title=facts.title,
        subtitle=facts.subtitle,
        date=facts.date,
        kicker="densem objects",
        tiles=_tiles(facts),
        warnings=facts.warnings,
        sections=tuple(sections),
        footer=" · ".join(f"{name} {value}" for name, value in facts.versions.items()),
    )


_DEFINITIONS = (
    "Volume: voxels times the volume of a voxel. Surface: Crofton's formula with 13 directions; the cut at "
    "the border of the volume is no surface. Sphericity: the surface of the ball of equal volume over the "
    "surface, 1 for a ball. All are measured on the voxels, not on the surfaces of the 3D view."
)


def _tiles(facts: ObjectsFacts) -> tuple[Tile, ...]:
    if not facts.table["id"]:
        return (Tile("Objects", "0"),)
    tiles = []
    for name in _kinds(facts):
        chosen = np.array(facts.table["class"]) == name
        cut = int(np.array(facts.table["touches_border"], bool)[chosen].sum())
        tiles.append(Tile(_words(name), f"{int(chosen.sum()):,}", f"{cut:,} cut by the border"))
    return tuple(tiles)


# ---- 3D view ---------------------------------------------------------------------------------


def _view_section(facts: ObjectsFacts) -> list[Section]:
    notices: tuple[Block, ...] = tuple(Notice(text) for text in facts.shown.missing)
    scene = facts.shown.scene
    if scene is None:
        return [Section("3D view", notices)] if notices else []
    glass = [c.name for c in scene.classes if c.translucent]
    words = [
        f"{scene.count:,} objects, {scene.triangles:,} triangles.",
        f"Positions are rounded to {short(scene.step_nm)} nm.",
        *facts.shown.accuracy,
        f"Glass: {' and '.join(glass)}." if glass else "",
        "The box is the volume: what is flat there is cut by its border.",
    ]
    return [Section("3D view", (*notices, View3D(scene, " ".join(w for w in words if w))))]


# ---- sizes -----------------------------------------------------------------------------------


def _size_section(facts: ObjectsFacts) -> Section:
    volume, area = np.array(facts.table["volume_nm3"], float), np.array(facts.table["surface_nm2"], float)
    (per_volume, volume_unit), (per_area, area_unit) = unit_of(volume, 3), unit_of(area, 2)
    sphericity = np.array([np.nan if v is None else v for v in facts.table["sphericity"]], float)
    roundest = max(
        1.0, float(np.nanmax(sphericity, initial=0.0))
    )  # small bodies are measured rounder than a ball
    charts = [
        (Measure("volumes", f"volume of an object, {volume_unit}"), volume * per_volume, "Volume"),
        (Measure("surfaces", f"surface of an object, {area_unit}"), area * per_area, "Surface"),
        (Measure("sphericity", "sphericity", "linear", end=roundest), sphericity, "Sphericity"),
    ]
    figures: list[Block] = []
    for measure, values, word in charts:
        figure = distribution(measure, _rows(facts, values))
        axis = ", on a logarithmic axis" if measure.kind == "log" else " of whole objects"
        cut = _CUT.format("objects") if measure.kind == "log" else "None where the border cuts an object."
        if figure is not None:
            figures.append(Chart(figure, f"{word} by class{axis}. {_BARS.format('objects')} {cut}"))
    return Section("Sizes", (_class_table(facts, volume, area, sphericity), *figures))


def _rows(facts: ObjectsFacts, values: np.ndarray) -> list[SizeRow]:
    """The values of each class, whole and cut; those that are not numbers left out."""
    kinds, cut = np.array(facts.table["class"]), np.array(facts.table["touches_border"], bool)
    known = ~np.isnan(values)
    return [
        SizeRow(
            _words(name),
            facts.schema[name].color,
            values[(kinds == name) & known & ~cut],
            values[(kinds == name) & known & cut],
        )
        for name in _kinds(facts)
    ]


def _class_table(facts: ObjectsFacts, volume: np.ndarray, area: np.ndarray, sphericity: np.ndarray) -> Table:
    (per_volume, volume_unit), (per_area, area_unit) = unit_of(volume, 3), unit_of(area, 2)
    columns = (
        "Class", "Whole", "Cut", f"Volume, {volume_unit}", f"Surface, {area_unit}", "Sphericity",
        f"All together, {volume_unit}", "Share of the volume",
    )  # fmt: skip
    measured = [_rows(facts, values) for values in (volume * per_volume, area * per_area, sphericity)]
    rows = []
    for sizes, areas, roundness in zip(*measured, strict=True):
        total = float(sizes.values.sum())
        rows.append((
            Cell(sizes.name, sizes.color),
            *(_number(f"{len(part):,}") for part in (sizes.whole, sizes.cut)),
            *(_number(_spread(part)) for part in (sizes.whole, areas.whole, roundness.whole)),
            _number(short(total)),
            _number(f"{percent(total / per_volume / facts.volume_nm3)} %"),
        ))  # fmt: skip
    caption = (
        "Objects by class. Volume, surface and sphericity: median and, in brackets, quartiles of the objects "
        "that are whole. All together: whole and cut. An object's volume has what lies in it, such as a "
        "cell's organelles."
    )
    return Table(columns, tuple(rows), caption)


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return "–"
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{short(middle)} ({short(low)} – {short(high)})" if len(values) > 1 else short(middle)


# ---- cells -----------------------------------------------------------------------------------


def _cell_section(facts: ObjectsFacts) -> Section:
    cells, schema = facts.cells, facts.schema
    cut = np.array(cells["touches_border"], bool)
    counts = _columns(cells, "count_", cut, schema)
    shares = _columns(cells, "fraction_", cut, schema, 100.0)
    word = _outermost(cells)
    many = f"{word}s"
    inside = Measure("counts", f"objects in a {word}", "count", many)
    taken = Measure("fractions", f"share of the volume of a {word}, %", "linear", many)
    charts = [(inside, counts, "Number of objects"), (taken, shares, "Share of the volume")]
    blocks: list[Block] = []
    for measure, rows, told in charts:
        figure = distribution(measure, rows)
        if figure is not None:
            caption = f"{told} by class and {word}. {_BARS.format(many)} {_CUT.format(many)}"
            blocks.append(Chart(figure, caption))
    return Section(f"By {word}", (_cell_table(facts, word), *blocks))


def _columns(
    cells: Columns, start: str, cut: np.ndarray, schema: LabelSchema, factor: float = 1.0
) -> list[SizeRow]:
    rows = []
    for name in (key.removeprefix(start) for key in cells if key.startswith(start)):
        values = np.array(cells[start + name], float) * factor
        rows.append(SizeRow(_words(name), schema[name].color, values[~cut], values[cut]))
    return rows


def _cell_table(facts: ObjectsFacts, word: str) -> Table:
    cells, schema = facts.cells, facts.schema
    volume = np.array(cells["volume_nm3"], float)
    per_volume, unit = unit_of(volume, 3)
    counts = [key.removeprefix("count_") for key in cells if key.startswith("count_")]
    shares = [key.removeprefix("fraction_") for key in cells if key.startswith("fraction_")]
    named = (*map(_words, counts), *(f"{_words(name)}, %" for name in shares))
    columns = (word.capitalize(), "Border", f"Volume, {unit}", *named)
    linked = {o.id for o in facts.shown.scene.objects} if facts.shown.scene else set()
    cut = np.array(cells["touches_border"], bool)
    order = np.lexsort((-volume, cut))
    rows = []
    for n in order[:MOST_ROWS].tolist():
        number = int(cells["id"][n])
        rows.append((
            Cell(
                f"{_words(cells['class'][n])} {number}", schema[cells["class"][n]].color,
                link=f"#object-{number}" if number in linked else "",
            ),
            Cell("cut" if cut[n] else "whole"),
            _number(short(volume[n] * per_volume)),
            *(_number(f"{cells[f'count_{name}'][n]:,}") for name in counts),
            *(_number(percent(cells[f"fraction_{name}"][n])) for name in shares),
        ))  # fmt: skip
    return Table(columns, tuple(rows), _cell_caption(word, len(order), bool(linked)))


def _cell_caption(word: str, number: int, linked: bool) -> str:
    words = [
        f"Number of objects of each class in a {word}, and the share of its volume that each class takes.",
        f"Whole {word}s first, largest first.",
        f"The {MOST_ROWS} largest of {number:,}; the others stand in cells.csv."
        if number > MOST_ROWS
        else "",
        "A name leads to the object in the 3D view." if linked else "",
    ]
    return " ".join(w for w in words if w)


def _outermost(cells: Columns) -> str:
    """What the outermost objects are called."""
    kinds = set(cells["class"])
    return _words(kinds.pop()) if len(kinds) == 1 else "outermost object"


def _kinds(facts: ObjectsFacts) -> list[str]:
    """Names of the classes that have objects, in the order of the schema."""
    there = set(facts.table["class"])
    return [name for name in facts.schema.names if name in there]


def _number(text: str) -> Cell:
    return Cell(text, number=True)


def _words(name: str) -> str:
    return name.replace("_", " ")
