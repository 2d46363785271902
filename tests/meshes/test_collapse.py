"""Simplified surfaces: closed, of the same topology, as far away as is said."""

import numpy as np
import pytest
import trimesh
from skimage.measure import euler_number

from densem.meshes import Mesh
from densem.meshes.collapse import collapsed
from densem.meshes.distance import distance_nm
from densem.meshes.simplification import simplified
from densem.meshes.surface import surface

SIZE = (40.0, 10.0, 7.0)


def ring(radius=220.0, tube=75.0):
    z, y, x = ((np.arange(n) + 0.5) * s - n * s / 2 for n, s in zip((8, 66, 92), SIZE, strict=True))
    away = np.hypot(y[None, :, None], x[None, None, :]) - radius
    return away**2 + z[:, None, None] ** 2 < tube**2


def test_a_ring_stays_a_ring_within_the_distance():
    whole = surface(ring(), 1, SIZE)
    found = simplified(whole, 6.0)
    assert 40 < len(found.mesh.faces) < len(whole.faces) / 6
    assert found.mesh.is_closed
    assert found.mesh.euler_number == whole.euler_number == 0
    assert found.mesh.volume_nm3 == pytest.approx(whole.volume_nm3, rel=1e-5)
    assert 0 < found.error_nm <= 6
    other = trimesh.Trimesh(found.mesh.vertices, found.mesh.faces, process=False)
    assert other.is_watertight
    assert other.is_winding_consistent


def test_topology_of_noise_is_kept():
    mask = np.random.default_rng(1).random((9, 14, 13)) < 0.4
    whole = surface(mask, 1, SIZE, smooth_nm=0)
    smaller = collapsed(whole, 30.0)
    assert len(smaller.faces) < len(whole.faces)
    assert smaller.is_closed
    assert smaller.euler_number == 2 * euler_number(mask, 3)


def test_distance_of_what_is_known():
    def ball(radius, cuts=3):
        made = trimesh.creation.icosphere(cuts, radius)
        return Mesh(made.vertices.astype(np.float32), made.faces.astype(np.uint32))

    assert distance_nm(ball(100), ball(100)) == pytest.approx(0, abs=1e-4)
    assert distance_nm(ball(110), ball(100)) == pytest.approx(10, abs=0.3)
    spike = ball(100)
    points = spike.vertices.copy()
    points[7] *= 1.3
    assert distance_nm(spike, Mesh(points, spike.faces)) == pytest.approx(30, abs=0.5)
    assert distance_nm(Mesh(points, spike.faces), spike) == pytest.approx(30, abs=0.5)
    cube = trimesh.creation.box((400, 300, 200)).subdivide().subdivide().subdivide()
    fine = Mesh(np.asarray(cube.vertices, np.float32), np.asarray(cube.faces, np.uint32))
    plain = trimesh.creation.box((400, 300, 200))  # large flat triangles: points far from any vertex
    coarse = Mesh(np.asarray(plain.vertices, np.float32), np.asarray(plain.faces, np.uint32))
    assert distance_nm(coarse, fine) == pytest.approx(0, abs=1e-3)


def test_no_error_means_no_change():
    whole = surface(ring(), 1, SIZE)
    assert simplified(whole, 0.0).mesh is whole


def test_border_stays_plane():
    mask = ring()[4:]
    whole = surface(mask, 1, SIZE)
    limits = np.zeros(3), np.array(mask.shape[::-1]) * SIZE[::-1]
    found = simplified(whole, 8.0, limits).mesh
    assert len(found.faces) < len(whole.faces) / 4
    assert found.vertices[:, 2].min() == 0
    flat = found.vertices[:, 2] < 1
    assert (found.vertices[flat, 2] == 0).all()
    assert flat.sum() > 10
