"""IMOD models of contours, read back by imodmodel, and parsed by the published layout."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from densem.errors import InputError
from densem.volumes import Volume
from densem.volumes.exports import export_volume


def parse(path):
    """Header facts and objects of a model: name, colour, surfaces, contours as (surface, points)."""
    raw = path.read_bytes()
    assert (raw[:8], raw[-4:]) == (b"IMODV1.2", b"IEOF")
    nx, ny, nz, count = struct.unpack(">4i", raw[136:152])
    scale = struct.unpack(">3f", raw[184:196])
    pixel, unit = struct.unpack(">fi", raw[216:224])
    at, objects = 240, []
    for _ in range(count):
        assert raw[at : at + 4] == b"OBJT"
        head = raw[at + 4 : at + 180]
        name = head[:64].rstrip(b"\0").decode()
        contours, flags = struct.unpack(">iI", head[128:136])
        color = struct.unpack(">3f", head[144:156])
        meshes, surfaces = struct.unpack(">2i", head[168:176])
        assert (flags, meshes) == (0, 0)
        at, lines = at + 180, []
        for _ in range(contours):
            assert raw[at : at + 4] == b"CONT"
            size, _, _, surface = struct.unpack(">iIii", raw[at + 4 : at + 20])
            points = np.frombuffer(raw[at + 20 : at + 20 + 12 * size], ">f4").reshape(-1, 3)
            lines.append((surface, points))
            at += 20 + 12 * size
        objects.append((name, color, surfaces, lines))
    assert at == len(raw) - 4
    return (nx, ny, nz), scale, (pixel, unit), objects


def area(points):
    """Signed, of a closed line in x and y."""
    x, y = points[:, 0].astype(float), points[:, 1].astype(float)
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def test_a_single_voxel_literally(classes, tmp_path):
    voxels = np.zeros((3, 5, 7), np.uint8)
    voxels[2, 1, 4] = 3
    voxels[0, 0, 0] = 255
    export_volume(
        replace(classes, volume=Volume(voxels, (40.0, 8.0, 10.0))), "imod-model", tmp_path / "a.mod"
    )
    shape, scale, pixel, objects = parse(tmp_path / "a.mod")
    assert (shape, pixel) == ((7, 5, 3), (10.0, -9))  # nm
    assert scale == pytest.approx((1.0, 0.8, 4.0))
    assert [o[0] for o in objects] == ["alpha_granule"]  # neither background nor unlabelled
    assert objects[0][1] == pytest.approx((1 / 255, 254 / 255, 1 / 255))
    [(surface, points)] = objects[0][3]
    assert surface == 0
    # around the middle of the voxel: x 4.5, y 1.5 in pixels, slice 2
    assert {tuple(map(float, p)) for p in points} == {
        (4.0, 1.5, 2.0),
        (5.0, 1.5, 2.0),
        (4.5, 1.0, 2.0),
        (4.5, 2.0, 2.0),
    }


def test_objects_are_surfaces_of_their_class(objects, tmp_path):
    export_volume(objects, "imod-model", tmp_path / "a.mod")
    *_, found = parse(tmp_path / "a.mod")
    assert [(o[0], o[2]) for o in found] == [("alpha_granule", 70001), ("mitochondrion", 12)]
    voxels = objects.volume.read()
    for _, _, surface, lines in found:
        assert {s for s, _ in lines} == {surface}
        assert (
            sorted({float(p[0, 2]) for _, p in lines}) == np.unique(np.nonzero(voxels == surface)[0]).tolist()
        )
        height, width = (np.ptp(np.nonzero(voxels == surface)[a]) + 1 for a in (1, 2))
        for _, points in lines:  # a rectangle whose corners are cut off
            assert abs(area(points)) == pytest.approx(height * width - 0.5)
            assert (np.ptp(points[:, 1]), np.ptp(points[:, 0])) == (height, width)


def test_holes_have_lines_of_their_own(classes, tmp_path):
    voxels = np.ones((1, 9, 11), np.uint8)
    voxels[0, 3:6, 4:8] = 2
    export_volume(
        replace(classes, volume=Volume(voxels, (40.0, 8.0, 10.0))), "imod-model", tmp_path / "a.mod"
    )
    *_, found = parse(tmp_path / "a.mod")
    assert [(o[0], len(o[3])) for o in found] == [("cell", 2), ("mitochondrion", 1)]


def test_imodmodel_reads_the_same(objects, tmp_path):
    imodmodel = pytest.importorskip("imodmodel")
    export_volume(objects, "imod-model", tmp_path / "a.mod")
    *_, found = parse(tmp_path / "a.mod")
    table = imodmodel.read(tmp_path / "a.mod")
    points = np.concatenate([p for o in found for _, p in o[3]])
    assert np.array_equal(table[["x", "y", "z"]].to_numpy(np.float32), points)
    assert table["object_id"].nunique() == 2


def test_nothing_to_draw_is_refused(classes, tmp_path):
    empty = replace(classes, volume=Volume(np.zeros((2, 3, 4), np.uint8), (1.0, 1.0, 1.0)))
    with pytest.raises(InputError) as caught:
        export_volume(empty, "imod-model", tmp_path / "a.mod")
    assert str(caught.value) == "labels: expected labels to draw contours around, found none"
    assert not list(tmp_path.iterdir())
