"""Sources of asymmetric shape, voxel size and place, of each kind."""

import numpy as np
import pytest

from densem.schema import LabelSchema
from densem.volumes import Volume
from densem.volumes.exports import Source

SHAPE = (5, 13, 18)
SIZE = (40.0, 8.0, 10.0)
OFFSET = (80.0, -24.0, 70.0)
"""Whole voxels: 2, -3 and 7."""


@pytest.fixture
def schema():
    return LabelSchema.resolve("platelet")


@pytest.fixture
def gray(schema):
    voxels = np.random.default_rng(5).integers(0, 2**16, SHAPE).astype(np.uint16)
    return Source(Volume(voxels, SIZE, OFFSET), "image", "gray", schema)


@pytest.fixture
def classes(schema):
    voxels = np.random.default_rng(6).integers(0, 7, SHAPE).astype(np.uint8)
    voxels[1, 3:6, 4:9] = 255
    return Source(Volume(voxels, SIZE, OFFSET), "classes", "labels", schema)


@pytest.fixture
def objects(schema):
    voxels = np.zeros(SHAPE, np.uint32)
    voxels[1:4, 2:6, 3:9] = 12
    voxels[2:5, 8:12, 10:17] = 70001
    class_of = {12: "mitochondrion", 70001: "alpha_granule"}
    return Source(Volume(voxels, SIZE, OFFSET), "objects", "found", schema, class_of)


@pytest.fixture
def unsynced(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
