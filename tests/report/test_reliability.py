"""The reliability diagram: what it says in words, empty bins, and that a report holds it."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

from densem.evaluation import Boundaries, Calibration, ClassBoundary
from densem.report import reliability_diagram
from densem.report.evaluation import boundary_table
from densem.schema import LabelSchema


def of(levels: dict[int, tuple[int, int]]) -> Calibration:
    """From level -> (voxels, right)."""
    voxels, right = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for level, (count, hits) in levels.items():
        voxels[level], right[level] = count, hits
    return Calibration.of_levels(voxels, right)


def test_it_says_whether_the_prediction_is_too_sure() -> None:
    sure = reliability_diagram(of({255: (100, 60), 204: (100, 60)}))
    assert sure.alt == (
        "Reliability diagram: expected calibration error 0.300; mean confidence 0.900, accuracy 0.600: "
        "too sure on the whole."
    )
    assert "too doubtful on the whole" in reliability_diagram(of({153: (100, 90)})).alt


def test_bars_stand_for_bins_that_hold_voxels() -> None:
    """A bin draws a bar and two lines; in the lower panel each of the 15 has its bar, if of no height."""
    drawn = [
        reliability_diagram(of(levels)).data.decode()
        for levels in ({255: (9, 6)}, {255: (9, 6), 100: (9, 6)}, {255: (9, 6), 100: (9, 6), 50: (9, 1)})
    ]
    paths = [text.count("<path") for text in drawn]
    assert [b - a for a, b in pairwise(paths)] == [3, 3]
    for word in ("confidence", "of voxels", "share of voxels that are right"):
        assert re.search(f">{word}<", drawn[0])


def test_the_table_of_boundaries() -> None:
    schema = LabelSchema.from_names(["inside", "dark membrane"])
    rows = (
        ClassBoundary("inside", 9.0, 1234.5, 0.98765, 12.0, 0.0051),
        ClassBoundary("dark membrane", None, None, None, 3.0, 0.0),
    )
    table = boundary_table(Boundaries(12.5, rows), schema)
    assert table.columns[3] == "Surface Dice at 12.5 nm"
    assert [[c.text for c in row] for row in table.rows] == [
        ["inside", "9.00", "1,234", "0.988", "12.0", "0.00510"],
        ["dark membrane", "–", "–", "–", "3.00", "0"],
    ]
    assert "lies within 12.5 nm of the other one" in table.caption
