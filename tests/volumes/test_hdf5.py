import h5py
import numpy as np
import pytest

from densem.blocks import Box
from densem.errors import FormatError, NotFoundError, ShapeError
from densem.volumes import open_stack


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def test_the_only_volume_is_taken(path, voxels):
    with h5py.File(path, "w") as file:
        file.create_dataset("group/raw", data=voxels, chunks=(2, 16, 16), compression="gzip")
        file["group/raw"].attrs["element_size_um"] = (0.04, 0.01, 0.012)
        file["times"] = np.arange(5)
        file["name"] = "mouse"
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read(), voxels)
    box = Box((1, 5, 3), (4, 30, 20))
    np.testing.assert_array_equal(stack.read(box), voxels[box.slices])
    assert stack.voxel_size_nm == pytest.approx((40, 10, 12))


def test_by_name(path, voxels):
    with h5py.File(path, "w") as file:
        file["raw"], file["labels/ids"] = voxels, voxels.astype(np.uint64)
    np.testing.assert_array_equal(open_stack(path, dataset="/labels/ids").read(), voxels)
    with pytest.raises(
        FormatError, match=r"expected one dataset with three axes, found 2; name one with --dataset"
    ):
        open_stack(path)
    with pytest.raises(
        NotFoundError,
        match=r"no dataset 'rwa' in it; it has labels/ids 5 x 37 x 23 uint64; raw 5 x 37 x 23 uint16",
    ):
        open_stack(path, dataset="rwa")


def test_axes_of_length_one_are_dropped(path, voxels):
    with h5py.File(path, "w") as file:
        file["raw"] = voxels[None, ..., None]
    stack = open_stack(path)
    assert stack.shape == (5, 37, 23)
    np.testing.assert_array_equal(stack.read(Box((2, 3, 4), (3, 9, 8))), voxels[2:3, 3:9, 4:8])


def test_channels_are_refused(path, voxels):
    with h5py.File(path, "w") as file:
        file["raw"] = np.stack([voxels, voxels])
    with pytest.raises(
        ShapeError, match=r"expected one volume with axes \(z, y, x\), found shape \(2, 5, 37, 23\)"
    ):
        open_stack(path, dataset="raw")


def test_resolution_counts_only_with_units(path, voxels):
    with h5py.File(path, "w") as file:
        file["raw"] = voxels
        file["raw"].attrs["resolution"] = (40.0, 10.0, 12.0)
    assert open_stack(path).voxel_size_nm is None
    with h5py.File(path, "r+") as file:
        file["raw"].attrs["units"] = ["nm", "nm", "nm"]
    assert open_stack(path).voxel_size_nm == pytest.approx((40, 10, 12))


def test_truncated_and_nothing_inside(path, voxels):
    with h5py.File(path, "w") as file:
        file["raw"] = voxels
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FormatError, match=r"expected an HDF5 file, but it cannot be opened .*truncated"):
        open_stack(path)
    with h5py.File(path, "w") as file:
        file["name"] = "mouse"
    with pytest.raises(FormatError, match=r"found 0; name one with --dataset \(it has no numeric datasets\)"):
        open_stack(path)
