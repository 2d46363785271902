"""Width: the widest network that gets enough steps."""

import logging

import pytest
import torch

from densem.sampling import ErrorWeights, PatchSampler, TrainingSet
from densem.training import Recipe, width
from densem.training.runtime import Runtime

SECONDS = {4: 0.01, 8: 0.04, 16: 0.3, 32: 2.0}


@pytest.fixture
def auto(table):
    table["network"]["config"]["filters"] = "auto"
    table["auto"] = {"filters": [4, 8, 16, 32], "steps": 100}
    return Recipe.from_table(table, "toy")


@pytest.mark.parametrize(
    ("budget", "filters"), [(0.5, 4), (3.0, 4), (5.0, 8), (31.0, 16), (150.0, 16), (900.0, 32)]
)
def test_the_widest_with_enough_steps_is_taken(auto, monkeypatch, caplog, budget, filters):
    tried = []

    def step_seconds(recipe, sampler, runtime):
        tried.append(recipe.network.config["filters"])
        return SECONDS[tried[-1]]

    monkeypatch.setattr(width, "step_seconds", step_seconds)
    with caplog.at_level(logging.INFO):
        decided = width.decide(auto, None, budget, Runtime(torch.device("cpu"), False))
    assert decided.network.config["filters"] == filters
    assert len(tried) <= 4
    assert f"the network gets {filters} filters and patches of" in caplog.text


@pytest.mark.parametrize(
    ("budget", "shape"),
    [
        (1.0, (3, 160, 192)),  # 100 of 100 steps of the narrowest: as the recipe has it
        (
            0.5,
            (3, 96, 128),
        ),  # half as many: sides by the square root of a half, 113 and 135, to multiples of 32
        (0.1, (3, 96, 96)),  # not below the limit
        (450.0, (3, 224, 256)),  # 225 steps of the widest: sides by 1.5, 240 and 288, not above the limit
    ],
)
def test_patches_follow_where_the_width_cannot(auto, monkeypatch, budget, shape):
    monkeypatch.setattr(width, "step_seconds", lambda recipe, *_: SECONDS[recipe.network.config["filters"]])
    monkeypatch.setattr(width.time, "monotonic", lambda: 0.0)
    patches = auto.patches.model_copy(update={"shapes": ((3, 160, 192),)})
    recipe = auto.model_copy(update={"patches": patches})
    decided = width.decide(recipe, None, budget, Runtime(torch.device("cpu"), False))
    assert decided.patches.shapes == (shape,)


def test_a_step_is_timed(auto, volume, schema):
    data = TrainingSet.prepare([volume], schema, ErrorWeights(), None)
    sampler = PatchSampler(auto.patches, data, 0, auto.augmentation)
    cpu = Runtime(torch.device("cpu"), False)
    narrow, wide = (width.step_seconds(auto.with_filters(f), sampler, cpu) for f in (2, 40))
    assert 0 < narrow < wide
