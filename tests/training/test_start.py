"""A run that begins with a trained model instead of random weights."""

import copy
from dataclasses import replace

import pytest
import torch

from densem.errors import ConfigError, IntegrityError, SchemaError, VoxelSizeError
from densem.model import AffinityHead
from densem.schema import LabelSchema
from densem.training import Recipe, begun_with, metrics, train

STILL = ("optimizer.lr=1e-30", "optimizer.weight_decay=0", "schedule.ema=0", "schedule.steps=2")


@pytest.fixture(scope="module")
def first(toy, tmp_path_factory):
    """A trained model of two filters."""
    short = toy.recipe.model_copy(update={"schedule": toy.recipe.schedule.model_copy(update={"steps": 5})})
    return train(short, [toy.volume], toy.schema, tmp_path_factory.mktemp("first"), progress=False).model


def kernels(model):
    return {k: v for k, v in model.network.state_dict().items() if v.ndim > 1}


def as_trained(first, *overrides):
    return Recipe.of_model(first.training, first.name, overrides)


def test_weights_are_those_of_the_model_and_not_those_of_the_seed(toy, first, tmp_path):
    recipe = as_trained(first, *STILL)
    begun = train(recipe, [toy.volume], toy.schema, tmp_path / "a", seed=3, start=first).model
    anew = train(recipe, [toy.volume], toy.schema, tmp_path / "b", seed=3).model
    mine, theirs, random = kernels(begun), kernels(first), kernels(anew)
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
    assert not any(torch.equal(random[k], theirs[k]) for k in theirs)
    assert begun.training["start"] == {"name": first.name, "id": first.id}
    assert "start" not in anew.training


def test_it_learns_further(toy, first, tmp_path):
    begun = train(as_trained(first), [toy.volume], toy.schema, tmp_path, start=first).model
    assert begun.training["steps"] == first.training["steps"] == 5
    mine, theirs = kernels(begun), kernels(first)
    assert not any(torch.equal(mine[k], theirs[k]) for k in theirs)


def test_weights_that_training_only_makes_worse_are_kept(toy, first, tmp_path):
    scores = iter([0.8, 0.5, 0.6, 0.7])

    def validate(model):
        return {"miou": next(scores), "predicted": {0: 1, 1: 1}}

    recipe = as_trained(first, "schedule.validations=3", "schedule.steps=6")
    result = train(recipe, [toy.volume], toy.schema, tmp_path, start=first, validate=validate)
    assert (result.best_step, result.score) == (0, 0.8)
    mine, theirs = result.model.network.state_dict(), first.network.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)  # its batch statistics, too
    rows = [r["eval/miou"] for r in metrics.read(tmp_path) if "eval/miou" in r]
    assert rows == [0.8, 0.5, 0.6, 0.7]


def test_a_run_is_resumed_with_the_model_it_began_with(toy, first, tmp_path):
    recipe = as_trained(first, *STILL)
    train(recipe, [toy.volume], toy.schema, tmp_path, start=first)
    train(recipe, [toy.volume], toy.schema, tmp_path, start=first)
    other = copy.deepcopy(first)
    next(other.network.parameters()).data += 1
    with pytest.raises(IntegrityError, match=rf"other settings \(start: '{first.id}' -> '{other.id}'\)"):
        train(recipe, [toy.volume], toy.schema, tmp_path, start=other)


def test_what_the_recipe_leaves_open_is_decided_by_the_model(table, toy, first):
    table["network"]["config"] = {"filters": "auto", "depth": 1}
    decided = begun_with(first, Recipe.from_table(table, "toy"), toy.schema, first.voxel_size_nm)
    assert decided.build_network(2).config == first.network.config
    assert not decided.is_auto


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture", "hybrid-2d", r"expected a recipe for its network, hybrid-2d3d, found one for hybrid-2d;"),
        ("filters", 4, r"expected network.config.filters = 2, as it has, found 4; leave it out, or begin"),
        ("pyramid", [2], r"expected network.config.pyramid = \[1\], as it has, found \[2\]"),
    ],
)  # fmt: skip
def test_another_network_is_refused(table, toy, first, key, value, message):
    section = table["network"] if key == "architecture" else table["network"]["config"]
    section[key] = value
    if value == "hybrid-2d":
        table["network"]["config"]["pyramid"] = []
    with pytest.raises(ConfigError, match=f"beginning with model 'model': {message}"):
        begun_with(first, Recipe.from_table(table, "toy"), toy.schema, first.voxel_size_nm)


def test_affinities_that_it_has_not_learnt_are_refused(table, toy, first):
    table["affinities"] = {"share": 1.0}
    with pytest.raises(ConfigError, match="expected a recipe without affinities, found another"):
        begun_with(first, Recipe.from_table(table, "toy"), toy.schema, first.voxel_size_nm)
    other = replace(first, affinities=AffinityHead(offsets=((0, 0, 1),)))
    with pytest.raises(ConfigError, match="expected a recipe with its affinities, found another"):
        begun_with(other, Recipe.from_table(table, "toy"), toy.schema, first.voxel_size_nm)


def test_other_classes_and_voxels_are_refused(recipe, first, toy):
    turned = LabelSchema.from_names(["bright", "dark"])
    with pytest.raises(
        SchemaError, match="expected the classes dark, bright, which it knows, found bright, da"
    ):
        begun_with(first, recipe, turned, first.voxel_size_nm)
    with pytest.raises(
        VoxelSizeError, match=r"within 10 %, at which it was trained, found \(40.0, 10.0, 12.0\)"
    ):
        begun_with(first, recipe, toy.schema, (40.0, 10.0, 12.0))


def test_a_model_that_does_not_say_how_it_was_trained_has_no_recipe(first):
    said = copy.deepcopy(first.training)
    del said["recipe"]
    with pytest.raises(ConfigError, match="model 'old' does not say how it was trained; give --recipe"):
        Recipe.of_model(said, "old")
