"""A toy that trains in a second: two classes told apart by brightness, and a tiny network."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from densem.sampling import LabelledVolume
from densem.schema import LabelSchema
from densem.training import Recipe
from densem.volumes import Intensity, Volume

TABLE = {
    "network": {
        "architecture": "hybrid-2d3d",
        "config": {"filters": 2, "depth": 1, "convs_per_block": 1, "pyramid": [1], "normalization": "batch"},
    },
    "patches": {"shapes": [[3, 16, 24], [2, 24, 24]], "batch": 2},
    "optimizer": {"lr": 0.02, "precision": "float32"},
    "schedule": {"steps": 30, "warmup": 3, "probe_patches": 3, "final_patches": 4, "validations": 3},
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def schema():
    return LabelSchema.from_names(["dark", "bright"])


@pytest.fixture
def table():
    return copy.deepcopy(TABLE)


@pytest.fixture
def recipe(table):
    return Recipe.from_table(table, "toy")


def toy_volume(seed=0, name="toy"):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (6, 6, 8)).repeat(8, 1).repeat(9, 2).astype(np.uint8)
    image = np.clip(labels * 80 + 90 + rng.normal(0, 15, labels.shape), 0, 255).astype(np.uint8)
    labels[:, :5, :5] = 255
    intensity = Intensity(float(image.mean()), float(image.std()), 0, 255, 0, 255, 1.0)
    voxel_nm = (40.0, 10.0, 10.0)
    record = {"intensity": intensity.to_dict()}
    return LabelledVolume(Volume(image, voxel_nm, attributes=record), Volume(labels, voxel_nm), name)


@pytest.fixture
def volume():
    return toy_volume()


@pytest.fixture(scope="session")
def toy():
    """A somewhat longer run with all that has a state, and checkpoints every few steps."""
    table = copy.deepcopy(TABLE)
    table["schedule"] |= {"steps": 40, "validations": 4, "checkpoint_minutes": 1e-3, "frozen": 0.3}
    names = LabelSchema.from_names(["dark", "bright"])
    return SimpleNamespace(recipe=Recipe.from_table(table, "toy"), volume=toy_volume(), schema=names)
