import mrcfile
import numpy as np
import pytest

from densem.blocks import Box
from densem.errors import FormatError, ShapeError
from densem.volumes import open_stack


def write(path, values, angstrom=(400.0, 100.0, 120.0)):
    with mrcfile.new(path) as file:
        file.set_data(values)
        z, y, x = angstrom
        file.voxel_size = (x, y, z)
        file.update_header_from_data()
        file.set_volume()
        file.voxel_size = (x, y, z)


@pytest.mark.parametrize(
    ("dtype", "mode"), [("int8", 0), ("int16", 1), ("float32", 2), ("uint16", 6), ("float16", 12)]
)
def test_modes_and_voxel_size(tmp_path, voxels, dtype, mode):
    values = (voxels.astype(np.int64) % 200 - (100 if dtype.startswith("int") else 0)).astype(dtype)
    write(tmp_path / "a.mrc", values)
    stack = open_stack(tmp_path / "a.mrc")
    np.testing.assert_array_equal(stack.read(), values)
    box = Box((1, 5, 3), (4, 30, 20))
    np.testing.assert_array_equal(stack.read(box), values[box.slices])
    assert (stack.dtype, stack.format) == (np.dtype(dtype), f"MRC (mode {mode})")
    assert stack.voxel_size_nm == pytest.approx((40, 10, 12))
    assert "y points up" in stack.notes[-1]


def test_imod_writes_mode_0_unsigned(tmp_path, voxels):
    values = (voxels % 256).astype(np.uint8)
    write(tmp_path / "a.mrc", values.view(np.int8))
    with (tmp_path / "a.mrc").open("r+b") as file:
        file.seek(152)
        file.write(np.array([1146047817, 0], "<i4").tobytes())
    stack = open_stack(tmp_path / "a.mrc")
    assert stack.dtype == np.uint8
    np.testing.assert_array_equal(stack.read(), values)


def test_big_endian(tmp_path, voxels):
    write(tmp_path / "a.mrc", voxels)
    with mrcfile.open(tmp_path / "a.mrc", header_only=True) as file:
        header = file.header.copy()
    swapped = header.astype(header.dtype.newbyteorder(">"))
    swapped["machst"] = [0x11, 0x11, 0, 0]
    (tmp_path / "b.mrc").write_bytes(swapped.tobytes() + voxels.astype(">u2").tobytes())
    stack = open_stack(tmp_path / "b.mrc")
    np.testing.assert_array_equal(stack.read(), voxels)
    assert stack.voxel_size_nm == pytest.approx((40, 10, 12))


@pytest.mark.parametrize("angstrom", [(0, 0, 0), (1, 1, 1)])
def test_a_size_nobody_set_is_none(tmp_path, voxels, angstrom):
    write(tmp_path / "a.mrc", voxels, angstrom)
    stack = open_stack(tmp_path / "a.mrc")
    assert stack.voxel_size_nm is None
    assert len(stack.notes) == (2 if angstrom[0] else 1)


def test_truncated(tmp_path, voxels):
    write(tmp_path / "a.mrc", voxels)
    whole = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(whole[:-10])
    with pytest.raises(
        FormatError, match=rf"expected {len(whole)} bytes for 5 x 37 x 23 voxels of uint16, found"
    ):
        open_stack(tmp_path / "a.mrc")
    (tmp_path / "a.mrc").write_bytes(whole[:500])
    with pytest.raises(
        FormatError, match="expected an MRC file with a header of 1024 bytes, found 500; it is tr"
    ):
        open_stack(tmp_path / "a.mrc")


def test_what_is_not_read(tmp_path, voxels):
    write(tmp_path / "a.mrc", voxels.astype(np.complex64))
    with pytest.raises(FormatError, match="expected one of the MRC modes 0, 1, 2, 6, 12, found mode 4"):
        open_stack(tmp_path / "a.mrc")
    write(tmp_path / "b.mrc", voxels)
    with mrcfile.open(tmp_path / "b.mrc", "r+") as file:
        file.header.mapc, file.header.maps = 3, 1
    with pytest.raises(
        ShapeError, match=r"columns, rows, sections to be x, y, z \(1 2 3\), found \(3, 2, 1\)"
    ):
        open_stack(tmp_path / "b.mrc")
    (tmp_path / "c.mrc").write_bytes(b"no" * 1000)
    with pytest.raises(
        FormatError, match=r"c\.mrc: expected an MRC file, found 1869508462 x .* corrupt or of another format"
    ):
        open_stack(tmp_path / "c.mrc")
