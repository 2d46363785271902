"""Distributions: bins, medians of what is whole, units, and nothing drawn where there is nothing."""

import re

import numpy as np
import pytest

from densem.report.sizes import Measure, SizeRow, distribution, short, unit_of


def texts(figure):
    return re.findall(r">([^<>]+)</text>", figure.data.decode())


def row(whole, cut=(), name="alpha granule"):
    return SizeRow(name, "#01fe01", np.array(whole, float), np.array(cut, float))


def test_what_is_cut_counts_in_no_median():
    assert row([1, 2, 30], [1000, 1000, 1000]).median == 2
    assert row([], [5]).median is None


def test_a_chart_says_how_many_there_are_and_its_unit():
    rows = [row([0.01, 0.02, 0.04], [0.001]), row([1.5, 2.5], name="cell"), row([], name="nothing")]
    figure = distribution(Measure("volumes", "volume of an object, µm³"), rows)
    said = texts(figure)
    assert {
        "alpha granule",
        "cell",
        "volume of an object, µm³",
        "3 whole",
        "median 0.02",
        "1 cut",
        "2 whole",
    } <= set(said)
    assert "nothing" not in said
    assert figure.alt == (
        "volume of an object, µm³, number of objects: alpha granule 3 whole, median 0.02, 1 cut by the border; "
        "cell 2 whole, median 2, 0 cut by the border."
    )


def test_bars_are_as_high_as_their_counts():
    """Of 0, 1, 1, 1 objects in cells the bars are 1 and 3 high, upwards; those of cut cells point downwards."""
    figure = distribution(Measure("counts", "objects in a cell", "count", "cells"), [row([0, 1, 1, 1], [1])])
    bars = [np.array(re.findall(r"[ML] ([-0-9.]+) ([-0-9.]+)", path), float) for path in bar_paths(figure)]
    heights = [float(np.ptp(points[:, 1])) for points in bars]
    assert len(bars) == 3
    assert heights[1] == pytest.approx(3 * heights[0], rel=1e-3)
    assert bars[2][:, 1].max() > bars[0][:, 1].max()
    widths = [float(np.ptp(points[:, 0])) for points in bars]
    assert widths[1] == pytest.approx(widths[0], rel=1e-3)


def bar_paths(figure):
    """Paths of closed rectangles that have an edge."""
    svg = figure.data.decode()
    found = re.findall(r'<path d="([^"]+?z\s*)"[^>]*style="([^"]*)"', svg)
    return [path for path, style in found if "stroke:" in style and "stroke: none" not in style]


def test_every_value_lies_in_a_bin():
    for kind in ("log", "linear", "count"):
        values = np.array([0.0 if kind != "log" else 1e-4, 1, 7, 12])
        figure = distribution(Measure("m", "m", kind), [row(values)])
        assert "4 whole" in texts(figure)
        assert len(bar_paths(figure)) == 4


def test_one_value_and_equal_values_are_drawn():
    for kind in ("log", "linear", "count"):
        assert distribution(Measure("m", "m", kind), [row([3, 3])]) is not None
    assert distribution(Measure("m", "m", "linear", end=1.0), [row([1.0])]) is not None
    assert distribution(Measure("m", "m", "linear"), [row([0.0])]) is not None


def test_without_values_there_is_no_chart():
    assert distribution(Measure("m", "m"), [row([])]) is None
    assert distribution(Measure("m", "m"), []) is None


@pytest.mark.parametrize(
    ("values", "power", "unit"),
    [
        ([4.2e6, 1.0], 3, (1e-9, "µm³")),
        ([9e5], 3, (1.0, "nm³")),
        ([2e3], 2, (1e-6, "µm²")),
        ([900.0], 2, (1.0, "nm²")),
        ([], 3, (1.0, "nm³")),
    ],
)
def test_units_are_sensible(values, power, unit):
    assert unit_of(np.array(values), power) == pytest.approx(unit)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0031234, "0.00312"), (12.44, "12.4"), (1250, "1,250"), (2.5e-6, "2.5e-06"), (999.4, "999")],
)
def test_numbers_in_three_digits(value, text):
    assert short(value) == text
