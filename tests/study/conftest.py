"""Makes `published` importable, and fixtures of a small phantom."""

import sys
from pathlib import Path

import pytest

from densem.datasets.phantom import PhantomConfig, write_phantom

sys.path.insert(0, str(Path(__file__).parent))

SIZE = (40.0, 10.0, 10.0)
TINY = """
description = "tiny"
[network]
architecture = "hybrid-2d3d-333"
[network.config]
filters = 2
depth = 1
volumetric_scales = [0]
pyramid = [1]
normalization = "batch"
[patches]
shapes = [[3, 32, 32]]
[optimizer]
lr = 0.01
precision = "float32"
[schedule]
steps = 6
warmup = 1
validations = 1
probe_patches = 2
final_patches = 2
"""


@pytest.fixture(scope="session")
def phantom_files(tmp_path_factory):
    """Image, classes, cells and organelles of a small phantom as TIFF."""
    config = PhantomConfig(shape=(5, 72, 88), voxel_size_nm=SIZE, seed=3, dense_granules=10.0)
    return write_phantom(config, tmp_path_factory.mktemp("phantom"), "tiff")


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory):
    """A recipe that trains in a second."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path
