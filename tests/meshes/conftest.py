import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from densem.objects import Rules, find_objects
from densem.schema import LabelSchema
from densem.volumes import Volume, ome_zarr

SIZE = (40.0, 10.0, 7.0)
OFFSET = (100.0, 0.0, 50.0)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def schema():
    return LabelSchema.resolve("platelet")


def classes():
    """Ragged cells that hold ragged mitochondria and granules, also at the border."""
    rng = np.random.default_rng(5)
    shape = (9, 29, 34)
    field = gaussian_filter(rng.normal(size=shape), (1, 3, 3))
    inner = gaussian_filter(rng.normal(size=shape), (0.7, 1.5, 1.5))
    found = (field > 0.015).astype(np.uint8)
    found[(found == 1) & (inner > 0.1)] = 3
    found[(found == 1) & (inner < -0.12)] = 2
    return found


@pytest.fixture(scope="session")
def made(tmp_path_factory, schema):
    """Objects on disk; mitochondria are joined by faces alone."""
    folder = tmp_path_factory.mktemp("objects") / "first"
    rules = Rules.of(schema, SIZE, {"mitochondrion": {"connectivity": 6}})
    return find_objects(Volume(classes(), SIZE, OFFSET), schema, rules, folder)


@pytest.fixture
def objects(made, tmp_path):
    """A folder of objects of one's own."""
    import shutil

    shutil.copytree(made.folder, tmp_path / "first")
    return tmp_path / "first"


def write(path, array, record=None):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], OFFSET, record or {})
    return ome_zarr.finish(path)
