"""The report of an evaluation, from volumes and scores to the content of the page."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from densem.evaluation import ContingencyTable, Protocol, contingency, scores
from densem.report import (
    Chart,
    Commands,
    Evaluation,
    Gallery,
    Paragraph,
    ReportContent,
    Subject,
    Table,
    attempts_of,
    choose_views,
    evaluation_report,
    page,
)
from densem.report.evaluation import score_warnings, short_count
from densem.schema import LabelSchema
from densem.volumes import Volume

PLATELET = LabelSchema.resolve("platelet")
VOXELS = (40.0, 10.0, 8.0)


def facts(protocol: Protocol = Protocol.LABELLED) -> Evaluation:
    rng = np.random.default_rng(3)
    shape = (4, 30, 50)
    truth = rng.integers(0, 7, shape).astype(np.uint8)
    truth[0, :9] = 255
    guess = np.where(rng.random(shape) < 0.7, truth, 1).astype(np.uint8)
    image = Volume(rng.integers(0, 255, shape).astype(np.uint8), VOXELS)
    pair = Volume(truth, VOXELS), Volume(guess, VOXELS)
    return Evaluation(
        title="Prediction first-eval",
        date="1 May 2026",
        scores=scores(contingency(*pair, PLATELET, protocol)),
        subject=Subject(image, *pair, PLATELET),
        views=choose_views(pair[0], PLATELET, 2),
        model={"architecture": "hybrid-2d3d-333", "id": "abc"},
        versions={"densem": "0.1.0"},
        attempts=attempts_of([{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.5}]),
        commands=(("Train longer.", "densem train s --max-time 30m"),),
    )


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return evaluation_report(facts())


def test_the_sections_and_what_stands_in_them(content: ReportContent) -> None:
    assert [s.title for s in content.sections] == ["Scores", "Slices", "Training", "Methods", "What next"]
    assert [[type(b) for b in s.blocks] for s in content.sections] == [
        [Paragraph, Table, Chart, Chart], [Gallery], [Chart], [Paragraph], [Commands]
    ]  # fmt: skip
    assert content.footer == "densem 0.1.0 · model abc"


def test_headline_numbers(content: ReportContent) -> None:
    case = facts()
    tiles = {t.label: (t.value, t.note) for t in content.tiles}
    assert tiles["MIoU"] == (f"{case.scores.miou:.3f}", "over 7 of 7 classes")
    assert tiles["MIoU, organelles"] == (f"{case.scores.miou_organelles:.3f}", "over 5 classes")
    assert tiles["Voxels scored"] == ("5.55 k", "all labelled voxels")


def test_inside_cells_there_is_no_mean_over_all_classes() -> None:
    content = evaluation_report(facts(Protocol.CELLS))
    assert "MIoU" not in {t.label for t in content.tiles}
    gallery = content.sections[1].blocks[0]
    assert isinstance(gallery, Gallery)
    assert gallery.legend.entries[-1] == ("not scored", "")


def test_the_table_has_a_row_a_class(content: ReportContent) -> None:
    case = facts()
    table = content.sections[0].blocks[1]
    assert isinstance(table, Table)
    assert [row[0].text for row in table.rows][-1] == "dense granule core"
    first = case.scores.classes[0]
    assert [c.text for c in table.rows[0]][:4] == [
        "background", f"{first.iou:.3f}", f"{first.precision:.3f}", f"{first.recall:.3f}"
    ]  # fmt: skip
    assert table.rows[0][5].text == f"{first.truth:,} ({100 * first.truth / case.scores.voxels:.2g} %)"


def test_unlabelled_stands_in_the_legend_only_where_it_is_seen(content: ReportContent) -> None:
    gallery = content.sections[1].blocks[0]
    assert isinstance(gallery, Gallery)
    seen = any(v.start[0] == 0 for v in facts().views)
    assert (("unlabelled", "") in gallery.legend.entries) is seen
    assert len(gallery.rows) == 2


def test_a_collapsed_prediction_is_said() -> None:
    counts = np.zeros((7, 8), np.int64)
    counts[:, 1] = [10, 20, 5, 5, 5, 5, 0]
    (warning,) = score_warnings(scores(ContingencyTable(counts, PLATELET)))
    assert warning == (
        "The prediction is cell almost everywhere, although the annotation holds 6 classes: this run has "
        "collapsed. Train again with another seed, and look at the class weights and the learning rate."
    )


def test_classes_never_found_and_voxels_left_empty_are_said() -> None:
    counts = np.eye(7, 8, dtype=np.int64) * 50
    counts[5], counts[6], counts[0, 7] = 0, 0, 1200
    counts[5, 2] = counts[6, 3] = 4
    assert score_warnings(scores(ContingencyTable(counts, PLATELET))) == (
        "Never predicted, although in the annotation: dense granule, dense granule core.",
        "For 1,200 voxels nothing was predicted; they count as wrong.",
    )
    assert score_warnings(scores(ContingencyTable(np.eye(7, 8, dtype=np.int64), PLATELET))) == ()


@pytest.mark.parametrize(
    ("number", "text"), [(812, "812"), (640000, "640 k"), (3_421_000, "3.42 M"), (1_070_000_000, "1.07 G")]
)
def test_counts_are_short(number: int, text: str) -> None:
    assert short_count(number) == text


def test_a_whole_page_of_real_data() -> None:
    folder = Path(os.environ.get("DENSEM_TEST_DATA", "/nonexistent")) / "platelet-slices"
    if not folder.is_dir():
        pytest.skip("DENSEM_TEST_DATA is not set")
    image = tifffile.imread(folder / "50-images-z0.tif").reshape(1, 800, 800)[:, :300, :400]
    truth = (
        tifffile.imread(folder / "50-semantic-z0.tif").reshape(1, 800, 800)[:, :300, :400].astype(np.uint8)
    )
    guess = Volume(np.roll(truth, 3, axis=2), VOXELS)
    subject = Subject(Volume(image, VOXELS), Volume(truth, VOXELS), guess, PLATELET)
    result = scores(contingency(Volume(truth, VOXELS), guess, PLATELET))
    case = Evaluation("real", "today", result, subject, choose_views(Volume(truth, VOXELS), PLATELET))
    html = page(evaluation_report(case))
    assert html.count('<img width="') == 4
    assert f"{result.miou:.3f}" in html
