"""Cut planes: every pixel lies where its voxel does."""

import numpy as np
import pytest

from densem.blocks import Box
from densem.report.render import cuts, walls
from densem.volumes import Volume

SIZE, OFFSET = (40.0, 10.0, 8.0), (120.0, -50.0, 16.0)
SHAPE = (6, 9, 13)
BOX = Box((1, 2, 3), (5, 8, 12))


@pytest.fixture
def image():
    """Every voxel has a value of its own, 0 to 701."""
    return Volume(np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE), SIZE, OFFSET)


def voxel_at(place_nm):
    """The voxel in which a place (x, y, z) lies, and where in it, 0 to 1."""
    inside = (place_nm[::-1] - OFFSET) / SIZE
    return np.floor(inside).astype(int), inside % 1


def pixels_of(plane):
    """Each pixel's grey and the place of its middle."""
    rows, columns = plane.pixels.shape
    for r in range(rows):
        for c in range(columns):
            along = plane.along_columns_nm * (c + 0.5) / columns + plane.along_rows_nm * (r + 0.5) / rows
            yield plane.pixels[r, c], plane.origin_nm + along


def test_cuts_show_the_voxels_they_go_through(image):
    values = image.read()
    middle = values[3, 2:8, 3:12]  # of the box, whose 0.5 and 99.5 percentiles are black and white
    low, high = np.percentile(middle, (0.5, 99.5))
    for axis, plane in enumerate(cuts(image, BOX, (4, 5, 7))):
        seen = 0
        for grey, place in pixels_of(plane):
            voxel, inside = voxel_at(place)
            assert inside == pytest.approx([0.5, 0.5, 0.5])
            assert voxel[axis] == (4, 5, 7)[axis]
            expected = np.clip((values[tuple(voxel)] - low) / (high - low), 0, 1) * 255
            assert abs(float(grey) - expected) <= 0.51
            seen += 1
        assert seen == BOX.size // BOX.shape[axis]


def test_walls_show_the_outermost_voxels_and_face_inward(image):
    planes = walls(image, BOX)
    assert len(planes) == 6
    middle = (np.array(BOX.start) + BOX.stop)[::-1] / 2 * np.array(SIZE)[::-1] + np.array(OFFSET)[::-1]
    for number, plane in enumerate(planes):
        axis, last = divmod(number, 2)
        front = np.cross(plane.along_rows_nm, plane.along_columns_nm)
        assert front @ (middle - plane.origin_nm) > 0
        for grey, place in list(pixels_of(plane))[:7]:
            voxel, inside = voxel_at(place)
            outside = BOX.stop[axis] if last else BOX.start[axis] - 1
            assert voxel[axis] == outside  # a little behind the box
            assert np.delete(inside, axis) == pytest.approx([0.5, 0.5])
            voxel[axis] += -1 if last else 1
            value = image.read()[tuple(voxel)]
            middle_slice = image.read()[3, 2:8, 3:12]
            low, high = np.percentile(middle_slice, (0.5, 99.5))
            assert abs(float(grey) - np.clip((value - low) / (high - low), 0, 1) * 255) <= 0.51


def test_walls_meet(image):
    """Each corner of a wall, margin included, is one of two others."""
    corners = np.concatenate([plane.corners for plane in walls(image, BOX)])
    distance = np.linalg.norm(corners[:, None] - corners[None], axis=2)
    assert (np.sort(distance, axis=1)[:, 2] < 1e-9).all()


def test_large_slices_become_area_means():
    image = Volume(np.tile(np.array([[0, 200]], np.uint8), (1, 3000, 3000)), (1.0, 1.0, 1.0))
    plane = walls(image, image.box)[0]
    assert max(plane.pixels.shape) == 2048
    assert plane.pixels.mean() == pytest.approx(127.5, abs=1)
