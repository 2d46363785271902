import numpy as np
import pytest

from densem.blocks import Box
from densem.errors import ShapeError, VoxelSizeError
from densem.volumes import Intensity, Volume, check_voxel_size

VOXEL = (40.0, 10.0, 12.0)


def test_reading_boxes(voxels):
    volume = Volume(voxels.astype(">u2"), VOXEL)
    box = Box((1, 5, 3), (4, 30, 20))
    np.testing.assert_array_equal(volume.read(box), voxels[box.slices])
    assert volume.read(box).dtype.isnative
    assert volume.dtype.isnative
    assert volume.shape == (5, 37, 23)
    with pytest.raises(ShapeError, match=r"box z 0:5, y 0:37, x 0:24 reaches outside the volume of shape"):
        volume.read(Box((0, 0, 0), (5, 37, 24)))
    with pytest.raises(ShapeError, match=r"expected three axes \(z, y, x\), found shape \(37, 23\)"):
        Volume(voxels[0], VOXEL)


def test_parts_keep_their_place(voxels):
    part = Volume(voxels, VOXEL, (7.0, 0.0, 0.0)).part(Box((1, 5, 3), (4, 30, 20)))
    assert part.offset_nm == (47.0, 50.0, 36.0)
    np.testing.assert_array_equal(part.read(Box((1, 2, 3), (2, 9, 8))), voxels[2:3, 7:14, 6:11])
    np.testing.assert_array_equal(part.part(Box((1, 2, 3), (2, 9, 8))).read(), voxels[2:3, 7:14, 6:11])
    with pytest.raises(ShapeError, match="reaches outside"):
        part.part(Box((0, 0, 0), (4, 1, 1)))


def test_identity_follows_content_and_voxel_size(voxels):
    one = Volume(voxels, VOXEL).id
    assert one == Volume(voxels.copy(), VOXEL).id
    other = voxels.copy()
    other[0, 0, 0] ^= 1
    assert one != Volume(other, VOXEL).id
    assert one != Volume(voxels, (40.0, 10.0, 12.5)).id
    assert Volume(voxels, VOXEL, attributes={"id": "abc"}).id == "abc"


def test_records(voxels):
    intensity = Intensity(1.5, 2.0, 0.0, 9.0, 0.1, 8.0, 0.7, (0.25, 0.75))
    assert Intensity.from_dict(intensity.to_dict()) == intensity
    volume = Volume(
        voxels, VOXEL, attributes={"intensity": intensity.to_dict(), "provenance": {"command": "x"}}
    )
    assert volume.intensity == intensity
    assert volume.provenance == {"command": "x"}
    assert Volume(voxels, VOXEL).intensity is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "expected a voxel size of three lengths in nm (z y x), found None"),
        ((40, 10), "found (40, 10)"),
        ((40, 0, 10), "voxel sizes must be above zero, found 40 0 10 nm"),
        ((40, -1, 10), "found 40 -1 10 nm"),
        ((float("inf"), 1, 10), "found inf 1 10 nm"),
    ],
)
def test_voxel_sizes_are_checked(bad, message):
    with pytest.raises(VoxelSizeError) as error:
        check_voxel_size(bad, "a.tif")
    assert str(error.value).startswith("a.tif: ")
    assert message in str(error.value)
    assert "--voxel-size Z Y X" in str(error.value)
