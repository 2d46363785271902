import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from densem.schema import LabelSchema
from densem.volumes import Volume

SIZE = (40.0, 10.0, 7.0)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """A busy disk takes seconds to sync the many small files of tiny blocks."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def schema():
    return LabelSchema.resolve("platelet")


def noisy(shape, seed):
    """Class ids of ragged cells that hold ragged mitochondria and granules; a corner is unlabelled."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), (1, 2, 2))
    inner = gaussian_filter(rng.normal(size=shape), (0.7, 1.5, 1.5))
    classes = (field > 0.01).astype(np.uint8)
    classes[(classes == 1) & (inner > 0.1)] = 3
    classes[(classes == 1) & (inner < -0.12)] = 2
    classes[:2, :5, :7] = 255
    return classes


@pytest.fixture(scope="session")
def ragged():
    return Volume(noisy((13, 47, 61), 0), SIZE, (100.0, 0.0, 50.0))
