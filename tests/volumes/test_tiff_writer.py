import numpy as np
import pytest
import tifffile

from densem.volumes import Volume, open_stack
from densem.volumes.tiff_writer import write_tiff

SIZE = (40.0, 12.5, 5.0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "uint64", "float32"])
def test_values_come_back_as_tifffile_and_densem_read_them(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 200, (19, 7, 13)).astype(dtype)
    values[3, 2, 1] = np.iinfo(dtype).max if dtype != "float32" else 1e30
    told = []
    write_tiff(Volume(values, SIZE), tmp_path / "x.tif", lambda *t: told.append(t))
    read = tifffile.imread(tmp_path / "x.tif")
    assert read.dtype == dtype
    assert np.array_equal(read, values)
    stack = open_stack(tmp_path / "x.tif")
    assert np.array_equal(stack.read(), values)
    assert stack.voxel_size_nm == pytest.approx(SIZE)
    assert told == [(16, 19), (19, 19)]


def test_a_single_slice(tmp_path):
    values = np.arange(91, dtype=np.uint16).reshape(1, 7, 13)
    write_tiff(Volume(values, SIZE), tmp_path / "x.tif")
    assert np.array_equal(open_stack(tmp_path / "x.tif").read(), values)
