"""Surfaces of bodies whose volume, area, place and topology are known."""

import numpy as np
import pytest
from skimage.measure import euler_number

from densem.errors import InputError, ShapeError
from densem.meshes import Mesh
from densem.meshes.mesh import edges
from densem.meshes.surface import surface

SIZE = (40.0, 10.0, 7.0)


@pytest.mark.parametrize(("connectivity", "rank"), [(26, 3), (6, 1)])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_topology_is_that_of_the_voxels(connectivity, rank, share):
    """Noise has every way to fill a cube; voxels at the border are closed there."""
    mask = np.random.default_rng(3).random((11, 9, 8)) < share
    mesh = surface(mask, 1, SIZE, smooth_nm=0, connectivity=connectivity)
    assert mesh.is_closed
    assert mesh.euler_number == 2 * euler_number(mask, rank)
    assert mesh.volume_nm3 == pytest.approx(mask.sum() * 2800, rel=1e-5)


def ball(radius, shape, centre, size=SIZE):
    z, y, x = ((np.arange(n) + 0.5) * s - c for n, s, c in zip(shape, size, centre, strict=True))
    return z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2 < radius**2


def test_ball_is_a_ball():
    centre = (413.0, 391.0, 402.0)
    mesh = surface(ball(300.0, (21, 80, 114), centre), 1, SIZE, (1000.0, 0.0, 500.0))
    away = np.linalg.norm(mesh.vertices - np.array([902.0, 391.0, 1413.0]), axis=1) - 300
    assert np.abs(away).mean() < 1.5
    assert np.abs(away).max() < 16
    assert mesh.area_nm2 == pytest.approx(4 * np.pi * 300**2, rel=0.015)
    assert mesh.volume_nm3 == pytest.approx(4 / 3 * np.pi * 300**3, rel=0.01)


def test_steps_are_taken_off():
    """A slope that rises one long voxel every 7 short ones is flat, but for its ends."""
    x = np.arange(140)
    top = 4 + x // 7
    labels = (np.arange(30)[:, None, None] < top[None, None, :]) & np.ones((30, 40, 140), bool)
    mesh = surface(labels, 1, (40.0, 10.0, 10.0))
    inside = (np.abs(mesh.vertices[:, 0] - 700) < 400) & (np.abs(mesh.vertices[:, 1] - 200) < 100)
    points = mesh.vertices[inside & (mesh.vertices[:, 2] > 50)]
    height = points[:, 2] - (40 / 70 * points[:, 0] + 40 * 4)
    assert np.ptp(height) < 3
    assert mesh.volume_nm3 == pytest.approx(labels.sum() * 4000, rel=1e-5)


def test_what_touches_the_border_is_closed_in_its_plane():
    labels = ball(200.0, (10, 30, 41), (0.0, 150.0, 287.0))
    mesh = surface(labels, 1, SIZE)
    assert mesh.is_closed
    assert mesh.vertices.min() >= 0
    assert mesh.vertices[:, 2].min() == 0
    assert mesh.vertices[:, 0].max() == np.float32(41 * 7)
    cap = mesh.vertices[mesh.vertices[:, 2] == 0]
    assert np.ptp(cap[:, 1]) == pytest.approx(300, abs=12)  # the volume's width, 30 x 10


def section(mesh, z):
    """Where the surface goes through a plane: x and y, (N, 2)."""
    a, b = (mesh.vertices[edges(mesh.faces)[:, i]].astype(np.float64) for i in (0, 1))
    through = (a[:, 2] < z) != (b[:, 2] < z)
    a, b = a[through], b[through]
    return (a + (b - a) * ((z - a[:, 2]) / (b[:, 2] - a[:, 2]))[:, None])[:, :2]


@pytest.mark.parametrize("z", [20.0, 60.0, 420.0, 460.0])
def test_what_the_border_cuts_keeps_its_outline_in_the_outermost_slices(z):
    mesh = surface(ball(300.0, (12, 80, 114), (230.0, 391.0, 402.0)), 1, SIZE)
    radius = np.linalg.norm(section(mesh, z) - np.array([402.0, 391.0]), axis=1)
    true = np.sqrt(300**2 - (z - 230) ** 2)
    assert radius.mean() == pytest.approx(true, rel=0.01)
    assert np.ptp(radius) < 10


def test_one_voxel():
    labels = np.zeros((3, 3, 3), np.uint32)
    labels[1, 1, 1] = 9
    mesh = surface(labels, 9, SIZE)
    assert mesh.is_closed
    assert mesh.euler_number == 2
    assert mesh.volume_nm3 == pytest.approx(2800, rel=1e-4)
    assert mesh.vertices.mean(axis=0) == pytest.approx([10.5, 15, 60], abs=0.01)


def test_what_is_refused():
    with pytest.raises(InputError, match="no voxel has the id 4"):
        surface(np.ones((2, 3, 4), np.uint8), 4, SIZE)
    with pytest.raises(ShapeError, match=r"expected three axes \(z, y, x\), found shape \(2, 3\)"):
        surface(np.ones((2, 3), np.uint8), 1, SIZE)


def test_open_and_inverted_meshes_are_told():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.uint32)
    assert Mesh(points, faces).is_closed
    assert Mesh(points, faces).volume_nm3 == pytest.approx(1 / 6)
    assert Mesh(points, faces).area_nm2 == pytest.approx(1.5 + np.sqrt(3) / 2)
    assert Mesh(points, faces[:, ::-1]).volume_nm3 == pytest.approx(-1 / 6)
    assert not Mesh(points, faces[:3]).is_closed
    assert Mesh(points, faces).box_nm.tolist() == [[0, 0, 0], [1, 1, 1]]
