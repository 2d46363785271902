"""Regions: which voxels, at which level, and where they lie."""

import numpy as np
import pytest

from densem.errors import InputError
from densem.report.render import Region, grown
from densem.volumes import Volume, ome_zarr, pyramid

SIZE, OFFSET = (40.0, 10.0, 8.0), (400.0, 0.0, 80.0)


def written(path, array, size=SIZE):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    folder = ome_zarr.temporary(path)
    made = pyramid.build(folder, size, "labels")
    ome_zarr.describe(folder, made, OFFSET, {})
    return ome_zarr.finish(path)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    array = np.zeros((8, 256, 300), np.uint32)
    array[2:6, 64:128, 32:96] = 7
    return written(tmp_path_factory.mktemp("region") / "ids.zarr", array)


def test_a_box_in_nm_is_read_with_a_voxel_around_it(volume):
    box = np.array([[480, 640, 336], [640, 1280, 848]], float)  # of id 7
    region = Region.of([volume], box)
    assert (region.level, str(region.box)) == (0, "z 1:7, y 63:129, x 31:97")
    assert region.corner_nm == (440, 630, 328)
    voxels = region.read(volume)
    assert (voxels == 7).sum() == 4 * 64 * 64
    local = region.local(box)
    assert str(local) == "z 0:6, y 0:66, x 0:66"


def test_what_is_too_large_is_read_from_a_coarser_level_at_the_same_place(volume):
    box = np.array([[480, 640, 336], [640, 1280, 848]], float)
    region = Region.of([volume], box, most=8000)
    assert region.level > 0
    assert region.box.size <= 8000
    where = np.argwhere(region.read(volume) == 7)
    size = np.array(region.voxel_size_nm)
    low = where.min(axis=0) * size + region.corner_nm
    high = (where.max(axis=0) + 1) * size + region.corner_nm
    assert np.stack([low, high]) == pytest.approx(box)
    with pytest.raises(InputError, match=r"ids: .* more than 10 voxels at every level .* choose fewer cells"):
        Region.of([volume], box, most=10)


def test_a_volume_on_another_grid_is_refused(volume):
    region = Region.of([volume])
    other = Volume(np.zeros((8, 256, 299), np.uint32), SIZE)
    with pytest.raises(
        InputError, match=r"expected 8 x 256 x 300 voxels of 40 x 10 x 8 nm.*found 8 x 256 x 299"
    ):
        region.read(other)


def test_volumes_on_different_grids_are_not_called_too_large(volume):
    narrow = Volume(np.zeros((8, 256, 299), np.uint32), SIZE)
    with pytest.raises(
        InputError, match=r"expected 8 x 256 x 300 voxels of 40 .* found 8 x 256 x 299 voxels"
    ):
        Region.of([volume, narrow])
    fine = Volume(np.zeros((8, 256, 300), np.uint32), (40.0, 8.0, 10.0))
    with pytest.raises(InputError, match=r"voxels of 40 x 10 x 8 nm.* found .* voxels of 40 x 8 x 10 nm"):
        Region.of([volume, fine])


def test_a_box_beyond_the_volume_is_cut(volume):
    region = Region.of([volume], grown(np.array([[400, 0, 80], [720, 100, 160]], float), 5.0))
    assert region.box.start == (0, 0, 0)
    assert region.box.stop == (8, 171, 211)


def test_grown_by_a_share_of_the_longest_side():
    assert grown(np.array([[0, 0, 0], [10, 20, 40]], float), 0.1).tolist() == [[-4, -4, -4], [14, 24, 44]]
