"""Figures of the results: trends and fronts by hand, names that do not overlap, texts read back from the SVG."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from made_up_table import EVAL, TEST, made_up_table
from small import FLOP, MIOU, row, run, table

from densem.evaluation import Verdict
from densem.report.figures import STYLE, Figure, canvas
from densem.report.results.class_scores import class_figure, class_summaries
from densem.report.results.columns import known
from densem.report.results.labels import Name, place_names
from densem.report.results.learning import (
    Trend,
    _curves,
    budget_words,
    last_rise,
    learning_curves,
    mean_curve,
    trend,
)
from densem.report.results.pareto import front, pareto_plot
from densem.report.results.strip import strip_plot
from densem.report.results.table import Comparison, Run

SCORE, COST = known(MIOU), known(FLOP)


def texts(figure: Figure) -> list[str]:
    root = ElementTree.fromstring(figure.data)
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("}text")]


# ---- trends ----------------------------------------------------------------------------------


def test_the_rise_over_the_last_fifth_by_hand() -> None:
    line = [(10.0 * n, 0.02 * n) for n in range(1, 11)]  # 0.002 a second to 100 s: 0.04 in a fifth of 20 s
    assert last_rise(line) == pytest.approx(0.04)
    flat = [(10.0 * n, min(0.5, 0.1 * n)) for n in range(1, 11)]
    assert last_rise(flat) == pytest.approx(0.0)
    assert last_rise(line[:3]) is None


def test_the_rise_looks_at_three_validations_at_least() -> None:
    curve = [(10.0, 0.1), (20.0, 0.2), (30.0, 0.3), (40.0, 0.2)]  # the last fifth holds one point
    assert last_rise(curve) == pytest.approx(0.0)


def test_a_row_is_rising_if_the_rise_is_worth_it_and_no_chance() -> None:
    def curve(slope: float) -> list[tuple[float, float]]:
        return [(10.0 * n, slope * n) for n in range(1, 11)]

    assert trend([curve(0.02)]) == Trend(pytest.approx(0.04), True)
    assert trend([curve(0.001)]) == Trend(pytest.approx(0.002), False)
    assert not trend([curve(0.1), curve(-0.09)]).rising  # 0.2 and -0.18: mean 0.01, standard error 0.19
    assert trend([curve(0.02), curve(0.03)]).rising
    assert trend([[(1.0, 0.1)]]) == Trend(None, False)


def test_runs_that_share_no_moment_have_the_mean_of_their_ends() -> None:
    seconds, scores = mean_curve([[(4.0, 0.25)], [(6.0, 0.75)]])
    assert (seconds.tolist(), scores.tolist()) == ([5.0], [0.5])


def test_a_busy_machine_stretches_no_curve() -> None:
    """Two runs with the same steps, one at half the speed: drawn at the median of their times."""
    fast, slow = ((10.0, 0.1), (20.0, 0.3)), ((20.0, 0.1), (40.0, 0.3))
    found = _curves(row("a", runs=(run("a/s1", 0.3, curve=fast), run("a/s2", 0.3, curve=slow))))
    assert found == [[(15.0, 0.1), (30.0, 0.3)]] * 2
    assert _curves(row("a", runs=(Run("a/s1", "failed", curve=fast),))) == []


def test_the_mean_curve_is_where_all_runs_are() -> None:
    seconds, scores = mean_curve([[(0.0, 0.0), (10.0, 1.0)], [(5.0, 0.5), (15.0, 0.5)]])
    assert seconds.tolist() == [5.0, 10.0]
    assert scores.tolist() == [0.5, 0.75]


def test_the_budget_in_words() -> None:
    up = tuple((10.0 * n, 0.02 * n) for n in range(1, 11))
    flat = tuple((10.0 * n, 0.2) for n in range(1, 11))
    rows = (
        row("up", runs=(run("up/s1", 0.2, curve=up),)),
        row("flat", runs=(run("flat/s1", 0.2, curve=flat),)),
        row("short", runs=(run("short/s1", 0.2, curve=flat[:2]),)),
        row("none", runs=(Run("none/s1", "failed", curve=up),)),
    )
    words = budget_words(table(*rows))
    assert "Still rising when the budget ended" in words
    assert "Up (+0.040)" in words
    assert "No longer rising: Flat." in words
    assert "Too few validations to tell: Short." in words
    assert "None" not in words
    assert budget_words(table(rows[1])).startswith("No row was still rising when the budget ended.")
    assert budget_words(table(rows[3])) == ""
    found = texts(learning_curves(table(*rows)))
    assert {"Up", "Flat", "Short", "still rising, +0.040", "training time, s"} <= set(found)
    assert "None" not in found
    assert learning_curves(table(rows[3])) is None


def test_curves_are_drawn_in_a_unit_that_fits_them() -> None:
    made = made_up_table()
    found = texts(learning_curves(made))
    assert "training time, h" in found
    assert sum(title in found for title in ("2D-3D", "2D U-Net", "DeepVess", "ResEnc U-Net")) == 4


# ---- the front -------------------------------------------------------------------------------


def test_the_front_by_hand() -> None:
    points = [(1.0, 0.3), (2.0, 0.5), (3.0, 0.4), (4.0, 0.6), (2.0, 0.2), (4.0, 0.6)]
    assert front(points) == [0, 1, 3, 5]
    assert front(points, "higher") == [3, 5]
    assert front([(5.0, 0.1), (3.0, 0.4), (1.0, 0.5)], "higher") == [0, 1, 2]


@pytest.mark.parametrize("cheaper", ["lower", "higher"])
def test_the_front_is_what_nothing_beats(cheaper: str) -> None:
    points = [tuple(p) for p in np.random.default_rng(4).integers(0, 12, (60, 2)).astype(float)]
    sign = 1 if cheaper == "lower" else -1

    def beats(a: tuple, b: tuple) -> bool:
        return sign * a[0] <= sign * b[0] and a[1] >= b[1] and a != b

    expected = {i for i, p in enumerate(points) if not any(beats(q, p) for q in points)}
    assert set(front(points, cheaper)) == expected


def test_the_plot_names_every_row_with_both_numbers_and_no_people() -> None:
    made = made_up_table()
    figure = pareto_plot(made, made.column("mflop_per_voxel"), made.column(TEST))
    found = texts(figure)
    for entry in made.rows:
        assert (entry.title in found) == (entry.kind != "annotators" and bool(entry.done))
    best = [r for r in made.rows if r.title in figure.alt]
    assert {"333", "deeplab"} <= {r.key for r in best}
    assert "thin" in {r.key for r in best}
    assert pareto_plot(table(row("a", 0.5)), COST, SCORE) is None


def test_names_never_overlap_each_other_or_a_point() -> None:
    rng = np.random.default_rng(3)
    with mpl.rc_context(STYLE):
        ax = canvas(10.4, 6.4).add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, 1), ylim=(0, 1))
        spots = rng.normal(0.5, 0.12, (26, 2))
        names = [Name(f"a row of the table, number {n}", x, y, "#000000") for n, (x, y) in enumerate(spots)]
        boxes = place_names(ax, names)
        points = ax.transData.transform(spots)
        edge = ax.get_window_extent()
    for a, b in combinations(boxes, 2):
        assert min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) <= max(a.y0, b.y0)
    for box in boxes:
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in points)
        assert box.x0 >= edge.x0
        assert box.x1 <= edge.x1
        assert box.y0 >= edge.y0
        assert box.y1 <= edge.y1


# ---- runs and classes ------------------------------------------------------------------------


def test_every_run_is_a_dot_and_every_row_has_its_name() -> None:
    compared = {MIOU: Comparison(Verdict.HIGHER, 0.1)}
    made = table(
        row("a", 0.5, 0.6, 0.7, comparisons={MIOU: Comparison(Verdict.REFERENCE)}),
        row("b", 0.65, 0.8, comparisons=compared),
        row("c", runs=(Run("c/s1", "not run"), Run("c/s2", "not run"))),
        row("d", runs=(Run("d/s1", "failed"),)),
        reference="a",
    )
    figure = strip_plot(made, made.headlines)
    found = texts(figure)
    assert {"A", "B", "C", "D", "eval MIoU", "▲", "not run", "failed"} <= set(found)
    assert "ref." not in found
    assert figure.alt == "Every run as a dot, by row. eval MIoU: A 0.600 (mean of 3), B 0.725 (mean of 2)."
    dots = re.findall(r'<use xlink:href="[^"]*" x="([\d.]+)"', figure.data.decode())
    assert len([x for x in dots if dots.count(x) >= 1]) >= 5
    assert strip_plot(table(made.rows[2], headline=(), columns=()), ()) is None


def test_a_long_name_is_written_in_full() -> None:
    title = "a network with a name that does not fit a single line of the chart"
    found = texts(strip_plot(table(row("a", 0.5, title=title)), (SCORE,)))
    assert title in " ".join(found)


def test_bars_of_classes_hold_means_and_intervals_by_hand() -> None:
    where = "test/cells"

    def scored(n: int, iou: float | None) -> Run:
        return run(f"a/s{n}", 0.5, ious={where: {"cell": None, "dense_granule": iou}})

    first = row("a", runs=(scored(1, 0.2), scored(2, 0.4), scored(3, 0.6), scored(4, None)))
    made = table(first, row("b", runs=(scored(1, 0.7),)))
    found = class_summaries(made, where)
    assert set(found) == {"dense_granule"}
    one, other = found["dense_granule"]["a"], found["dense_granule"]["b"]
    assert (one.n, one.mean, one.sd) == (3, pytest.approx(0.4), pytest.approx(0.2))
    assert one.high == pytest.approx(0.4 + 4.302652729911275 * 0.2 / 3**0.5)
    assert (other.n, other.mean, other.low) == (1, 0.7, None)
    figure = class_figure(made, where)
    assert {"dense granule", "0.40", "0.70", "A", "B"} <= set(texts(figure))
    assert "cell" not in texts(figure)
    assert "#ff00aa" in figure.data.decode()
    assert "dense granule: A 0.40, B 0.70" in figure.alt
    assert class_figure(made, "eval/labelled") is None


def test_figures_are_the_same_bytes_each_time() -> None:
    made = made_up_table()
    column = made.column(EVAL)
    assert strip_plot(made, (column,)).data == strip_plot(made, (column,)).data
