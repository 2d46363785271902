"""Training of networks that plan themselves, begin with published weights, do not pad, or see their whole window."""

import pytest
import torch

from densem.errors import ConfigError, NotFoundError
from densem.training import Recipe, train

STEPS = {"steps": 2, "warmup": 0, "probe_patches": 2, "final_patches": 2, "validations": 0}


def recipe_of(architecture, shape, **network):
    config = {"filters": 2, **network.pop("config", {})}
    table = {
        "network": {"architecture": architecture, "config": config, **network},
        "patches": {"shapes": [shape], "batch": 2, "least_labelled": 0.0},
        "optimizer": {"precision": "float32"},
        "schedule": STEPS,
    }
    return Recipe.from_table(table, "toy")


def test_a_plan_is_made_once_and_stands_in_the_recipe_as_run_and_in_the_model(volume, schema, tmp_path):
    recipe = recipe_of("resenc-unet", (6, 16, 16), config={"strides": "auto"})
    model = train(recipe, [volume], schema, tmp_path, progress=False).model
    strides = ((1, 1, 1), (1, 2, 2), (1, 2, 2))
    assert model.network.config.strides == strides
    assert Recipe.load(tmp_path / "recipe.toml").network.config["strides"] == [list(s) for s in strides]
    again = train(recipe, [volume], schema, tmp_path, progress=False).model
    assert again.network.config == model.network.config


def test_published_weights_are_where_training_begins(volume, schema, tmp_path):
    plain = recipe_of("deeplab-v3plus-18", (1, 32, 32))
    backbone = plain.build_network(2).backbone.state_dict()
    names = {"stem.convolution.": "conv1.", "stem.normalization.": "bn1."}
    weights = {}
    for name, tensor in backbone.items():
        theirs = name
        for ours, published in names.items():
            theirs = theirs.replace(ours, published)
        parts = theirs.split(".")
        if parts[0] == "stages":
            kind = {"convolution": "conv", "normalization": "bn"}
            head = f"layer{int(parts[1]) + 1}.{parts[2]}"
            if parts[3] == "shortcut":
                theirs = f"{head}.downsample.{int(parts[4] == 'normalization')}.{parts[5]}"
            else:
                theirs = f"{head}.{kind[parts[5]]}{int(parts[4]) + 1}.{parts[6]}"
        weights[theirs] = tensor
    torch.save(weights, tmp_path / "r.pth")
    recipe = recipe_of("deeplab-v3plus-18", (1, 32, 32), weights=str(tmp_path / "r.pth"))
    still = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": 1e-12})})
    model = train(still, [volume], schema, tmp_path / "run", progress=False).model
    found = model.network.backbone.state_dict()
    assert torch.allclose(found["stem.convolution.weight"], backbone["stem.convolution.weight"])
    assert model.tile.window == (1, 32, 32)
    assert model.tile.exact is None


@pytest.mark.parametrize("architecture", ["unet-2d-valid", "deepvess"])
def test_other_networks_train(architecture, volume, schema, tmp_path):
    config, shape = {}, (3, 32, 32)
    if architecture == "unet-2d-valid":
        config, shape = {"depth": 1}, (1, 32, 32)
    model = train(
        recipe_of(architecture, shape, config=config), [volume], schema, tmp_path, progress=False
    ).model
    assert model.tile.window is None
    with torch.no_grad():
        assert torch.isfinite(model.network(torch.zeros(1, 1, 3, 32, 32))["semantic"]).all()


def test_what_cannot_be_is_refused_before_anything_is_begun(volume, schema, tmp_path):
    with pytest.raises(ConfigError) as caught:
        train(recipe_of("medicalnet-10", (8, 16, 16)), [volume], schema, tmp_path / "a", progress=False)
    assert str(caught.value) == (
        "patches.shapes: patches of (8, 16, 16) are cut to the 6 slices of toy, and medicalnet-10 needs a multiple "
        "of 8; set a smaller z"
    )
    missing = recipe_of("deeplab-v3plus-18", (1, 32, 32), weights=str(tmp_path / "none.pth"))
    with pytest.raises(NotFoundError, match="no weights there"):
        train(missing, [volume], schema, tmp_path / "b", progress=False)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
