"""Phantoms made once for all tests of this folder."""

from __future__ import annotations

import pytest

from densem.datasets.phantom import Phantom, PhantomBlock, PhantomConfig


@pytest.fixture(scope="session")
def coarse() -> tuple[PhantomConfig, PhantomBlock]:
    """A large piece of tissue on coarse voxels: many cells for little time."""
    config = PhantomConfig(shape=(26, 130, 150), voxel_size_nm=(40, 28, 30), seed=11, dense_granules=10)
    phantom = Phantom(config)
    return config, phantom.block(phantom.box)


@pytest.fixture(scope="session")
def fine() -> tuple[PhantomConfig, PhantomBlock]:
    """A small piece at the published voxel size, over several pieces of generation in z, y and x."""
    config = PhantomConfig(shape=(14, 261, 264), seed=5, dense_granules=8)
    phantom = Phantom(config)
    return config, phantom.block(phantom.box)
