"""The page: every row, every figure with words, what is missing said; for whole and broken benchmarks."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape

import pytest
from made_up_table import made_up_table
from small import MIOU, row, run, table

from densem.evaluation import Verdict
from densem.report import page
from densem.report.results.page import how_to_read, results_page
from densem.report.results.table import Comparison, Run


@pytest.fixture(scope="module")
def html() -> str:
    return page(results_page(made_up_table()))


def tables(html: str) -> list[str]:
    return re.findall(r"<table.*?</table>", html, re.S)


def test_every_row_is_in_the_table_and_escaped(html: str) -> None:
    made = made_up_table()
    for entry in made.rows:
        assert f"<td>{escape(entry.title)}" in tables(html)[0]
    assert "<pre-trained>" not in html
    assert "&lt;all of 3 attempts&gt;" in html
    for group in ("2D-3D networks", "Baselines", "People"):
        assert f"<strong>{group}</strong>" in tables(html)[0]


def test_every_figure_has_words_for_those_who_cannot_see_it(html: str) -> None:
    figures = re.findall(r'<svg role="img" aria-label="([^"]*)"', html)
    assert len(figures) == html.count("<figure") == 5
    assert all(len(text) > 40 for text in figures)
    assert not re.findall(r'<img (?![^>]*alt="[^"]+)', html)


def test_the_page_needs_nothing_else(html: str) -> None:
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "<script" not in html


def test_a_cell_of_the_table_by_hand() -> None:
    made = table(
        row("a", 0.60, 0.62, comparisons={MIOU: Comparison(Verdict.REFERENCE)}),
        row("b", 0.50, comparisons={MIOU: Comparison(Verdict.SPREAD_UNKNOWN, -0.11, -0.2, 0.02)}),
        reference="a",
    )
    first, second = tables(page(results_page(made)))[:2]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in re.findall(r"<tr>(.*?)</tr>", first)][1:]
    assert cells[0] == ["A", "2", "<strong>0.610 ± 0.014</strong>", "0.620", "0.483 to 0.737", "ref."]
    assert cells[1] == ["B", "1", "0.500", "", "", "?"]
    assert "-0.110" in second
    assert "-0.200 to +0.020" in second
    assert "? not decidable with so few runs" in second


def test_the_sentence_on_reading_it_is_there() -> None:
    made = made_up_table()
    assert "no larger than the spread between the trainings of one row means nothing" in how_to_read(made)
    assert "told apart from 2D-3D+3x3x3: ▼ lower" in how_to_read(made)
    assert "Members of ensembles were chosen by their scores on the eval volumes" in how_to_read(made)
    assert "told apart" not in how_to_read(table(row("a", 0.5)))


def test_what_failed_is_listed_with_reasons(html: str) -> None:
    assert "OutOfMemoryError: the card has 8 GB, 11 GB were asked for" in html
    assert "1 of 3 collapsed: after step 2,000" in html
    assert "Not complete: 3 runs are missing, of MedNeXt." in html
    assert re.search(r'"value">70 of 75<', html)


def test_methods_say_what_is_known(html: str) -> None:
    assert "train (50 × 800 × 800 voxels, 40 × 10 × 10 nm) for training" in html
    assert "Every training was given 2 hours." in html
    assert "Trained and timed on a made-up machine with 2 cores." in html
    assert "recipe-deepvess" in html
    assert "optimizer.lr=0.001" in html
    assert "it was counted, not replaced" in html


def test_methods_say_that_pupils_share_their_ensemble() -> None:
    made = page(results_page(table(row("a", 0.5, 0.6), row("pupil", 0.6, 0.7, kind="distilled"))))
    assert "The runs of a distilled row (Pupil) share their teachers" in made
    assert "hold given this one ensemble" in made
    alone = page(results_page(table(row("a", 0.5, 0.6), row("pupil", 0.6, kind="distilled"))))
    assert "this one ensemble" not in alone


def test_without_a_test_volume_the_page_says_that_scores_are_optimistic() -> None:
    html = page(results_page(table(row("a", 0.5, 0.6))))
    assert "no scores on test volumes" in html
    assert "told apart" not in html


def test_test_scores_outside_the_table_are_not_denied() -> None:
    runs = tuple(run(f"a/s{n}", 0.5 + n / 10, values={"test/labelled/miou": 0.4}) for n in (1, 2))
    html = page(results_page(table(row("a", runs=runs))))
    assert "no scores on test volumes" not in html
    assert "The table has no column of the test volumes. The eval volumes chose" in html


def test_one_run_alone_makes_a_page() -> None:
    html = page(results_page(table(row("a", 0.5))))
    assert html.count("<figure") == 1
    assert "1 of 1" in html


@pytest.mark.parametrize("state", ["not run", "failed", "collapsed"])
def test_a_benchmark_with_nothing_finished_makes_a_page(state: str) -> None:
    runs = tuple(Run(f"a/s{n}", state, "why <it> is so") for n in (1, 2))
    html = page(results_page(table(row("a", runs=runs), reference="a")))
    assert "<figure" not in html
    assert "0 of 2" in html
    assert "why &lt;it&gt; is so" in html
    assert "has no finished run: nothing can be compared" in html


def test_rows_that_could_not_be_compared_are_said() -> None:
    made = replace(table(row("a", 0.5)), facts={"not_compared": {MIOU: ["A: other annotations", "B: torn"]}})
    html = page(results_page(made))
    assert "Not compared in eval MIoU: A: other annotations" in html
    assert "Not compared in eval MIoU: B: torn" in html


def test_restarted_runs_are_listed() -> None:
    html = page(results_page(table(row("a", runs=(run("a/s1", 0.5, restarts=2),)))))
    assert "after 2 attempts that had collapsed" in html


def test_further_scores_are_those_of_the_test_volumes(html: str) -> None:
    assert "test boundary distance in cells, nm" in html
    assert "eval accuracy" not in html
    assert "test ECE" in html
