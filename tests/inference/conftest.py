"""Makes `tiny_models` importable, and its usual model and volume fixtures."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_models import make_model, make_volume, train_on_scenes


@pytest.fixture(scope="session")
def model():
    return make_model()


@pytest.fixture(scope="session")
def volume():
    return make_volume()


@pytest.fixture(scope="session")
def trained():
    return train_on_scenes()
