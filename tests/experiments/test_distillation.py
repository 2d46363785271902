import json

import numpy as np
import pytest
from tiny_suite import struck_while_predicting

from densem.errors import ConfigError, IntegrityError, SchemaError
from densem.experiments.benchmark import BenchmarkRequest, do, pending, plan, run_all, state
from densem.model import Ensemble, Model
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.distillation import DistilRequest, best_start, distil, taught, unlabelled
from densem.study.training import labelled
from densem.training import Recipe

PUPIL = """
[[rows]]
slug = "pupil"
title = "Distilled"
kind = "distilled"
of = "pair"
soft = 0.8
temperature = 2.0
"""


@pytest.fixture
def with_pupil(study, suite_file, monkeypatch):
    """A finished benchmark with a pupil, its volumes and the names of what taught it."""
    from densem.experiments import distillation
    from densem.study.manifest import locked

    with locked(study.path) as manifest:
        extra = manifest.volumes["test"].model_copy(update={"role": "unlabelled"})
        manifest.volumes["more"] = extra.model_copy(
            update={"image": manifest.volumes["eval"].image, "semantic": None}
        )
    suite_file.write_text(suite_file.read_text() + PUPIL)
    setting = plan(study, BenchmarkRequest(str(suite_file)))
    setting.write()
    seen = []
    real = distillation.train
    monkeypatch.setattr(distillation, "train", lambda *w, **o: (seen.extend(w[1]), real(*w, **o))[1])
    run_all(setting, pending(setting, ("pupil",)), do, lambda line: None)
    return setting, seen


def test_a_distilled_row_is_trained_in_as_many_steps_as_its_teachers(study, suite_file, monkeypatch):
    from densem.experiments import row_plan

    suite_file.write_text(suite_file.read_text() + PUPIL)
    setting = plan(study, BenchmarkRequest(str(suite_file), max_time="1m"))
    recipe = row_plan.row_recipe(setting, setting.suite.row("mixed"))
    found = recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"steps": 77})})
    measured = []
    monkeypatch.setattr(row_plan, "settle", lambda *w, **o: (measured.append(1), found)[1])
    pupil = row_plan.recipe_of(setting, setting.suite.row("pupil"))
    assert pupil.schedule.steps == 77
    assert (pupil.loss.soft, pupil.loss.temperature) == (0.8, 2.0)
    assert len(measured) == 1
    assert row_plan.planned(setting, setting.suite.row("mixed")).schedule.steps == 77


@pytest.mark.parametrize(
    ("budget", "steps", "filters"), [("steps = 33", 33, ["auto"]), ('max_time = "2m"', 155, ["auto", 6])]
)
def test_a_budget_of_its_own_changes_the_steps_of_a_distilled_row_alone(
    study, suite_file, monkeypatch, budget, steps, filters
):
    from densem.experiments import row_plan

    mixed = suite_file.with_name("mixed.toml")
    mixed.write_text(mixed.read_text().replace("filters = 2", 'filters = "auto"'))
    suite_file.write_text(
        suite_file.read_text().replace("{ steps = 6 }", '{ max_time = "1m" }')
        + PUPIL
        + f"budget = {{ {budget} }}\n"
    )
    setting = plan(study, BenchmarkRequest(str(suite_file)))
    given = []

    def settle(recipe, *words, max_time, **options):
        given.append(recipe.network.config["filters"])
        decided = recipe.with_filters(6) if recipe.is_auto else recipe
        schedule = decided.schedule.model_copy(update={"steps": {60: 77, 120: 155}[max_time]})
        return decided.model_copy(update={"schedule": schedule})

    monkeypatch.setattr(row_plan, "settle", settle)
    pupil = row_plan.recipe_of(setting, setting.suite.row("pupil"))
    member = row_plan.planned(setting, setting.suite.row("mixed"))
    assert given == filters
    assert (member.schedule.steps, pupil.schedule.steps) == (77, steps)
    assert pupil.network == member.network
    assert pupil.patches == member.patches


def test_a_distilled_row(with_pupil):
    setting, seen = with_pupil
    record = setting.record(setting.run("pupil/s1"))
    assert record.done, record.error
    ensemble, member = setting.record(setting.run("pair")), setting.record(setting.run("mixed/s1"))
    assert record.members == ensemble.members
    assert record.network.parameters == member.network.parameters == ensemble.network.parameters / 2
    place = setting.place(setting.run("pupil/s1"))
    loss = Model.load(place / "model").training["recipe"]["loss"]
    assert (loss["soft"], loss["temperature"]) == (0.8, 2.0)
    assert {v.name for v in seen} == {"train", "more"}
    assert all(
        v.soft.id.split()[0]
        == Ensemble([Model.load(setting.place(setting.run(m)) / "model") for m in record.members]).id
        for v in seen
    )
    more = next(v for v in seen if v.name == "more")
    assert (more.labels.read() == 255).all()
    assert not (place / "targets").exists()
    assert Model.load(place / "model").training["start"]["name"] in ("mixed-s1", "mixed-s2")
    assert setting.record(setting.run("pupil/s1")).results.keys() == {"eval", "test"}
    _targets_are_the_mean(setting, record, place)
    _on_the_command_line(setting, record)


def _targets_are_the_mean(setting, record, place):
    """What the pupil is taught is the mean of the members' probabilities, whatever was begun before."""
    from densem.inference import PredictOptions, predict_box

    members = [Model.load(setting.place(setting.run(m)) / "model") for m in record.members]
    one = labelled(setting.study, "train")
    with struck_while_predicting():
        taught(Ensemble(members[:1]), [one], place / "again")
    found = taught(Ensemble(members), [one], place / "again")[0].soft.held().probabilities
    each = [predict_box(m, one.image, None, PredictOptions(runtime="torch")) for m in members]
    assert np.abs(found / 255 - np.mean(each, axis=0)).max() < 0.02
    assert np.array_equal(found.argmax(0), found.argmax(0))


def _on_the_command_line(setting, record):
    folders = tuple(str(setting.place(setting.run(m)) / "model") for m in record.members)
    study = Study.open(setting.study.folder)
    request = DistilRequest(
        ensemble=folders, unlabelled=("more",), start="random", overrides=("optimizer.lr=0.02",)
    )
    lines = list(distil(study, request))
    assert lines[:2] == ["The ensemble of 2 labels train, more.", "Training distilled-1 on what it says."]
    assert study.manifest.models["distilled-1"].trained_on.keys() == {"train", "more"}
    training = study.model("distilled-1").training
    assert (training["steps"], training["recipe"]["optimizer"]["lr"]) == (6, 0.02)
    assert "start" not in training
    assert not (study.run_folder("distilled-1") / "targets").exists()


def test_what_must_not_teach(study):
    with pytest.raises(
        ConfigError,
        match=r"volume 'test' has role test: a network that has seen it could no longer be judged",
    ):
        unlabelled(study, "test")
    with pytest.raises(ConfigError, match="give --ensemble MODEL, repeated for every member"):
        list(distil(study, DistilRequest(ensemble=())))


def test_it_begins_with_the_best_member_that_is_the_same_network(with_pupil, caplog):
    from densem.experiments import distillation

    setting, _ = with_pupil
    caplog.clear()
    members = [Model.load(setting.place(setting.run(f"mixed/s{s}")) / "model") for s in (1, 2)]
    same = Recipe.of_model(members[0].training, "mixed")
    wider = same.with_filters(4)
    for scores, expected in (((0.4, 0.3), 0), ((0.3, 0.4), 1)):
        for member, score in zip(members, scores, strict=True):
            member.training["eval_miou"] = score
        assert best_start(Ensemble(members), same) is members[expected]
        assert best_start(Ensemble(members), wider) is None
    run = setting.run("pupil/s1")
    assert distillation._start(run, Ensemble(members), same) is members[1]
    assert not caplog.records
    assert distillation._start(run, Ensemble(members), wider) is None
    assert caplog.messages == [
        "pupil/s1: no member of ensemble pair is the network to be trained: it begins with random weights"
    ]


def test_a_pupil_of_other_teachers_than_its_ensemble_has_is_trained_anew(with_pupil):
    setting, _ = with_pupil
    assert pending(setting, ("pupil",)) == []
    ensemble = setting.record(setting.run("pair"))
    other = ensemble.model_copy(update={"members": ensemble.members[::-1]})
    other.write(setting.place(setting.run("pair")))
    assert [r.name for r in pending(setting, ("pupil",))] == ["pupil/s1"]
    assert state(setting, setting.run("pupil/s1")) == "done, to be distilled anew"


def test_fewer_replicates_later_leave_a_pupil_its_teachers(with_pupil):
    from dataclasses import replace

    from densem.experiments.distillation import teachers

    setting, _ = with_pupil
    rows = tuple(row.model_copy(update={"k": 1}) if row.slug == "pair" else row for row in setting.suite.rows)
    suite = setting.suite.model_copy(update={"rows": rows}).with_replicates(1)
    fewer = replace(setting, suite=suite)
    assert pending(fewer, ("pupil",)) == []
    assert {t.name for t in teachers(fewer, fewer.run("pupil/s1"))} == {"mixed/s1", "mixed/s2"}


def test_unlabelled_volumes_are_part_of_the_plan(with_pupil):
    from densem.experiments import row_plan

    setting, _ = with_pupil
    row = setting.suite.row("pupil")
    assert row_plan.unlabelled_names(setting, row) == ["more"]
    without = row.model_copy(update={"unlabelled": False})
    assert row_plan.unlabelled_names(setting, without) == []
    with pytest.raises(IntegrityError, match=r"row 'pupil' was begun with unlabelled volumes \{\"more\": "):
        row_plan.planned(setting, without)
    path = setting.folder.row("pupil") / "plan.json"
    facts = json.loads(path.read_text())
    del facts["asked"]["unlabelled volumes"]
    path.write_text(json.dumps(facts))
    assert row_plan.planned(setting, without) is not None
    with pytest.raises(IntegrityError, match=r"row 'pupil' was begun with unlabelled volumes \{\}"):
        row_plan.planned(setting, row)


def test_a_row_that_was_begun_otherwise_is_refused(with_pupil):
    from densem.experiments import row_plan

    setting, _ = with_pupil
    row = setting.suite.row("pupil")
    assert row_plan.planned(setting, row) is not None
    with pytest.raises(IntegrityError, match=r"row 'pupil' was begun with start"):
        row_plan.planned(setting, row.model_copy(update={"start": "random"}))


def test_an_ensemble_of_other_classes_is_refused(with_pupil, tmp_path):
    setting, _ = with_pupil
    folder = str(setting.place(setting.run("mixed/s1")) / "model")
    names = list(reversed(setting.study.schema.names))
    other = Study.create(tmp_path / "other", LabelSchema.from_names(names))
    with pytest.raises(
        SchemaError, match=r"study other: expected an ensemble of its classes, .*; distil it in"
    ):
        list(distil(other, DistilRequest(ensemble=(folder,))))
