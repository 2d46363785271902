import json

import numpy as np
import pytest
from made_up import MADE_BY, made_up_benchmark
from pydantic import ValidationError

from densem.errors import FormatError, NotFoundError
from densem.evaluation import BlockTables, Protocol, Replicate, compare, scores
from densem.experiments.folder import BenchmarkFolder
from densem.experiments.record import RunRecord
from densem.experiments.suite import Suite


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    return made_up_benchmark(tmp_path_factory.mktemp("study"))


def test_records_are_read_back_as_they_were_written(made_up, tmp_path):
    for record in made_up.records():
        record.write(tmp_path)
        assert RunRecord.read(tmp_path) == record
        assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_names_and_places(made_up):
    names = [r.name for r in made_up.records()]
    assert names[:7] == ["deep/s1", "deep/s2", "deep/s3", "deep/s4", "deep/s5", "deep/s6", "ensemble-deep"]
    assert (made_up.path / "runs/deep/s5/run.json").is_file()
    assert (made_up.path / "ensembles/ensemble-deep/run.json").is_file()
    collapsed = made_up.records()[4]
    assert (collapsed.status, collapsed.results, collapsed.metric("eval", "labelled", "miou")) == (
        "collapsed",
        {},
        None,
    )


def test_scores_are_those_of_the_block_tables(made_up):
    record = made_up.records()[0]
    result = record.results["test"]
    cells, labelled = (
        BlockTables.load(made_up.folder_of(record) / result.blocks[p]["test"]) for p in ("cells", "labelled")
    )
    assert (cells.counts.shape, cells.counts.dtype) == ((12, 4, 5), np.int64)
    found = record.scores("test", Protocol.CELLS)
    assert (
        found.miou_organelles
        == scores(cells.whole()).miou_organelles
        == record.metric("test", "cells", "miou_organelles")
    )
    assert found.miou is None
    assert record.scores("test", "labelled") == scores(labelled.whole())


def test_all_runs_were_scored_on_the_same_truth(made_up):
    found = [
        Replicate.of(
            BlockTables.load(made_up.folder_of(r) / r.results["test"].blocks["labelled"]["test"]), name=r.name
        )
        for r in made_up.records()
        if r.done
    ]
    result = compare(found[:5], found[-6:], rounds=200)
    assert result.replicates == (5, 6)
    assert result.blocks == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "done"}, "a run that is done must have results"),
        ({"error": None}, "a run that failed must have an error and no results"),
        ({"seed": None}, "networks have a seed, and nothing else has one"),
        ({"kind": "ensemble"}, "networks have a seed, and nothing else has one"),
    ],
)
def test_a_record_agrees_with_itself(change, message):
    facts = {
        "row": "a",
        "title": "A",
        "kind": "network",
        "seed": 1,
        "status": "failed",
        "error": "x",
        "made_by": MADE_BY,
    }
    RunRecord(**facts)
    with pytest.raises(ValidationError, match=message):
        RunRecord(**(facts | change))


def test_what_cannot_be_read_is_named(made_up, tmp_path):
    with pytest.raises(NotFoundError, match=r"expected the record of a run \(run.json\), found none"):
        RunRecord.read(tmp_path)
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.raises(FormatError, match=r"run.json: not a JSON file: .*; run this row anew"):
        RunRecord.read(tmp_path)
    facts = json.loads((made_up.path / "runs/deep/s1/run.json").read_text())
    path.write_text(json.dumps(facts | {"kind": "netwrok"}))
    with pytest.raises(FormatError, match=r"run.json: kind: Input should be 'network'"):
        RunRecord.read(tmp_path)


def test_a_record_in_another_runs_folder_is_refused(tmp_path):
    folder = made_up_benchmark(tmp_path)
    (folder.path / "runs/flat/s1/run.json").replace(folder.path / "runs/flat/s9.json")
    (folder.path / "runs/flat/s9").mkdir()
    (folder.path / "runs/flat/s9.json").replace(folder.path / "runs/flat/s9/run.json")
    with pytest.raises(
        FormatError, match=r"s9/run.json: expected the record of this folder's run, found that of flat/s1"
    ):
        folder.records()


def test_a_benchmark_is_found_by_name(tmp_path):
    folder = made_up_benchmark(tmp_path)
    assert BenchmarkFolder.find(tmp_path, "made-up") == folder
    assert Suite.read(folder.suite).reference_row.slug == "deep"
    with pytest.raises(NotFoundError, match=r"no benchmark 'made-pu'. Did you mean 'made-up'\?"):
        BenchmarkFolder.find(tmp_path, "made-pu")
    with pytest.raises(NotFoundError, match=r"no benchmark 'poster'. Begin one with  densem benchmark"):
        BenchmarkFolder.find(tmp_path / "other", "poster")
