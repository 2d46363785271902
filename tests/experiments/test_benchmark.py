"""The whole way on phantoms: two rows, two replicates, an ensemble; kills, crashes and what is resumed."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from densem.errors import (
    ConfigError,
    IncompleteError,
    InputError,
    IntegrityError,
    NotFoundError,
    ResourceError,
)
from densem.evaluation import BlockTables, contingency, scores
from densem.experiments.benchmark import BenchmarkRequest, conclude, do, pending, plan, run_all, state
from densem.experiments.results import gather
from densem.experiments.setting import Setting
from densem.model import Model
from densem.study import Study
from densem.volumes import open_volume


def begin(study, suite_file, **options):
    setting = plan(study, BenchmarkRequest(str(suite_file), **options))
    setting.write()
    return setting


def names(runs):
    return [r.name for r in runs]


@pytest.fixture(scope="module")
def finished(study_folder, tmp_path_factory):
    """A benchmark run to its end in this process, and what it said."""
    home = tmp_path_factory.mktemp("finished")
    return _run_whole(study_folder, home)


def _run_whole(study_folder, home):
    import shutil

    from tiny_suite import SUITE, TINY

    shutil.copytree(study_folder, home / "study")
    (home / "mixed.toml").write_text(
        TINY.format(architecture="hybrid-2d3d-333", config="volumetric_scales = [0]\npyramid = [1]")
    )
    (home / "flat.toml").write_text(TINY.format(architecture="hybrid-2d", config=""))
    (home / "tiny.toml").write_text(SUITE)
    setting = begin(Study.open(home / "study"), home / "tiny.toml")
    said = []
    run_all(setting, pending(setting), do, said.append)
    return setting, said


def test_every_run_leaves_a_record(finished):
    setting, _ = finished
    assert [r.name for r in setting.folder.records()] == [
        "flat/s1",
        "flat/s2",
        "mixed/s1",
        "mixed/s2",
        "pair",
    ]
    assert all(r.done for r in setting.folder.records())
    assert pending(setting) == []
    conclude(setting, setting.runs())


def test_first_replicates_come_first(finished):
    setting, said = finished
    assert names(setting.runs()) == ["mixed/s1", "flat/s1", "mixed/s2", "flat/s2", "pair"]
    begun = [line for line in said if line.startswith("[")]
    assert begun[0].startswith("[1/5] Mixed (mixed/s1)")
    assert begun[4].startswith("[5/5] Ens. Mixed (2) (pair)")


def test_scores_are_those_of_the_predictions_on_disk(finished):
    setting, _ = finished
    for record in setting.folder.records():
        place = setting.folder.folder_of(record)
        for role in ("eval", "test"):
            result = record.results[role]
            truth = setting.study.labels(role)
            classes = open_volume(place / result.predictions[role] / "classes.zarr")
            for protocol in setting.protocols:
                table = contingency(truth, classes, setting.study.schema, protocol)
                assert record.scores(role, protocol) == scores(table)
                blocks = BlockTables.load(place / result.blocks[protocol.value][role])
                assert np.array_equal(blocks.counts.sum(axis=0), table.counts)
                assert set(result.boundaries[protocol.value][role]["classes"]) == set(
                    setting.study.schema.names
                )
            assert 0 <= result.ece <= 1
            assert result.prediction.voxels == 5 * 72 * 88


def test_replicates_differ_in_their_seed_alone(finished):
    setting, _ = finished
    first, second = (setting.record(setting.run(f"mixed/s{s}")) for s in (1, 2))
    assert first.recipe == second.recipe
    assert (first.training.steps, first.network) == (second.training.steps, second.network)
    models = [Model.load(setting.place(setting.run(f"mixed/s{s}")) / "model") for s in (1, 2)]
    assert models[0].id != models[1].id
    assert [m.training["seed"] for m in models] == [1, 2]
    assert models[0].training["recipe"] == models[1].training["recipe"]
    assert models[0].training["recipe"]["schedule"]["restarts"] == 0


def test_a_record_says_what_made_it(finished):
    setting, _ = finished
    record = setting.record(setting.run("mixed/s1"))
    assert record.network.architecture == "hybrid-2d3d-333"
    assert record.network.mflop_per_voxel > 0
    assert record.training.steps == 6
    assert record.curve[-1].step == 6
    assert record.curve[-1].eval_miou == pytest.approx(record.training.best_miou, abs=1e-5)
    assert record.made_by.densem
    assert record.made_by.device == "cpu"
    assert record.seconds > record.results["test"].prediction.seconds > 0


def test_nothing_of_training_is_left_but_the_model(finished):
    setting, _ = finished
    place = setting.place(setting.run("mixed/s1"))
    assert not (place / "training").exists()
    assert {p.name for p in (place / "model" / "training").iterdir()} >= {"recipe.toml", "metrics.jsonl"}
    assert "models" not in setting.study.manifest.model_dump() or not setting.study.manifest.models


def test_the_ensemble_is_the_mean_of_its_members(finished):
    setting, _ = finished
    record = setting.record(setting.run("pair"))
    assert sorted(record.members) == ["mixed/s1", "mixed/s2"] == list(record.candidates)
    members = [setting.record(setting.run(m)) for m in record.members]
    assert record.network.parameters == sum(m.network.parameters for m in members)
    by_score = sorted(members, key=lambda m: -m.metric("eval", "labelled", "miou"))
    assert [m.name for m in by_score] == list(record.members)


def test_the_table_is_of_the_records(finished):
    setting, _ = finished
    table = gather(setting.folder)
    assert [row.title for row in table.rows] == ["Ens. Mixed (2)", "Mixed", "Flat"]
    values = [setting.record(setting.run(f"mixed/s{s}")).metric("eval", "labelled", "miou") for s in (1, 2)]
    row, (column, *_) = table.rows[1], table.headlines
    found = row.summary(column)
    assert (found.mean, found.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (row.state, row.count("done")) == ("done", 2)


# ---- crashes -----------------------------------------------------------------------------------


def test_a_crash_is_one_failed_run(study, suite_file, monkeypatch):
    from densem.experiments import replicate

    setting = begin(study, suite_file)
    real, broken = replicate.train, True

    def train(recipe, *words, seed, name, **options):
        if broken and name == "flat-s1":
            raise RuntimeError("this network\ncannot be trained")
        return real(recipe, *words, seed=seed, name=name, **options)

    monkeypatch.setattr(replicate, "train", train)
    run_all(setting, pending(setting), do, lambda line: None)
    states = {r.name: r.status for r in setting.folder.records()}
    assert states == {
        "flat/s1": "failed",
        "flat/s2": "done",
        "mixed/s1": "done",
        "mixed/s2": "done",
        "pair": "done",
    }
    record = setting.record(setting.run("flat/s1"))
    assert record.error == "RuntimeError: this network cannot be trained"
    assert "Traceback" in (setting.place(setting.run("flat/s1")) / "error.txt").read_text()
    with pytest.raises(IncompleteError) as caught:
        conclude(setting, setting.runs())
    assert str(caught.value) == (
        "1 of 5 runs failed (flat/s1); flat/s1: RuntimeError: this network cannot be trained; "
        "--retry-failed tries them again"
    )
    assert pending(setting) == []
    assert names(pending(setting, retry_failed=True)) == ["flat/s1"]
    broken = False
    run_all(setting, pending(setting, retry_failed=True), do, lambda line: None)
    assert setting.record(setting.run("flat/s1")).done
    assert not (setting.place(setting.run("flat/s1")) / "error.txt").exists()


def test_a_collapse_is_a_result_and_never_a_member(study, suite_file, monkeypatch):
    from densem.errors import CollapseError
    from densem.experiments import replicate

    setting = begin(study, suite_file, rows=("pair",))
    real = replicate.train

    def train(recipe, *words, seed, **options):
        if seed == 2:
            raise CollapseError("only class background is predicted, in 1 attempt")
        return real(recipe, *words, seed=seed, **options)

    monkeypatch.setattr(replicate, "train", train)
    run_all(setting, pending(setting, ("pair",)), do, lambda line: None)
    assert setting.record(setting.run("mixed/s2")).status == "collapsed"
    assert setting.record(setting.run("pair")).error == (
        "an ensemble of 2 needs as many finished runs of row 'mixed', found 1; collapsed and failed runs do not count"
    )
    assert names(pending(setting, ("pair",), retry_failed=True)) == ["pair"]  # a collapse is not tried again
    assert names(pending(setting, ("pair",))) == []


def test_a_killed_process_is_one_failed_run(study, suite_file, monkeypatch):
    from densem.experiments import child

    setting = begin(study, suite_file)
    words = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr(child, "command", lambda setting, name: words)
    record = child.do_in_child(setting, setting.run("flat/s1"))
    assert record.status == "failed"
    assert record.error == "its process was killed; most often that means that memory ran out"


def test_a_run_is_done_by_one_process_at_a_time(study, suite_file):
    from densem.study.manifest import claimed

    setting = begin(study, suite_file)
    run = setting.run("flat/s1")
    with (
        claimed(setting.place(run), "doing run flat/s1"),
        pytest.raises(ResourceError, match="doing run flat/s1"),
    ):
        do(setting, run)
    assert setting.record(run) is None


# ---- interruptions -----------------------------------------------------------------------------


def test_interrupted_the_same_command_goes_on(study, suite_file, tmp_path):
    """Through the command line and a process of its own: Ctrl-C, then the same again."""
    suite_file.write_text(suite_file.read_text().replace("steps = 6", "steps = 120"))
    text = (tmp_path / "flat.toml").read_text()
    (tmp_path / "flat.toml").write_text(text.replace("[schedule]", "[schedule]\ncheckpoint_minutes = 1e-4"))
    words = [
        sys.executable, "-m", "densem", "benchmark", str(study.folder), "--suite", str(suite_file),
        "--rows", "flat", "--replicates", "2",
    ]  # fmt: skip
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where tests run in the background
    )  # fmt: skip
    place = study.folder / "benchmarks/tiny/runs/flat/s1"
    _wait_for(lambda: (place / "training/checkpoint.pt").exists(), process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "run the same command again to go on" in said
    assert not (place / "run.json").exists()
    assert (place / "training/checkpoint.pt").exists()
    setting = Setting.open(study, "tiny")
    record = do(setting, setting.run("flat/s1"))
    assert record.done
    assert record.training.steps == 120
    steps = [p.step for p in record.curve if p.loss is not None]
    assert steps == sorted(set(steps))  # one attempt, gone on with


def _wait_for(true, process, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_was_trained_is_not_trained_again(study, suite_file, monkeypatch):
    from densem.experiments import replicate

    setting = begin(study, suite_file)
    run = setting.run("flat/s1")
    monkeypatch.setattr(replicate, "judge", _stopped)
    with pytest.raises(KeyboardInterrupt):
        do(setting, run)
    before = Model.load(setting.place(run) / "model").id
    monkeypatch.undo()
    monkeypatch.setattr(replicate, "train", _never)
    assert do(setting, run).done
    assert Model.load(setting.place(run) / "model").id == before


def _stopped(*words):
    raise KeyboardInterrupt


def _never(*words, **options):
    raise AssertionError("trained again")


# ---- honesty -----------------------------------------------------------------------------------


def test_training_never_sees_the_test_volume(study, suite_file, monkeypatch):
    setting = begin(study, suite_file)
    opened = []
    image, labels = Study.image, Study.labels
    monkeypatch.setattr(Study, "image", lambda self, name: (opened.append(name), image(self, name))[1])
    monkeypatch.setattr(Study, "labels", lambda self, name: (opened.append(name), labels(self, name))[1])
    from densem.experiments import replicate

    seen_by_training = []
    real = replicate.keep_model
    monkeypatch.setattr(
        replicate, "keep_model", lambda *words: (seen_by_training.extend(opened), real(*words))[1]
    )
    do(setting, setting.run("flat/s1"))
    assert set(seen_by_training) == {"train", "eval"}
    assert set(opened) == {"train", "eval", "test"}


def test_a_row_keeps_its_plan(study, suite_file):
    setting = begin(study, suite_file)
    do(setting, setting.run("flat/s1"))
    changed = suite_file.read_text().replace("steps = 6", "steps = 7")
    suite_file.write_text(changed)
    with pytest.raises(IntegrityError) as caught:
        plan(study, BenchmarkRequest(str(suite_file)))
    assert "row 'flat' was begun with another recipe, budget {\"steps\": 6}, and now it is" in str(
        caught.value
    )
    assert "give what it was begun with, another --name, or remove that folder" in str(caught.value)
    assert plan(study, BenchmarkRequest(str(suite_file), name="other")).folder.name == "other"


def test_more_replicates_can_be_added_and_ensembles_follow(finished, tmp_path, capsys):
    import shutil

    from densem.cli.app import run

    setting, _ = finished
    home = setting.study.folder.parent
    shutil.copytree(home, tmp_path / "home")
    study = Study.open(tmp_path / "home/study")
    more = plan(study, BenchmarkRequest(str(tmp_path / "home/tiny.toml"), replicates=3, rows=("pair",)))
    assert names(pending(more, ("pair",))) == ["mixed/s3", "pair"]
    words = ["--suite", str(tmp_path / "home/tiny.toml"), "--replicates", "3", "--rows", "pair", "--dry-run"]
    assert run(["benchmark", str(study.folder), *words]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "not begun" in lines["mixed/s3"]
    assert "done, looked at again" in lines["pair"]
    assert "again" not in lines["mixed/s1"]


def copied(finished, tmp_path):
    """A finished benchmark of its own: its study, and the suite's file."""
    import shutil

    setting, _ = finished
    shutil.copytree(setting.study.folder.parent, tmp_path / "home")
    return Study.open(tmp_path / "home/study"), tmp_path / "home/tiny.toml"


def test_fewer_replicates_later_leave_all_finished_runs_candidates(finished, tmp_path):
    study, suite_file = copied(finished, tmp_path)
    suite_file.write_text(suite_file.read_text().replace("k = 2", "k = 1"))
    setting = plan(study, BenchmarkRequest(str(suite_file), replicates=1))
    assert "mixed/s2" not in names(setting.runs())
    assert [r.name for r in setting.finished("mixed")] == ["mixed/s1", "mixed/s2"]
    assert pending(setting) == []


def test_annotations_corrected_halfway_are_judged_anew_without_training(finished, tmp_path, monkeypatch):
    from densem.experiments import replicate
    from densem.study.intake import ImportRequest, import_volume

    study, suite_file = copied(finished, tmp_path)
    labels = study.labels("test").read().copy()
    labels[:, :20, 10:50] = 255
    import tifffile

    tifffile.imwrite(tmp_path / "corrected.tif", labels)
    request = ImportRequest(
        labels=tmp_path / "corrected.tif", voxel_size_nm=(40.0, 10.0, 10.0), overwrite=True
    )
    import_volume(study, "test", request, lambda done, total: None)
    study = Study.open(study.folder)
    setting = plan(study, BenchmarkRequest(str(suite_file)))
    before = setting.record(setting.run("flat/s1"))
    assert names(pending(setting)) == ["mixed/s1", "flat/s1", "mixed/s2", "flat/s2", "pair"]
    assert {state(setting, r) for r in setting.runs()} == {"done, to be scored anew"}
    monkeypatch.setattr(replicate, "train", _never)
    record = do(setting, setting.run("flat/s1"))
    assert record.done, record.error
    assert state(setting, setting.run("flat/s1")) == "done"
    assert record.results["eval"].scores == before.results["eval"].scores
    voxels = [r.scores("test", "labelled").voxels for r in (before, record)]
    assert voxels[0] - voxels[1] == 5 * 20 * 40
    assert names(pending(setting)) == ["mixed/s1", "mixed/s2", "flat/s2", "pair"]


def test_a_prediction_left_half_done_by_another_ensemble_is_replaced(finished, tmp_path):
    from tiny_suite import struck_while_predicting

    from densem.experiments.judging import judge_role
    from densem.model import Ensemble

    setting, _ = finished
    one, two = (Model.load(setting.place(setting.run(f"mixed/s{s}")) / "model") for s in (1, 2))
    with struck_while_predicting():
        judge_role(setting, Ensemble([two]), tmp_path, "test")
    assert (tmp_path / "predictions/test/journal/plan.json").is_file()
    found = judge_role(setting, Ensemble([one]), tmp_path, "test")
    expected = setting.record(setting.run("mixed/s1")).results["test"]
    assert found.scores == expected.scores
    assert found.prediction.voxels == 5 * 72 * 88


def test_a_time_budget_is_measured_once_for_a_row(study, suite_file, monkeypatch):
    from densem.experiments import row_plan

    setting = begin(study, suite_file, max_time="3s", rows=("flat",))
    calls = []
    real = row_plan.settle
    monkeypatch.setattr(row_plan, "settle", lambda *w, **o: (calls.append(o["max_time"]), real(*w, **o))[1])
    records = [do(setting, setting.run(f"flat/s{s}")) for s in (1, 2)]
    assert calls == [3.0]
    assert records[0].training.steps == records[1].training.steps >= 24
    assert records[0].recipe.hash == records[1].recipe.hash
    facts = json.loads((setting.folder.row("flat") / "plan.json").read_text())
    assert facts["recipe"]["schedule"]["steps"] == records[0].training.steps
    assert not (setting.folder.row("flat") / "measuring").exists()


# ---- what is refused ---------------------------------------------------------------------------


def test_a_study_that_cannot_serve_the_suite(study, suite_file):
    study.set_role("test", "unlabelled")
    with pytest.raises(
        ConfigError, match=r"needs a labelled volume of role test \(it has a column\), found none"
    ):
        plan(study, BenchmarkRequest(str(suite_file)))
    study.set_role("eval", "test")
    with pytest.raises(
        ConfigError, match=r"role eval \(checkpoints and members of ensembles are chosen there\)"
    ):
        plan(study, BenchmarkRequest(str(suite_file)))
    study.set_role("train", "unlabelled")
    with pytest.raises(ConfigError, match="needs volumes of role train to learn from"):
        plan(study, BenchmarkRequest(str(suite_file)))


def test_wrong_words(study, suite_file):
    with pytest.raises(NotFoundError, match=r"the suite has no row 'flta'. Did you mean 'flat'\?"):
        pending(plan(study, BenchmarkRequest(str(suite_file))), ("flta",))
    with pytest.raises(InputError, match="--max-time soon: expected a time such as 90s"):
        plan(study, BenchmarkRequest(str(suite_file), max_time="soon"))
    with pytest.raises(ConfigError, match="--replicates 1: row 'pair': an ensemble of k = 2 needs"):
        plan(study, BenchmarkRequest(str(suite_file), replicates=1))
    setting = begin(study, suite_file)
    with pytest.raises(NotFoundError, match=r"benchmark tiny: no run 'flat/s7'. Did you mean 'flat/s"):
        setting.run("flat/s7")


def test_planning_writes_nothing(study, suite_file):
    plan(study, BenchmarkRequest(str(suite_file)))
    assert not (study.folder / "benchmarks").exists()


def test_a_column_that_the_classes_cannot_serve(study, suite_file):
    text = study.path.read_text()
    study.path.write_text(text.replace("background = true\n", ""))
    with pytest.raises(ConfigError) as caught:
        plan(study, BenchmarkRequest(str(suite_file)))
    assert (
        "column 'test MIoU over organelles' is scored by the protocol cells, which needs a background class and "
        'organelles; give it an  otherwise = "labelled"'
    ) in str(caught.value)
    suite_file.write_text(
        suite_file.read_text().replace('protocol = "cells"', 'protocol = "cells"\notherwise = "labelled"')
    )
    setting = plan(study, BenchmarkRequest(str(suite_file)))
    assert setting.suite.columns[1].protocol == "labelled"
    assert setting.protocols == ("labelled",)


def test_classes_without_organelles_keep_their_test_column(study, suite_file):
    study.path.write_text(study.path.read_text().replace("organelle = true\n", ""))
    text = suite_file.read_text().replace('protocol = "cells"', 'protocol = "cells"\notherwise = "labelled"')
    suite_file.write_text(text)
    setting = begin(Study.open(study.folder), suite_file)
    record = do(setting, setting.run("flat/s1"))
    table = gather(setting.folder)
    assert [c.title for c in table.headlines] == [
        "eval MIoU", "test MIoU over organelles (no organelles marked: all classes)",
    ]  # fmt: skip
    run = next(r for row in table.rows for r in row.runs if r.name == "flat/s1")
    assert run.values[table.headline[1]] == record.metric("test", "labelled", "miou") is not None


def test_a_run_whose_benchmark_has_ended_does_not_begin(monkeypatch):
    from densem.experiments import child

    monkeypatch.setenv(child.PARENT, "1000000000")
    monkeypatch.setattr(child.ctypes, "CDLL", lambda name: None)
    with pytest.raises(ResourceError, match="the benchmark that started this run has ended; start it again"):
        child.follow_parent()


@pytest.mark.parametrize(
    ("code", "said"),
    [(-15, "its process was ended by SIGTERM"), (3, "its process ended with exit code 3 and no record")],
)
def test_how_a_process_ended(code, said):
    from densem.experiments.child import _ended

    assert _ended(code) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(89, "89 s"), (700, "12 min"), (11_100, "3 h 05 min"), (180_000, "2 d 2 h")]
)
def test_times_in_words(seconds, said):
    from densem.experiments.expected_time import duration

    assert duration(seconds) == said
