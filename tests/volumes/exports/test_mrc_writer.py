"""MRC for IMOD, read back and validated by mrcfile."""

import io
from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from densem.errors import InputError
from densem.volumes import Volume, open_stack
from densem.volumes.exports import export_volume


def test_mrcfile_reads_size_origin_and_statistics(gray, tmp_path):
    path = tmp_path / "a.mrc"
    export_volume(gray, "mrc", path)
    said = io.StringIO()
    assert mrcfile.validate(path, print_file=said), said.getvalue()
    with mrcfile.open(path) as file:
        assert file.data.dtype == np.uint16
        assert np.array_equal(file.data, gray.volume.read())
        assert file.voxel_size.tolist() == pytest.approx((100.0, 80.0, 400.0))  # x, y, z in angstrom
        assert file.header.origin.tolist() == pytest.approx((700.0, -240.0, 800.0))
        assert (int(file.header.mode), int(file.header.ispg), int(file.header.nsymbt)) == (6, 1, 0)
        assert float(file.header.dmean) == pytest.approx(gray.volume.read().mean(), rel=1e-6)
        assert float(file.header.rms) == pytest.approx(gray.volume.read().std(), rel=1e-4)
        assert str(file.header.label[0], "ascii") == "densem: gray"


def test_imod_is_told_the_sign_of_the_origin(gray, tmp_path):
    export_volume(gray, "mrc", tmp_path / "a.mrc")
    raw = (tmp_path / "a.mrc").read_bytes()
    assert np.frombuffer(raw[152:160], "<i4").tolist() == [1146047817, 4]
    assert raw[208:216] == b"MAP DD\0\0"


@pytest.mark.parametrize(("dtype", "mode"), [("uint8", 1), ("int16", 1), ("float32", 2)])
def test_bytes_become_16_bits_so_that_no_program_takes_them_for_signed(gray, tmp_path, dtype, mode):
    voxels = (gray.volume.read() % 256).astype(dtype)
    export_volume(replace(gray, volume=Volume(voxels, (40.0, 8.0, 10.0))), "mrc", tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert int(file.header.mode) == mode
        assert np.array_equal(file.data, voxels)


def test_back_into_densem(classes, tmp_path):
    export_volume(classes, "mrc", tmp_path / "a.mrc")
    stack = open_stack(tmp_path / "a.mrc")
    assert stack.voxel_size_nm == pytest.approx((40.0, 8.0, 10.0))
    assert np.array_equal(stack.read(), classes.volume.read())


def test_ids_above_16_bits_are_refused(objects, tmp_path):
    with pytest.raises(
        InputError, match="found: expected ids up to 65535, the largest that MRC holds, found 70001"
    ):
        export_volume(objects, "mrc", tmp_path / "a.mrc")
    assert not list(tmp_path.iterdir())
