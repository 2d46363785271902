"""The page of objects: every number on it by hand from a small table."""

import re
import sys
from pathlib import Path

import pytest

from densem.report.content import Chart, Notice, Table, View3D
from densem.report.objects import MOST_ROWS, ObjectsFacts, objects_report
from densem.report.page import page
from densem.report.view3d.collecting import Shown
from densem.schema import LabelSchema

sys.path.insert(0, str(Path(__file__).parent / "view3d"))
from shapes import small_scene

TABLE = {
    "id": [1, 2, 3, 4, 5],
    "class": ["cell", "cell", "alpha_granule", "alpha_granule", "alpha_granule"],
    "level": [0, 0, 1, 1, 1],
    "parent": [0, 0, 1, 1, 2],
    "volume_nm3": [2e9, 1e9, 4e6, 6e6, 9e6],
    "surface_nm2": [8e6, 4e6, 1e5, 2e5, 3e5],
    "sphericity": [0.9, None, 0.95, 0.85, None],
    "touches_border": [False, True, False, False, True],
}
CELLS = {
    "id": [1, 2], "class": ["cell", "cell"], "volume_nm3": [2e9, 1e9], "touches_border": [False, True],
    "count_alpha_granule": [2, 1], "fraction_alpha_granule": [0.005, 0.009], "fraction_canalicular_vessel": [0.0, 0.02],
}  # fmt: skip


def facts(**changed):
    given = {
        "title": "st: a", "date": "1 May 2026", "schema": LabelSchema.resolve("platelet"), "table": TABLE,
        "cells": CELLS, "volume_nm3": 1e10, "shown": Shown(small_scene(), ("Simplified.",), ("2 are left out.",)),
        "methods": "Found.", "versions": {"densem": "0.1"}, "commands": (("Do", "densem do"),),
    }  # fmt: skip
    return ObjectsFacts(**{**given, **changed})


def section(content, title):
    return next(s for s in content.sections if s.title == title)


def tables(blocks):
    return [[tuple(cell.text for cell in row) for row in b.rows] for b in blocks if isinstance(b, Table)]


def test_tiles_count_what_is_there_and_what_is_cut():
    tiles = [(t.label, t.value, t.note) for t in objects_report(facts()).tiles]
    assert tiles == [("cell", "2", "1 cut by the border"), ("alpha granule", "3", "1 cut by the border")]


def test_sizes_by_class_are_those_of_whole_objects():
    (rows,) = tables(section(objects_report(facts()), "Sizes").blocks)
    assert rows[0] == ("cell", "1", "1", "2", "8", "0.9", "3", "30 %")
    assert rows[1][:4] == ("alpha granule", "2", "1", "0.005 (0.0045 – 0.0055)")
    assert rows[1][4:] == ("0.15 (0.125 – 0.175)", "0.9 (0.875 – 0.925)", "0.019", "0.2 %")


def test_figures_have_units():
    content = objects_report(facts())
    charts = [b for s in content.sections for b in s.blocks if isinstance(b, Chart)]
    assert [c.figure.name for c in charts] == ["volumes", "surfaces", "sphericity", "counts", "fractions"]
    labels = ["object, µm³", "object, µm²", "sphericity", "objects in a cell", "volume of a cell, %"]
    for chart, label in zip(charts, labels, strict=True):
        assert label in chart.figure.alt
    assert "alpha granule 2 whole, median 0.005, 1 cut by the border" in charts[0].figure.alt
    assert "cut by the border" in charts[3].figure.alt


def test_cells_with_their_counts_and_shares():
    (rows,) = tables(section(objects_report(facts()), "By cell").blocks)
    assert rows == [("cell 1", "whole", "2", "2", "0.5", "0"), ("cell 2", "cut", "1", "1", "0.9", "2.0")]


def test_a_cell_leads_to_the_view_if_it_is_there():
    table = next(b for b in section(objects_report(facts()), "By cell").blocks if isinstance(b, Table))
    assert [row[0].link for row in table.rows] == ["#object-1", ""]
    assert '<a href="#object-1">cell 1</a>' in page(objects_report(facts()))


def test_long_tables_are_cut_and_say_so():
    many = MOST_ROWS + 7
    cells = {key: [values[0]] * many for key, values in CELLS.items()} | {"id": list(range(1, many + 1))}
    table = next(
        b for b in section(objects_report(facts(cells=cells)), "By cell").blocks if isinstance(b, Table)
    )
    assert len(table.rows) == MOST_ROWS
    assert f"{many}; the others stand in cells.csv" in table.caption


def test_the_view_says_what_it_does_not_show():
    blocks = section(objects_report(facts()), "3D view").blocks
    assert blocks[0] == Notice("2 are left out.")
    assert isinstance(blocks[1], View3D)
    assert re.search(r"3 objects, [\d,]+ triangles\. .*Simplified\. Glass: cell\.", blocks[1].caption)


def test_without_surfaces_the_rest_is_there():
    content = objects_report(facts(shown=Shown(None, (), ("All 5 are left out.",))))
    assert section(content, "3D view").blocks == (Notice("All 5 are left out."),)
    assert "<script" not in page(content)
    assert "3D view" not in [s.title for s in objects_report(facts(shown=Shown(None))).sections]


def test_no_objects_is_a_page_too():
    empty = facts(
        table={key: [] for key in TABLE},
        cells={key: [] for key in CELLS},
        shown=Shown(None),
        warnings=("None.",),
    )
    text = page(objects_report(empty))
    assert "Objects" in text
    assert "<svg" not in text


def test_the_page_loads_nothing_and_runs_one_script():
    text = page(objects_report(facts()))
    assert "://" not in re.sub(r"http://www\.w3\.org/[\w/]+", "", text)  # namespaces of SVG
    assert "default-src 'none'" in text
    assert text.count("<script>") == 1
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", text)
    for word in ("Drag to turn", "Its cell alone", "Opacity of cell", "WebGL 2", 'data-part="class-2"'):
        assert word in text


def test_words_are_escaped():
    evil = "</script><script>alert(1)</script>"
    text = page(objects_report(facts(title=evil, methods=evil, warnings=(evil,))))
    assert "alert(1)" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("kinds", [["cell", "cell"], ["cell", "alpha_granule"]])
def test_outermost_objects_of_several_classes(kinds):
    cells = {**CELLS, "class": kinds}
    title = "By cell" if len(set(kinds)) == 1 else "By outermost object"
    assert section(objects_report(facts(cells=cells)), title)
