"""From records to the table, its comparisons, its files and its cut."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from made_up import ROWS, SCHEMA, SUITE, MadeUpRow, made_up_benchmark

from densem.blocks import Box
from densem.cli import app as command_line
from densem.errors import ConfigError, FormatError, NotFoundError
from densem.evaluation import BlockTables, Verdict
from densem.experiments import cell
from densem.experiments.cell import benchmark_cell
from densem.experiments.comparisons import compared
from densem.experiments.cut import benchmark_cut
from densem.experiments.export import FILES, find, results_of, text_of, write_results
from densem.experiments.results import gather
from densem.report.render import has_opengl
from densem.report.results import record as json_form
from densem.study import Study
from densem.volumes import ome_zarr

EVAL, TEST = "eval/labelled/miou", "test/cells/miou_organelles"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    return made_up_benchmark(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def table(made_up):
    return compared(gather(made_up), made_up, rounds=500)


def row_of(table, key):
    return next(row for row in table.rows if row.key == key)


# ---- gathering -------------------------------------------------------------------------------


def test_rows_stand_in_the_order_of_the_suite_with_those_never_run(table):
    assert [row.key for row in table.rows] == ["ensemble-deep", "deep", "twin", "flat", "never-run"]
    assert [row.state for row in table.rows] == [
        "done",
        "1 of 6 collapsed",
        "done",
        "1 of 3 failed",
        "not run",
    ]
    assert [len(row.runs) for row in table.rows] == [1, 6, 6, 3, 3]
    assert [run.name for run in row_of(table, "never-run").runs] == [f"never-run/s{n}" for n in (1, 2, 3)]
    assert row_of(table, "flat").reasons == "RuntimeError: out of memory (asked for 12.0 GB)"
    assert (table.name, table.reference) == ("made-up", "deep")
    assert row_of(table, "twin").note == "equal to Deep"


def test_values_are_those_of_the_records(made_up, table):
    record = next(r for r in made_up.records() if r.name == "twin/s2")
    run = next(run for run in row_of(table, "twin").runs if run.name == "twin/s2")
    assert run.values[EVAL] == record.metric("eval", "labelled", "miou")
    assert run.values[TEST] == record.metric("test", "cells", "miou_organelles")
    assert run.values["parameters"] == 11_399_438
    assert run.values["mflop_per_voxel"] == 310.0
    assert run.values["test/voxels_per_s"] == 1e7 / 310
    assert run.values["test/ece"] == record.results["test"].ece
    assert run.values["training_seconds"] == record.training.seconds
    assert "test/cells/miou" not in run.values  # not judged inside cells
    assert run.curve == tuple((p.seconds, p.eval_miou) for p in record.curve if p.eval_miou is not None)
    assert len(run.curve) == 5
    assert run.ious["test/cells"]["cell"] is None
    assert run.ious["test/cells"]["granule"] == record.scores("test", "cells").classes[3].iou
    assert run.details["recipe"] == "hybrid-2d3d-333"


def test_an_ensemble_took_the_training_of_all_its_members(made_up, table):
    members = [r for r in made_up.records() if r.name in ("deep/s1", "deep/s2", "deep/s3", "deep/s4")]
    (run,) = row_of(table, "ensemble-deep").runs
    assert run.values["training_seconds"] == pytest.approx(sum(r.training.seconds for r in members))
    assert run.details["members"] == ["deep/s1", "deep/s2", "deep/s3", "deep/s4"]


def test_a_distilled_network_took_the_training_of_its_teachers_too(tmp_path):
    pupil = {"slug": "pupil", "title": "Pupil", "kind": "distilled", "of": "ensemble-deep", "replicates": 2}
    folder = made_up_benchmark(tmp_path, suite={**SUITE, "rows": [*SUITE["rows"], pupil]})
    members = ("deep/s1", "deep/s2", "deep/s4")
    one = next(r for r in folder.records() if r.name == "flat/s1")
    made = one.model_copy(update={"row": "pupil", "kind": "distilled", "members": members})
    made.write(folder.folder_of(made))
    seconds = {r.name: r.training.seconds for r in folder.records() if r.training}
    run = row_of(gather(folder), "pupil").runs[0]
    assert run.values["training_seconds"] == pytest.approx(
        one.training.seconds + sum(seconds[m] for m in members)
    )
    folder.run("deep", "network", 2).joinpath("run.json").unlink()
    assert "training_seconds" not in row_of(gather(folder), "pupil").runs[0].values


def test_headlines_have_the_titles_of_the_suite(table):
    assert [(c.key, c.title) for c in table.headlines] == [
        (EVAL, "eval MIoU"),
        (TEST, "test MIoU over organelles"),
    ]
    assert table.facts["budget"] == "100 steps"
    assert table.facts["machines"] == ["made-up processor, 2 cores"]
    assert table.facts["date"] == "23 November 2026"
    json.dumps(dict(table.facts))


def test_a_column_falls_back_to_the_protocol_that_was_scored(tmp_path):
    column = {"title": "test", "role": "test", "protocol": "cells", "otherwise": "labelled", "metric": "ari"}
    folder = made_up_benchmark(tmp_path, suite={**SUITE, "columns": [column]})
    for record in folder.records():
        if record.done:
            results = {
                role: r.model_copy(update={"scores": {"labelled": r.scores["labelled"]}})
                for role, r in record.results.items()
            }
            record.model_copy(update={"results": results}).write(folder.folder_of(record))
    assert gather(folder).headline == ("test/labelled/ari",)


def distances(mean, dice, truth=2.0, predicted=2.0):
    far = None if mean is None else 3 * mean
    return {
        "mean_nm": mean, "hausdorff95_nm": far, "surface_dice": dice, "truth_um2": truth, "predicted_um2": predicted
    }  # fmt: skip


def test_boundary_distances_are_means_over_the_judged_classes(made_up, tmp_path):
    shutil.copytree(made_up.path, tmp_path / "study/benchmarks/b")
    folder = find(tmp_path / "study")
    record = next(r for r in folder.records() if r.name == "deep/s1")
    one = {
        "background": distances(1.0, 0.9),
        "cell": distances(3.0, 0.8),
        "mitochondrion": distances(5.0, 0.7),
        "granule": distances(None, None, predicted=0.0),  # never predicted
    }
    two = {**one, "mitochondrion": distances(7.0, 0.9, 6.0, 6.0), "granule": distances(None, None, 0.0, 0.0)}
    by_volume = {"a": {"tolerance_nm": 40.0, "classes": one}, "b": {"tolerance_nm": 40.0, "classes": two}}
    boundaries = {"labelled": by_volume, "cells": by_volume}
    results = {**record.results, "test": record.results["test"].model_copy(update={"boundaries": boundaries})}
    record.model_copy(update={"results": results}).write(folder.folder_of(record))
    values = row_of(gather(folder), "deep").runs[0].values
    averaged = row_of(gather(folder), "deep").runs[0].averaged
    assert averaged["test/cells/boundary_mean_nm"] == ("mitochondrion",)
    assert averaged["test/labelled/hausdorff95_nm"] == ("background", "cell", "mitochondrion")
    assert averaged["eval/cells/hausdorff95_nm"] == ("mitochondrion", "granule")
    assert values["test/cells/boundary_mean_nm"] == pytest.approx(6.5)  # 5 and 7, by areas of 4 and 12
    assert values["test/cells/hausdorff95_nm"] == pytest.approx(21.0)
    assert values["test/cells/surface_dice"] == pytest.approx((0.85 + 0.0) / 2)
    assert values["test/labelled/boundary_mean_nm"] == pytest.approx((1.0 + 3.0 + 6.5) / 3)
    assert values["test/labelled/surface_dice"] == pytest.approx((0.9 + 0.8 + 0.85 + 0.0) / 4)


# ---- comparing -------------------------------------------------------------------------------


def test_rows_are_told_apart_where_they_differ_and_only_there(table):
    verdicts = {row.key: row.comparisons[TEST].verdict for row in table.rows if row.comparisons}
    assert verdicts == {
        "ensemble-deep": Verdict.SPREAD_UNKNOWN,
        "deep": Verdict.REFERENCE,
        "twin": Verdict.NOT_TOLD_APART,
        "flat": Verdict.LOWER,
    }
    flat = row_of(table, "flat")
    column = table.column(TEST)
    expected = flat.summary(column).mean - row_of(table, "deep").summary(column).mean
    assert flat.comparisons[TEST].difference == pytest.approx(expected)
    assert flat.comparisons[TEST].p <= flat.comparisons[TEST].p_holm < 0.05
    assert flat.comparisons[TEST].low < expected < flat.comparisons[TEST].high
    assert "one replicate" in row_of(table, "ensemble-deep").comparisons[TEST].reason
    assert "500 rounds" in table.facts["statistics"]
    assert "not_compared" not in table.facts


def test_a_reference_that_collapsed_leaves_no_marks(tmp_path):
    rows = (MadeUpRow("deep", 0.9, collapsed=(1, 2, 3, 4, 5, 6)), ROWS[1])
    folder = made_up_benchmark(tmp_path, rows=rows, suite={**SUITE, "rows": SUITE["rows"][1:]})
    table = compared(gather(folder), folder, rounds=200)
    assert not any(row.comparisons for row in table.rows)
    assert "statistics" not in table.facts


def test_damaged_block_tables_cost_the_mark_of_their_row_alone(tmp_path):
    folder = made_up_benchmark(tmp_path)
    next(folder.path.glob("runs/twin/s1/blocks-test-cells.npz")).write_bytes(b"torn")
    table = compared(gather(folder), folder, rounds=200)
    assert set(table.facts["not_compared"]) == {TEST}
    (why,) = table.facts["not_compared"][TEST]
    assert why.startswith("Twin of Deep: ")
    assert "blocks-test-cells.npz" in why
    assert EVAL in row_of(table, "twin").comparisons
    assert TEST not in row_of(table, "twin").comparisons
    assert row_of(table, "flat").comparisons[TEST].verdict is Verdict.LOWER


def test_a_damaged_reference_costs_the_marks_and_not_the_table(tmp_path):
    folder = made_up_benchmark(tmp_path)
    next(folder.path.glob("runs/deep/s1/blocks-test-cells.npz")).write_bytes(b"torn")
    table = compared(gather(folder), folder, rounds=200)
    assert not any(TEST in row.comparisons for row in table.rows)
    (why,) = table.facts["not_compared"][TEST]
    assert why.startswith("Deep, and so no row: ")


def relabelled(folder, record):
    """The block tables of a record as of an annotation that leaves a third of a block unlabelled."""
    for result in record.results.values():
        for paths in result.blocks.values():
            for path in paths.values():
                place = folder.folder_of(record) / path
                tables = BlockTables.load(place)
                tables.counts[2] = tables.counts[2] * 2 // 3
                tables.save(place)


def test_a_row_scored_on_another_annotation_costs_its_own_marks_alone(tmp_path):
    folder = made_up_benchmark(tmp_path)
    relabelled(folder, next(r for r in folder.records() if r.name == "twin/s4"))
    table = compared(gather(folder), folder, rounds=200)
    assert not row_of(table, "twin").comparisons
    assert {key: len(reasons) for key, reasons in table.facts["not_compared"].items()} == {EVAL: 1, TEST: 1}
    assert "only against the same annotation" in table.facts["not_compared"][EVAL][0]
    assert row_of(table, "flat").comparisons[EVAL].verdict is Verdict.LOWER


def test_the_human_row_leaves_the_others_their_marks(tmp_path):
    human = {"slug": "human", "title": "Second annotator", "kind": "annotators", "annotator": "ann"}
    folder = made_up_benchmark(tmp_path, suite={**SUITE, "rows": [*SUITE["rows"], human]})
    one = next(r for r in folder.records() if r.name == "twin/s1")
    facts = {
        "row": "human",
        "title": "Second annotator",
        "kind": "annotators",
        "seed": None,
        "training": None,
    }
    record = one.model_copy(update={**facts, "network": None, "recipe": None, "model": None, "curve": ()})
    shutil.copytree(folder.folder_of(one), folder.folder_of(record))
    record.write(folder.folder_of(record))
    relabelled(folder, record)
    table = compared(gather(folder), folder, rounds=200)
    assert not row_of(table, "human").comparisons
    assert row_of(table, "human").count("done") == 1
    assert "not_compared" not in table.facts
    assert {row.key for row in table.rows if EVAL in row.comparisons} == {
        "ensemble-deep", "deep", "twin", "flat"
    }  # fmt: skip


# ---- files -----------------------------------------------------------------------------------


def test_all_files_are_written_and_agree(made_up, table):
    files = write_results(made_up, table)
    assert [f.name for f in files] == ["results.csv", "results.json", "results.tex", "results.html"]
    assert sorted(p.name for p in made_up.results.iterdir()) == sorted(FILES.values())
    assert json_form.read(files[1]) == table
    lines = list(csv.DictReader(io.StringIO(files[0].read_text())))
    assert float(lines[1][f"{EVAL} mean"]) == row_of(table, "deep").summary(table.column(EVAL)).mean
    html = files[3].read_text()
    assert all(row.title in html for row in table.rows)
    assert all(row.title in files[2].read_text() for row in table.rows)


def test_a_benchmark_moved_away_from_its_study_has_its_results(made_up, tmp_path):
    shutil.copytree(made_up.path, tmp_path / "moved")
    table = gather(find(tmp_path / "moved"))
    assert [c.name for c in table.classes] == list(SCHEMA.names)
    assert row_of(table, "deep").count("done") == 5


def test_a_benchmark_that_has_only_begun(tmp_path):
    folder = made_up_benchmark(tmp_path, rows=())
    table = results_of(folder)
    assert [row.state for row in table.rows] == ["not run"] * 5
    assert table.columns == ()
    assert len(write_results(folder, table)) == 4


def test_folders_are_found_or_refused_with_what_is_there(made_up, tmp_path):
    study = made_up.path.parent.parent
    assert find(study).path == find(made_up.path).path == made_up.path
    with pytest.raises(NotFoundError, match="no benchmark there; expected a folder such as"):
        find(tmp_path)
    for name in ("one", "two"):
        made_up_benchmark(tmp_path, name, rows=())
    with pytest.raises(
        NotFoundError, match=r"expected one benchmark, found 2; give one of them: .*one, .*two"
    ):
        find(tmp_path)


def test_suites_and_records_that_cannot_be_read(tmp_path):
    folder = made_up_benchmark(tmp_path)
    record = folder.path / "runs/deep/s1/run.json"
    record.write_text("{")
    with pytest.raises(FormatError, match=r"runs/deep/s1/run\.json"):
        gather(folder)
    folder.suite.write_text("rows = 3\n")
    with pytest.raises(ConfigError, match=r"suite\.toml"):
        gather(folder)
    folder.suite.unlink()
    with pytest.raises(NotFoundError, match="no benchmark there"):
        gather(folder)


# ---- the command -----------------------------------------------------------------------------


def test_the_command_shows_the_table_and_writes_the_files(made_up, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert command_line.run(["results", str(made_up.path)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.partition("Page of figures")[0].splitlines())) <= 100
    for words in ("Ens. Deep (4)", "5 of 6", "Never run: not run", "out of memory", "Page of figures:"):
        assert words in out
    assert "Deep (ref.)" in out


@pytest.mark.parametrize(("form", "start"), [("csv", "row,title,kind"), ("latex", "% needs"), ("json", "{")])
def test_the_command_prints_one_form_and_writes_nothing(form, start, tmp_path, capsys):
    folder = made_up_benchmark(tmp_path, rows=ROWS[2:])
    assert command_line.run(["results", str(folder.path), "--format", form]) == 0
    assert capsys.readouterr().out.startswith(start)
    assert not folder.results.exists()


def test_the_command_refuses_other_forms(made_up, capsys):
    assert command_line.run(["results", str(made_up.path), "--format", "cvs"]) == 2
    assert "--format cvs: expected csv, json, latex or html. Did you mean 'csv'?" in capsys.readouterr().err


# ---- the cut ---------------------------------------------------------------------------------


def write_labels(path, array):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", (50.0, 5.0, 4.0))], (0.0, 0.0, 0.0), {})
    ome_zarr.finish(path)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A benchmark inside a study with a test volume, and predictions of some runs; the class is the seed mod 4."""
    place = tmp_path_factory.mktemp("cut") / "study"
    study = Study.create(place, SCHEMA)
    folder = made_up_benchmark(place)
    truth = np.zeros((3, 20, 30), np.uint8)
    truth[1, 5:, 3:] = 1
    truth[1, 8:12, 6:12] = 2
    truth[1, 14:18, 20:29] = 3
    write_labels(place / "volumes/test.zarr", truth * 60 + 9)
    write_labels(place / "annotations/test/semantic.zarr", truth)
    entry = {"role": "test", "image": "volumes/test.zarr", "semantic": "annotations/test/semantic.zarr"}
    text = study.path.read_text() + "\n[volumes.test]\n" + "".join(f'{k} = "{v}"\n' for k, v in entry.items())
    study.path.write_text(text)
    for record in folder.records():
        if record.done and record.row != "flat":
            path = folder.folder_of(record) / record.results["test"].predictions["test"] / "classes.zarr"
            write_labels(path, np.full_like(truth, (record.seed or 0) % 4))
    return folder


def test_the_cut_shows_the_run_of_each_row_that_was_best_on_the_eval_volumes(shown):
    table = gather(shown)
    gallery = benchmark_cut(table, shown)
    (panels,) = gallery.rows
    assert panels.title == "Volume test, slice z = 1"  # the only slice with all classes
    assert [p.title for p in panels.panels] == ["image", "truth", "Ens. Deep (4)", "Deep", "Twin of Deep"]
    best = row_of(table, "deep").best_run(table.column(EVAL))
    color = SCHEMA.classes[int(best.name[-1]) % 4].rgb
    assert (panels.panels[3].pixels == color).all()
    assert (panels.panels[2].pixels == SCHEMA.classes[0].rgb).all()
    assert [name for name, _ in gallery.legend.entries] == list(SCHEMA.names)
    assert panels.columns == 4
    assert "Without a prediction here: Flat." in gallery.caption


def test_there_is_no_cut_without_a_study_or_predictions(made_up, shown, tmp_path):
    assert benchmark_cut(gather(made_up), made_up) is None
    shutil.copytree(
        shown.path.parent.parent, tmp_path / "study", ignore=shutil.ignore_patterns("predictions")
    )
    folder = find(tmp_path / "study")
    assert benchmark_cut(gather(folder), folder) is None


def test_only_the_cut_is_read_of_predictions(shown, monkeypatch):
    from densem.volumes import Volume

    read = []
    whole = Volume.read

    def spy(self, box=None):
        if "predictions" in str(self.path):
            read.append(box)
        return whole(self, box)

    monkeypatch.setattr(Volume, "read", spy)
    benchmark_cut(gather(shown), shown)
    assert set(read) == {Box((1, 0, 0), (2, 20, 30))}


# ---- the cell --------------------------------------------------------------------------------


@pytest.fixture
def with_objects(shown, tmp_path):
    """The same with objects of the labels of the test volume: one cell that holds two."""
    from densem.study.objects import ObjectsRequest, find_in_study

    shutil.copytree(shown.path.parent.parent, tmp_path / "study")
    settings = tuple(
        f"{name}.{rule}" for name in SCHEMA.names[1:] for rule in ("method=components", "min_volume_nm3=0")
    )
    find_in_study(tmp_path / "study", ObjectsRequest(labels="test", overrides=settings))
    return find(tmp_path / "study")


def test_the_cell_is_shown_as_truth_and_as_each_row_has_it(with_objects):
    pytest.importorskip("pyvista")
    if not has_opengl():
        pytest.skip("no OpenGL")
    table = gather(with_objects)
    gallery = benchmark_cell(table, with_objects)
    (row,) = gallery.rows
    assert row.title == "Volume test, cell 1 with 2 objects in it"
    assert [p.title for p in row.panels] == ["truth", "Ens. Deep (4)", "Deep", "Twin of Deep"]
    assert [name for name, _ in gallery.legend.entries][:1] == ["cell"]
    assert "Without a prediction here: Flat." in gallery.caption
    truth, ensemble, *_ = (p.pixels for p in row.panels)
    assert truth.shape == ensemble.shape
    painted = (truth != 255).any(axis=2).mean()
    assert 0.05 < painted < 0.9
    assert (ensemble != 255).any(axis=2).mean() < 0.05  # it has only background: nothing here
    assert "<h2>One cell</h2>" in text_of(with_objects, table, "html")


@pytest.mark.parametrize(("most", "read"), [(10**6, [10**6]), (1, [1, None])])
def test_the_cell_is_read_coarser_where_there_are_coarser_levels(with_objects, monkeypatch, most, read):
    """The pyramids of this study have one level, so that the cell is drawn from it in any case."""
    pytest.importorskip("pyvista")
    if not has_opengl():
        pytest.skip("no OpenGL")
    asked = []

    def region_of(truth, others, choice, most=None):
        asked.append(most)
        return real(truth, others, choice, most)

    real = cell.region_of
    monkeypatch.setattr(cell, "VOXELS", most)
    monkeypatch.setattr(cell, "region_of", region_of)
    assert benchmark_cell(gather(with_objects), with_objects) is not None
    assert asked == read


def test_there_is_no_cell_without_objects_or_opengl(shown, with_objects, monkeypatch):
    assert benchmark_cell(gather(shown), shown) is None
    monkeypatch.setattr("densem.report.render.has_opengl", lambda: False)
    assert benchmark_cell(gather(with_objects), with_objects) is None
    assert "One cell" not in text_of(with_objects, gather(with_objects), "html")
