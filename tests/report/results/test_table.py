"""The table: means, spreads and bests checked by hand; what enters them and what does not."""

from __future__ import annotations

import math

import pytest
from scipy import stats
from small import FLOP, MIOU, row, run, table

from densem.report.results.columns import COLUMNS, known
from densem.report.results.table import Run, Summary, summarise

SCORE, COST = known(MIOU), known(FLOP)


def test_mean_spread_and_best_by_hand() -> None:
    found = row("a", 0.50, 0.60, 0.70).summary(SCORE)
    assert (found.n, found.mean, found.sd, found.best) == (3, pytest.approx(0.6), pytest.approx(0.1), 0.70)
    half = 4.302652729911275 * 0.1 / math.sqrt(3)  # t of 97.5 % with 2 degrees of freedom, as tables have it
    assert (found.low, found.high) == (pytest.approx(0.6 - half), pytest.approx(0.6 + half))


def test_the_interval_is_that_of_scipy() -> None:
    values = [0.61, 0.58, 0.66, 0.63]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = summarise(values)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_the_best_of_a_cost_is_the_lowest_and_of_steps_there_is_none() -> None:
    assert summarise([3.0, 2.0], "lower").best == 2.0
    assert summarise([3.0, 2.0], "").best is None


def test_one_run_has_neither_spread_nor_interval() -> None:
    assert row("a", 0.5).summary(SCORE) == Summary(1, 0.5, None, 0.5, None, None)
    assert row("a", runs=(Run("a/s1", "not run"),)).summary(SCORE) == Summary()


def test_runs_that_failed_or_collapsed_enter_no_mean_even_with_values() -> None:
    runs = (
        run("a/s1", 0.5),
        run("a/s2", 0.7),
        run("a/s3", 0.01, state="collapsed", reason="one class"),
        run("a/s4", 0.99, state="failed", reason="out of memory"),
        Run("a/s5", "not run"),
    )
    found = row("a", runs=runs)
    assert found.summary(SCORE).mean == pytest.approx(0.6)
    assert found.best_run(SCORE).name == "a/s2"
    assert found.state == "1 of 5 not run; 1 of 5 failed; 1 of 5 collapsed"
    assert found.reasons == "one class; out of memory"
    made = table(found)
    assert [made.counted(s) for s in ("done", "failed", "collapsed", "not run")] == [2, 1, 1, 1]
    assert [one.name for _, one in made.troubled] == ["a/s3", "a/s4"]


@pytest.mark.parametrize(
    ("states", "text"),
    [
        (["done", "done"], "done"),
        (["not run", "not run"], "not run"),
        (["not run"], "not run"),
        (["failed"], "failed"),
        (["collapsed", "collapsed"], "2 of 2 collapsed"),
        (["done", "failed", "failed"], "2 of 3 failed"),
    ],
)
def test_states_of_rows(states: list, text: str) -> None:
    assert row("a", runs=tuple(Run(f"a/s{n}", s) for n, s in enumerate(states))).state == text


def test_the_best_rows_are_those_whose_shown_mean_is_best() -> None:
    people = row("people", 0.9, kind="annotators")
    made = table(row("a", 0.7001), row("b", 0.6999), row("c", 0.6980), people)
    assert made.best(SCORE) == {"a", "b"}  # both are shown as 0.700; people are no contestants
    assert table(row("a", 0.7), people).best(SCORE) == frozenset()
    assert table(row("a", 0.7), row("b", 0.7)).best(SCORE) == frozenset()
    cheap = row("a", runs=(run("a/s1", 0.5, values={FLOP: 2.0}),))
    dear = row("b", runs=(run("b/s1", 0.6, values={FLOP: 3.0}),))
    assert table(cheap, dear).best(COST) == {"a"}


def test_a_row_that_lacks_a_class_of_others_is_not_the_best_of_a_distance() -> None:
    key = "test/labelled/boundary_mean_nm"
    far = next(c for c in COLUMNS if c.key == key)

    def of(name: str, *runs: tuple[float, tuple[str, ...]]):
        made = (
            run(f"{name}/s{n}", 0.5, values={key: nm}, averaged={key: classes})
            for n, (nm, classes) in enumerate(runs, 1)
        )
        return row(name, runs=tuple(made))

    whole = of("whole", (60.0, ("cell", "granule")), (64.0, ("granule", "cell")))
    worse = of("worse", (70.0, ("cell", "granule")))
    lacking = of("lacking", (9.0, ("cell",)), (11.0, ("cell", "granule")))
    assert table(whole, worse, lacking).best(far) == {"whole"}
    assert table(of("a", (9.0, ("cell",))), of("b", (8.0, ("cell",)))).best(far) == {"b"}


def test_the_score_is_the_last_headline() -> None:
    test = "test/cells/miou_organelles"
    made = table(row("a", runs=(run("a/s1", 0.5, values={test: 0.4}),)))
    assert [c.key for c in made.headlines] == [MIOU, test]
    assert made.score.key == test
    assert table(row("a", 0.5)).score.key == MIOU
    assert table(row("a", runs=(Run("a/s1", "failed"),))).score is None


def test_an_interval_that_is_given_is_taken() -> None:
    found = row("a", 0.5, intervals={MIOU: (0.4, 0.55)}).summary(SCORE)
    assert (found.low, found.high, found.sd) == (0.4, 0.55, None)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (MIOU, 0.54321, "0.543"),
        (MIOU, None, "–"),
        ("parameters", 11_399_438.0, "11.4"),
        ("parameters", 456_242.0, "0.456"),
        ("parameters", 99_960_000.0, "100"),
        (FLOP, 1240.4, "1,240"),
        (FLOP, 9.996, "10.0"),
        (FLOP, 0.00004, "0.000"),
        ("test/voxels_per_s", 1_234_567.0, "1,235"),
        ("training_seconds", 90.0, "1.50"),
        ("training_steps", 20000.0, "20,000"),
    ],
)
def test_numbers_as_they_are_shown(key: str, value: float | None, text: str) -> None:
    assert known(key).text(value) == text


def test_columns_have_keys_of_their_own_and_say_what_they_are() -> None:
    assert len({c.key for c in COLUMNS}) == len({c.title for c in COLUMNS}) == len(COLUMNS)
    assert all(c.meaning and not c.meaning.endswith(".") for c in COLUMNS)
    assert known("eval/labelled/mioo") is None


def test_an_interval_is_shown_within_what_the_quantity_can_be() -> None:
    share, nm = known("test/labelled/miou"), known("test/labelled/boundary_mean_nm")
    assert share is not None
    assert nm is not None
    assert share.interval(-0.238, 1.027) == "0.000 to 1.000"
    assert share.interval(0.25, 0.5) == "0.250 to 0.500"
    assert share.interval(None, None) == ""
    assert nm.interval(3.0, 40.0) == f"{nm.text(3.0)} to {nm.text(40.0)}"
    ari = known("test/labelled/ari")
    assert ari is not None
    assert ari.interval(-0.1, 0.4) == "-0.100 to 0.400"
