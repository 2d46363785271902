"""Small asymmetric stacks shared by the tests of the formats."""

import numpy as np
import pytest

SHAPE = (5, 37, 23)
VOXEL = (40.0, 10.0, 12.0)


@pytest.fixture
def voxels():
    """uint16 (5, 37, 23) of random values."""
    return np.random.default_rng(7).integers(0, 65535, SHAPE, dtype=np.uint16)


@pytest.fixture
def image():
    """uint8 (6, 40, 70): a smooth ramp with noise, so that it has a mean and a spread."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(60, 180, 70) + np.linspace(0, 30, 40)[:, None]
    return (ramp + rng.normal(0, 12, (6, 40, 70))).clip(1, 250).astype(np.uint8)
