"""Recipes: packaged ones load and build; what is wrong is said."""

import pytest
import torch

from densem.errors import ConfigError, NotFoundError
from densem.networks import ARCHITECTURES
from densem.training import Recipe
from densem.training.losses import Batch
from densem.training.module import TrainingModule
from densem.training.recipe import keys, names


@pytest.mark.parametrize("name", names())
def test_packaged_recipes_load_build_and_survive_writing(name, tmp_path):
    recipe = Recipe.load(name)
    assert recipe.description
    network = recipe.planned((40.0, 10.0, 10.0)).with_filters(2).build_network(3)
    assert all(z % network.geometry.multiple[0] == 0 for z, _, _ in recipe.patches.shapes)
    assert all(y % network.geometry.multiple[1] == 0 for _, y, _ in recipe.patches.shapes)
    assert all(x % network.geometry.multiple[2] == 0 for _, _, x in recipe.patches.shapes)
    path = tmp_path / "again.toml"
    path.write_text(recipe.to_toml())
    assert Recipe.load(path) == recipe


def test_the_recipes_of_the_house_are_there():
    assert {
        "default", "demo", "hybrid-2d3d-333", "hybrid-2d3d", "hybrid-2d3d-no-333", "hybrid-2d3d-no-auxiliary",
        "hybrid-2d3d-no-pyramid", "unet-2d", "unet-2d-16", "unet-anisotropic",
    } <= set(names())  # fmt: skip


def test_every_architecture_but_the_plain_2d_part_has_a_recipe():
    made = {Recipe.load(name).network.architecture for name in names()}
    assert set(ARCHITECTURES) - made == {"hybrid-2d"}


@pytest.mark.parametrize("name", [n for n in names() if n not in ("default", "demo")])
def test_packaged_recipes_train(name):
    """Two steps of a narrow network on patches as small as it takes: everything is reached and changes."""
    recipe = Recipe.load(name).planned((40.0, 10.0, 10.0)).with_filters(2)
    torch.manual_seed(1)
    module = TrainingModule(recipe.build_network(3), recipe)
    z, y, x = module.network.geometry.multiple
    shape = (z if z > 1 else 2, max(32, y), max(32, 2 * x)) if name != "unet-2d-valid" else (1, 208, 208)
    before = [p.detach().clone() for p in module.parameters()]
    for step in range(2):
        image = torch.randn(2, 1, *shape)
        batch = Batch(image, (image[:, 0] > 0).to(torch.uint8) + (image[:, 0] > 1), torch.ones(2, *shape))
        loss = module.training_step(batch, step)
        assert torch.isfinite(loss)
        module.optimizer.zero_grad()
        loss.backward()
        module.optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]
    assert sum(changed) >= 0.9 * len(changed)


def test_a_network_that_plans_itself_is_planned_once():
    recipe = Recipe.load("resenc-unet")
    assert recipe.is_unplanned
    planned = recipe.planned((40.0, 10.0, 10.0))
    assert not planned.is_unplanned
    assert planned.network.config["strides"] == [
        [1, 1, 1],
        [1, 2, 2],
        [1, 2, 2],
        [2, 2, 2],
        [1, 2, 2],
        [1, 2, 2],
    ]
    assert planned.planned((8.0, 8.0, 8.0)) == planned
    assert Recipe.load("unet-3d").planned((8.0, 8.0, 8.0)) == Recipe.load("unet-3d")


def test_overrides_are_typed():
    recipe = Recipe.load(
        "default",
        ["optimizer.lr=0.5", "patches.shapes=[[1,16,32]]", "optimizer.name=adam", "network.config.filters=4"],
    )
    assert recipe.optimizer.lr == 0.5
    assert recipe.patches.shapes == ((1, 16, 32),)
    assert recipe.optimizer.name == "adam"
    assert recipe.network.config["filters"] == 4
    assert not recipe.is_auto
    assert (
        Recipe.load("default", ["augmentation.blur.probability=0.25"]).augmentation.blur.probability == 0.25
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", r"no key 'optimizer.lrr'. Did you mean 'optimizer.lr'\?"),
        ("lr=1", r"no key 'lr'. Did you mean 'optimizer.lr'\?"),
        ("schedul.steps=1", r"no key 'schedul'. Did you mean 'schedule'\?"),
        ("augmentation.blur.often=1", r"no key 'augmentation.blur.often'"),
        (
            "network.config.filter=8",
            r"no key 'network.config.filter'. Did you mean 'network.config.filters'\?",
        ),
        ("network.config.n_classes=8", "follows from the label schema"),
        ("network.config.filters=-3", "filters"),
        ("network.architecture=hybrid", r"no network is called 'hybrid'. Did you mean"),
        ("optimizer.lr=fast", r"optimizer.lr: Input should be a valid number.* found 'fast'"),
        ("patches.shapes=[[0,8,8]]", "sides of a patch must be at least 1 voxel"),
        ("optimizer.lr", r"--set optimizer.lr: expected section.key=value"),
        ("optimizer.lr.x=1", r"no key 'optimizer.lr.x'"),
    ],
)
def test_wrong_entries_are_refused(override, message):
    base = ["optimizer.lr=0.1"]
    with pytest.raises(ConfigError, match=message):
        Recipe.load("default", [*base, override])


def test_unknown_recipes_are_refused(tmp_path):
    with pytest.raises(NotFoundError, match=r"recipe 'defautl': neither .* Did you mean 'default'"):
        Recipe.load("defautl")
    with pytest.raises(NotFoundError, match=r"mine.toml: no recipe file there"):
        Recipe.load(tmp_path / "mine.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[network")
    with pytest.raises(ConfigError, match=r"broken.toml: not a TOML file"):
        Recipe.load(broken)


def test_every_key_has_a_sentence():
    assert all(keys().values())
    assert {"optimizer.lr", "augmentation.elastic.strength", "patches.shapes", "loss.boundary"} <= set(keys())
