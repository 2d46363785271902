"""Training runs on a toy: learning, resuming, restarting, keeping to a budget."""

import logging
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from densem.errors import CollapseError, ConfigError, IntegrityError, VoxelSizeError
from densem.sampling import LabelledVolume, normalize
from densem.training import Recipe, loop, metrics, module, train
from densem.volumes import Volume


def score(model, volume):
    """Mean IoU of the toy's two classes, on a part that fits the network."""
    image = normalize(volume.image.read(), volume.intensity)[None, None, :, :48, :72]
    with torch.inference_mode():
        found = model.network(torch.from_numpy(image))["semantic"][0].argmax(0).numpy()
    truth = volume.labels.read()[:, :48, :72]
    ious = [
        ((found == c) & (truth == c)).sum() / (((found == c) | (truth == c)) & (truth != 255)).sum()
        for c in (0, 1)
    ]
    return {"miou": float(np.mean(ious)), "predicted": {c: int((found == c).sum()) for c in (0, 1)}}


def weights_of(result):
    return result.model.network.state_dict()


def equal(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns_and_says_what_it_did(recipe, volume, schema, tmp_path):
    result = train(recipe, [volume], schema, tmp_path, validate=lambda m: score(m, volume), name="toy")
    assert result.score > 0.8
    assert result.steps == 30
    assert result.restarts == 0
    assert score(result.model, volume)["miou"] > 0.8
    assert result.model.training["best_step"] == result.best_step
    assert result.model.voxel_size_nm == (40, 10, 10)
    rows = metrics.read(tmp_path)
    assert [r["step"] for r in rows if "loss" in r] == [10, 20, 30]
    assert [r["step"] for r in rows if "eval/miou" in r] == [10, 20, 30]
    assert {"lr", "kvox_s", "time"} <= rows[0].keys()
    assert Recipe.load(tmp_path / "recipe.toml") == recipe
    assert list((tmp_path / "tensorboard").iterdir())


def test_without_an_eval_volume_the_last_weights_are_taken(recipe, volume, schema, tmp_path):
    result = train(recipe, [volume], schema, tmp_path)
    assert result.score is None
    assert result.best_step == 30


def test_the_same_seed_gives_the_same_weights_and_another_does_not(recipe, volume, schema, tmp_path):
    runs = [train(recipe, [volume], schema, tmp_path / str(i), seed=s) for i, s in enumerate((1, 1, 2))]
    assert equal(weights_of(runs[0]), weights_of(runs[1]))
    assert not equal(weights_of(runs[0]), weights_of(runs[2]))


def test_a_finished_run_is_not_run_again(recipe, volume, schema, tmp_path):
    first = train(recipe, [volume], schema, tmp_path, validate=lambda m: score(m, volume))
    calls = []
    again = train(recipe, [volume], schema, tmp_path, validate=lambda m: calls.append(m))
    assert equal(weights_of(first), weights_of(again))
    assert again.score == first.score
    assert not calls


# ---- interruption: another process that sends itself a signal at some step ----


def resumable(folder, recipe, volume, schema):
    return train(
        recipe, [volume], schema, folder, validate=lambda m: {"miou": 0.5, "predicted": {0: 1, 1: 1}}
    )


CHILD = """
import os, pickle, signal, sys, torch
with open(sys.argv[1], "rb") as file:
    step, number, threads, arguments = pickle.load(file)
torch.set_num_threads(threads)
from densem.training import loop, train
usual = loop.Loop.on_train_batch_end
def deadly(self, *args):
    usual(self, *args)
    if self.state.step == step:
        os.kill(os.getpid(), number)
loop.Loop.on_train_batch_end = deadly
folder, recipe, volume, schema = arguments
try:
    train(recipe, [volume], schema, folder, validate=lambda m: {"miou": 0.5, "predicted": {0: 1, 1: 1}})
except KeyboardInterrupt as interruption:
    print(interruption)
    sys.exit(130)
"""


def die_at(step, number, arguments, folder):
    """Exit code of a training in a process of its own that is sent a signal at a step; its last words."""
    given = folder / "given.pickle"
    given.write_bytes(pickle.dumps((step, number, torch.get_num_threads(), arguments)))
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(given)], capture_output=True, text=True, timeout=600, check=False
    )
    return child.returncode, child.stdout.strip().rpartition("\n")[2]


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory, toy):
    folder = tmp_path_factory.mktemp("whole")
    return weights_of(resumable(folder, toy.recipe, toy.volume, toy.schema)), metrics.read(folder)


@pytest.mark.parametrize("signals", [
    [(7, signal.SIGINT)],
    [(22, signal.SIGTERM)],
    [(15, signal.SIGKILL), (31, signal.SIGINT), (35, signal.SIGKILL)],
])  # fmt: skip
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, toy, uninterrupted, signals):
    arguments = (tmp_path / "run", toy.recipe, toy.volume, toy.schema)
    for step, number in signals:
        code, words = die_at(step, number, arguments, tmp_path)
        if number == signal.SIGKILL:
            assert code == -9
        else:
            assert code == 130
            assert words.startswith(f"stopped at step {step + 1}; the same command goes on from there")
    expected, rows = uninterrupted
    assert equal(weights_of(resumable(*arguments)), expected)
    assert [r["step"] for r in metrics.read(arguments[0])] == [r["step"] for r in rows]


def test_a_changed_run_is_refused(recipe, table, volume, schema, tmp_path):
    train(recipe, [volume], schema, tmp_path)
    table["optimizer"]["lr"] = 0.05
    changed = Recipe.from_table(table, "toy")
    with pytest.raises(
        IntegrityError, match=r"other settings \(recipe.optimizer.lr: 0.02 -> 0.05\); give the same"
    ):
        train(changed, [volume], schema, tmp_path)
    image = Volume(255 - volume.image.read(), (40, 10, 10), attributes=volume.image.attributes)
    other = LabelledVolume(image, volume.labels, "toy")
    with pytest.raises(IntegrityError, match=r"volumes.toy.image"):
        train(recipe, [other], schema, tmp_path)
    assert train(changed, [volume], schema, tmp_path, resume=False).steps == 30


def test_a_collapsed_run_starts_again_with_another_seed(recipe, volume, schema, tmp_path, caplog):
    answers = iter([{0: 100, 1: 0}, {0: 0, 1: 9}])

    def validate(model):
        return {"miou": 0.5, "predicted": next(answers, {0: 50, 1: 50})}

    with caplog.at_level(logging.WARNING):
        result = train(recipe, [volume], schema, tmp_path, validate=validate)
    assert result.restarts == 2
    assert "only class 0 is predicted on the eval volume after 10 steps" in caplog.text
    assert "starting again with seed" in caplog.text
    records = result.model.training["restarts"]
    assert len({0, *(r["seed"] for r in records)}) == 2
    assert [r["step"] for r in records] == [10, 10]
    assert sum(r.get("event") == "restarted" for r in metrics.read(tmp_path)) == 2


def test_a_run_that_collapses_in_every_attempt_is_refused(table, volume, schema, tmp_path):
    table["schedule"]["restarts"] = 1
    recipe = Recipe.from_table(table, "toy")
    with pytest.raises(
        CollapseError,
        match=r"only class 0 is predicted on the eval volume after 10 steps, in 2 attempts with different seeds; lower optimizer.lr",
    ):
        train(recipe, [volume], schema, tmp_path, validate=lambda m: {"miou": 0.1, "predicted": {0: 7, 1: 0}})


def test_a_single_attempt_that_collapses_is_called_one(table, volume, schema, tmp_path):
    table["schedule"]["restarts"] = 0
    with pytest.raises(CollapseError, match=r"after 10 steps, in 1 attempt; lower optimizer.lr"):
        train(
            Recipe.from_table(table, "toy"), [volume], schema, tmp_path,
            validate=lambda m: {"miou": 0.1, "predicted": {0: 7, 1: 0}},
        )  # fmt: skip


def test_one_class_in_truth_and_prediction_is_no_collapse(recipe, volume, schema, tmp_path):
    scores = {"miou": 1.0, "predicted": {0: 7, 1: 0}, "true": {0: 7, 1: 0}}
    assert train(recipe, [volume], schema, tmp_path, validate=lambda m: scores).restarts == 0


def test_a_loss_that_is_no_number_restarts_and_then_gives_up(table, volume, schema, tmp_path):
    table["schedule"]["restarts"] = 1
    table["optimizer"] |= {"lr": 1e30, "clip": 0.0, "name": "adam"}
    with pytest.raises(
        CollapseError, match=r"the loss is no number at step \d+, in 2 attempts .* lower optimizer.lr"
    ):
        train(Recipe.from_table(table, "toy"), [volume], schema, tmp_path)


def test_a_time_budget_is_kept(recipe, volume, schema, tmp_path, caplog, monkeypatch):
    usual = module.TrainingModule.training_step

    def slow(self, batch, batch_idx):
        time.sleep(0.03)
        return usual(self, batch, batch_idx)

    monkeypatch.setattr(module.TrainingModule, "training_step", slow)
    with caplog.at_level(logging.INFO):
        result = train(recipe, [volume], schema, tmp_path, validate=lambda m: score(m, volume), max_time=4.0)
    assert result.steps > 23
    assert 0.8 * 4 < result.seconds < 1.2 * 4
    assert f"{result.steps} steps of" in caplog.text
    rows = metrics.read(tmp_path)
    assert rows[-1]["step"] == result.steps
    assert rows[-1]["time"] == pytest.approx(result.seconds, abs=0.01)


def test_a_budget_too_short_for_any_training_is_said(recipe, volume, schema, tmp_path, caplog):
    result = train(recipe, [volume], schema, tmp_path, validate=lambda m: score(m, volume), max_time=0.01)
    assert result.steps == 24
    assert "is too short to train anything: the measured steps alone took" in caplog.text


def test_a_width_left_open_is_decided_and_kept(table, volume, schema, tmp_path, caplog):
    table["network"]["config"]["filters"] = "auto"
    table["auto"] = {"filters": [2, 4], "steps": 40, "otherwise": 3}
    with caplog.at_level(logging.INFO):
        result = train(Recipe.from_table(table, "toy"), [volume], schema, tmp_path)
    assert result.model.network.config.filters == 3
    assert "no time budget: the network gets 3 filters" in caplog.text
    assert Recipe.load(tmp_path / "recipe.toml").network.config["filters"] == 3


def test_frozen_statistics_stay_fixed_at_the_end(table, volume, schema, tmp_path):
    table["schedule"]["frozen"] = 0.5
    first = train(Recipe.from_table(table, "toy"), [volume], schema, tmp_path / "a")
    table["schedule"]["frozen"] = 0.0
    second = train(Recipe.from_table(table, "toy"), [volume], schema, tmp_path / "b")
    assert not equal(weights_of(first), weights_of(second))


def test_fixed_statistics_are_those_of_the_finished_model(table, volume, schema, tmp_path, monkeypatch):
    table["schedule"] |= {"frozen": 0.5, "validations": 2}
    seen = []
    usual = loop.freeze_statistics

    def spy(network):
        seen.append({k: v.clone() for k, v in network.state_dict().items() if "running" in k})
        usual(network)

    monkeypatch.setattr(loop, "freeze_statistics", spy)
    result = train(
        Recipe.from_table(table, "toy"), [volume], schema, tmp_path, validate=lambda m: score(m, volume)
    )
    assert len(seen) == 15
    assert result.best_step > 15
    found = result.model.network.state_dict()
    assert all(torch.equal(found[k], seen[0][k]) for k in seen[0])
    assert any("running_mean" in k for k in seen[0])


def test_the_model_can_be_given_a_measured_tile(recipe, volume, schema, tmp_path):
    def measure(model):
        return model.tile.model_copy(update={"practical": (0, 2, 2)})

    assert train(recipe, [volume], schema, tmp_path, measure=measure).model.tile.practical == (0, 2, 2)


def test_patches_that_do_not_fit_the_network_are_refused(table, volume, schema, tmp_path):
    table["patches"]["shapes"] = [[2, 15, 16]]
    with pytest.raises(
        ConfigError, match=r"patches.shapes: .* multiples of \(1, 2, 2\).*found \(2, 15, 16\)"
    ):
        train(Recipe.from_table(table, "toy"), [volume], schema, tmp_path)


def test_volumes_of_two_voxel_sizes_are_refused(recipe, volume, schema, tmp_path):
    other = LabelledVolume(
        Volume(volume.image.array, (80.0, 10.0, 10.0), attributes=volume.image.attributes),
        volume.labels,
        "thick",
    )
    with pytest.raises(VoxelSizeError, match=r"thick: training volumes must have one voxel size within 10 %"):
        train(recipe, [volume, other], schema, tmp_path)


def test_nothing_is_said_by_others(recipe, volume, schema, tmp_path, capfd):
    train(recipe, [volume], schema, tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
