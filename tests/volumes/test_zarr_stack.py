import numpy as np
import pytest
import zarr

from densem.errors import FormatError, NotFoundError, ShapeError, VoxelSizeError
from densem.volumes import open_stack, open_volume

VOXEL, SHIFT = (0.04, 0.01, 0.012), (0.4, 0.05, 0.036)


def write_04(path, voxels, *, unit="micrometer", lead=0, names="zyx"):
    """An OME-Zarr 0.4 image: half of the scale stands in the dataset, half in the whole."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", data=voxels.reshape((1,) * lead + voxels.shape), chunks=(1,) * lead + (2, 16, 16))
    axes = [{"name": n, "type": "other"} for n in "tc"[:lead]]
    axes += [{"name": n, "type": "space", **({"unit": unit} if unit else {})} for n in names]
    ones = [1.0] * lead
    steps = [
        {"type": "scale", "scale": ones + [v / 2 for v in VOXEL]},
        {"type": "translation", "translation": [0.0] * lead + [v / 2 for v in SHIFT]},
    ]
    scale = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}], "version": "0.4"}
    scale["coordinateTransformations"] = [{"type": "scale", "scale": ones + [2.0] * 3}]
    group.attrs["multiscales"] = [scale]
    return path


@pytest.mark.parametrize("lead", [0, 1, 2])
def test_ome_zarr_04_with_units_translation_and_global_scale(tmp_path, voxels, lead):
    path = write_04(tmp_path / "a.zarr", voxels, lead=lead)
    for opened in (open_volume(path), open_stack(path)):
        np.testing.assert_array_equal(opened.read(), voxels)
        assert opened.voxel_size_nm == pytest.approx((40, 10, 12))
        assert opened.offset_nm == pytest.approx((400, 50, 36))


def test_other_units(tmp_path, voxels):
    path = write_04(tmp_path / "a.zarr", voxels, unit="millimeter")
    assert open_volume(path).voxel_size_nm == pytest.approx((40e3, 10e3, 12e3))
    write_04(path, voxels, unit="parsec")
    with pytest.raises(
        VoxelSizeError, match=r"unknown unit of length 'parsec'; give --voxel-size Z Y X in nm"
    ):
        open_volume(path)


def test_axes_without_units_have_no_voxel_size(tmp_path, voxels):
    path = write_04(tmp_path / "a.zarr", voxels, unit=None)
    assert open_stack(path).voxel_size_nm is None
    with pytest.raises(
        VoxelSizeError, match="expected a voxel size with units of length in its metadata, found none"
    ):
        open_volume(path)
    assert open_volume(path, voxel_size_nm=(40, 10, 12)).voxel_size_nm == (40, 10, 12)


def test_axes_in_another_order(tmp_path, voxels):
    path = write_04(tmp_path / "a.zarr", voxels, names="xyz")
    with pytest.raises(
        FormatError, match="expected its last axes to be z, y, x, found x, y, z; transpose it"
    ):
        open_volume(path)


def test_two_channels(tmp_path, voxels):
    both = np.stack([voxels, voxels])
    zarr.create_array(tmp_path / "a.zarr", data=both)
    with pytest.raises(
        ShapeError, match=r"expected one volume with axes \(z, y, x\), found shape \(2, 5, 37, 23\)"
    ):
        open_stack(tmp_path / "a.zarr")


@pytest.mark.parametrize("version", [2, 3])
def test_a_bare_array_needs_a_voxel_size(tmp_path, voxels, version):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=voxels.astype(">u2"), chunks=(2, 16, 16), zarr_format=version)
    with pytest.raises(VoxelSizeError, match="found none; give --voxel-size Z Y X in nm"):
        open_volume(path)
    volume = open_volume(path, voxel_size_nm=(40, 10, 12))
    np.testing.assert_array_equal(volume.read(), voxels)
    assert volume.read().dtype.isnative
    assert open_stack(path).voxel_size_nm is None


def test_arrays_of_a_group_by_name(tmp_path, voxels):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("raw", data=voxels)
    group.create_array("labels", data=voxels // 3)
    with pytest.raises(FormatError, match=r"without OME 'multiscales'; .*\(arrays: labels, raw\)"):
        open_stack(tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_stack(tmp_path / "a.zarr", dataset="labels").read(), voxels // 3)
    with pytest.raises(NotFoundError, match="no dataset 'rwa' in it"):
        open_stack(tmp_path / "a.zarr", dataset="rwa")


def test_broken_metadata(tmp_path, voxels):
    path = write_04(tmp_path / "a.zarr", voxels)
    group = zarr.open_group(path, mode="r+")
    group.attrs["multiscales"] = [{"axes": [], "version": "0.4"}]
    with pytest.raises(FormatError, match=r"its OME metadata cannot be understood \(KeyError: 'datasets'\)"):
        open_volume(path)
    with pytest.raises(NotFoundError, match=r"no volume there"):
        open_volume(tmp_path / "b.zarr")
    (tmp_path / "c.zarr").mkdir()
    with pytest.raises(FormatError, match="expected an OME-Zarr or Zarr volume, but it cannot be opened"):
        open_volume(tmp_path / "c.zarr")


def test_a_level_that_is_not_there(tmp_path, voxels):
    path = write_04(tmp_path / "a.zarr", voxels)
    with pytest.raises(NotFoundError, match="no pyramid level 3, it has 0 to 0"):
        open_volume(path, level=3)


def test_damaged_chunks(tmp_path, voxels):
    path = write_04(tmp_path / "a.zarr", voxels)
    (path / "0" / "0.0.0").write_bytes(b"rubbish")
    with pytest.raises(FormatError, match=r"a\.zarr: box z 0:5, y 0:37, x 0:23 cannot be read .*corrupt"):
        open_volume(path).read()
