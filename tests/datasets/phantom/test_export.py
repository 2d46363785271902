import numpy as np
import pytest
import tifffile

from densem.datasets.phantom import Phantom, PhantomConfig, write_phantom
from densem.errors import ExistsError
from densem.volumes import open_stack, open_volume

CONFIG = PhantomConfig(shape=(13, 30, 259), voxel_size_nm=(40, 20, 12), seed=8, dense_granules=10)

PUBLISHED = {
    0: (0, 0, 0, 0),
    1: (1, 1, 224, 255),
    2: (1, 171, 254, 255),
    3: (1, 254, 1, 255),
    4: (255, 224, 0, 255),
    5: (250, 94, 0, 255),
    6: (245, 0, 203, 255),
}
"""Colours of the published label files."""


@pytest.fixture(scope="module")
def truth():
    phantom = Phantom(CONFIG)
    return phantom.block(phantom.box)


def test_volumes_hold_the_phantom(tmp_path, truth):
    told = []
    files = write_phantom(CONFIG, tmp_path / "p", progress=lambda done, total: told.append((done, total)))
    assert [p.name for p in files] == ["image.zarr", "semantic.zarr", "cells.zarr", "organelles.zarr"]
    for path, (name, values) in zip(files, truth.arrays().items(), strict=True):
        volume = open_volume(path)
        np.testing.assert_array_equal(volume.read(), values, err_msg=name)
        assert volume.voxel_size_nm == (40, 20, 12)
        assert PhantomConfig.parse(volume.provenance["phantom"]) == CONFIG
    image, semantic = open_volume(files.image), open_volume(files.semantic)
    assert image.intensity.mean == pytest.approx(truth.image.mean(), rel=0.01)
    assert semantic.attributes["label_counts"]["1"] == (truth.semantic == 1).sum()
    assert told == [(i, 4) for i in range(1, 5)]
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == sorted(p.name for p in files)


def test_tiff_files_hold_the_phantom(tmp_path, truth):
    files = write_phantom(CONFIG, tmp_path, form="tiff")
    np.testing.assert_array_equal(tifffile.imread(files.image), truth.image)
    np.testing.assert_array_equal(tifffile.imread(files.organelles), truth.organelles)
    colors = tifffile.imread(files.semantic)
    assert colors.shape == (*CONFIG.shape, 4)
    assert len(np.unique(truth.semantic)) >= 4
    for label, rgba in PUBLISHED.items():
        assert set(map(tuple, colors[truth.semantic == label].tolist())) <= {rgba}
    assert open_stack(files.image).voxel_size_nm == pytest.approx((40, 20, 12))


def test_a_partial_annotation_as_tiff_holds_ids(tmp_path, truth):
    partial = CONFIG.model_copy(update={"labelled_cells": 1})
    files = write_phantom(partial, tmp_path, form="tiff")
    semantic, cells = tifffile.imread(files.semantic), tifffile.imread(files.cells)
    (number,) = set(np.unique(cells)) - {0}
    np.testing.assert_array_equal(semantic, np.where(truth.cells == number, truth.semantic, 255))


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    small = PhantomConfig(shape=(2, 40, 30), voxel_size_nm=(40, 40, 40))
    (tmp_path / "cells.zarr").mkdir()
    with pytest.raises(
        ExistsError, match=r"cells\.zarr: exists already; give another folder or overwrite it"
    ):
        write_phantom(small, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["cells.zarr"]
    write_phantom(small, tmp_path, overwrite=True)
    assert open_volume(tmp_path / "cells.zarr").shape == (2, 40, 30)
