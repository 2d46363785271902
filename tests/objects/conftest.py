import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from noisy_cells import SIZE, noisy

from densem.schema import LabelSchema
from densem.volumes import Volume


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """A busy disk takes seconds to sync the many small files of tiny blocks."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def schema():
    return LabelSchema.resolve("platelet")


@pytest.fixture(scope="session")
def ragged():
    return Volume(noisy((13, 47, 61), 0), SIZE, (100.0, 0.0, 50.0))
