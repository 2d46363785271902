import logging

import numpy as np
import pytest
import tifffile

from densem.blocks import Box
from densem.errors import FormatError, InputError, NotFoundError, ShapeError, VoxelSizeError
from densem.volumes import Stack, open_stack
from densem.volumes.stacks import resolve_voxel_size


@pytest.fixture
def path(tmp_path, voxels):
    meta = {"axes": "ZYX", "spacing": 40, "unit": "nm"}
    tifffile.imwrite(tmp_path / "a.tif", voxels, imagej=True, metadata=meta, resolution=(1 / 12, 1 / 10))
    return tmp_path / "a.tif"


def test_a_part_reads_its_slices_and_keeps_its_place(path, voxels):
    part = open_stack(path, slices=slice(1, 4))
    np.testing.assert_array_equal(part.read(), voxels[1:4])
    np.testing.assert_array_equal(part.read(Box((1, 2, 3), (3, 9, 8))), voxels[2:4, 2:9, 3:8])
    assert part.origin_nm((40, 10, 12)) == (40, 0, 0)
    again = part.part(slice(1, None))
    np.testing.assert_array_equal(again.read(), voxels[2:4])
    assert again.origin_nm((40, 10, 12)) == (80, 0, 0)


@pytest.mark.parametrize("span", [slice(0, 6), slice(3, 3), slice(4, 2), slice(-1, 3), slice(0, 4, 2)])
def test_slices_outside(path, span):
    with pytest.raises(
        InputError, match=r"a\.tif: expected slices a:b with 0 <= a < b <= 5, found .*--slices"
    ):
        open_stack(path, slices=span)


def test_as_a_volume(path, voxels):
    volume = open_stack(path, slices=slice(2, 5)).volume()
    assert volume.voxel_size_nm == pytest.approx((40, 10, 12))
    assert volume.offset_nm == pytest.approx((80, 0, 0))
    box = Box((1, 2, 3), (3, 9, 8))
    np.testing.assert_array_equal(volume.read(box), voxels[2:][box.slices])


def test_reading_outside(path):
    with pytest.raises(
        ShapeError, match=r"box z 0:6, y 0:3, x 0:3 reaches outside the stack of shape \(5, 37, 23\)"
    ):
        open_stack(path).read(Box((0, 0, 0), (6, 3, 3)))


def test_a_missing_voxel_size_names_the_flag(tmp_path, voxels):
    tifffile.imwrite(tmp_path / "b.tif", voxels, metadata=None)
    stack = open_stack(tmp_path / "b.tif")
    with pytest.raises(
        VoxelSizeError,
        match=r"b\.tif: expected a voxel size in the file, found none; give it with --voxel-size Z Y X",
    ):
        stack.volume()
    assert open_stack(tmp_path / "b.tif", voxel_size_nm=(50, 4, 5)).volume().voxel_size_nm == (50, 4, 5)


def test_what_the_file_does_say_is_told():
    with pytest.raises(VoxelSizeError, match=r"found none \(it says 4 x 5 nm in y and x\); give"):
        resolve_voxel_size(None, None, "a.tif", ("it says 4 x 5 nm in y and x",))


@pytest.mark.parametrize("bad", [(0, 10, 10), (40, -10, 10), (40, 10), ("a", 1, 1), (40, 10, float("nan"))])
def test_bad_voxel_sizes(path, bad):
    with pytest.raises(VoxelSizeError, match=r"voxel size.* --voxel-size Z Y X"):
        open_stack(path, voxel_size_nm=bad)


def test_a_conflict_warns_and_the_user_wins(path, caplog):
    with caplog.at_level(logging.WARNING):
        assert open_stack(path, voxel_size_nm=(40.1, 10, 12)).voxel_size_nm == (40.1, 10, 12)
        assert not caplog.records
        assert open_stack(path, voxel_size_nm=(50, 10, 12)).voxel_size_nm == (50, 10, 12)
    assert (
        "the file says a voxel is 40 x 10 x 12 nm (z y x), --voxel-size says 50 x 10 x 12 nm" in caplog.text
    )


def test_nothing_there_empty_and_unknown(tmp_path):
    with pytest.raises(NotFoundError, match=r"gone\.tif: no file or folder there"):
        open_stack(tmp_path / "gone.tif")
    for name in ("a.tif", "a.png", "a.mrc", "a.h5", "a.dm4", "a.json"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(FormatError, match=rf"{name}: the file is empty \(0 bytes\); copy it again"):
            open_stack(tmp_path / name)
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(
        FormatError, match=r"expected a name that ends in one of \.dm3 \.dm4 .* found '\.docx'"
    ):
        open_stack(tmp_path / "a.docx")


def test_rank_is_checked(tmp_path):
    with pytest.raises(ShapeError, match=r"expected images with axes \(z, y, x\), found shape \(3, 4\)"):
        Stack(np.zeros((3, 4)), tmp_path, "array")
