import numpy as np
import pytest

from densem.meshes.mesh import Mesh
from densem.report.render import has_opengl

SIZE = (40.0, 10.0, 8.0)


@pytest.fixture(scope="session")
def opengl():
    pytest.importorskip("pyvista")
    if not has_opengl():
        pytest.skip("no OpenGL here")


def box_mesh(low, high):
    """A box with corners low and high, (x, y, z) in nm; each side has vertices of its own."""
    low, high = np.array(low, float), np.array(high, float)
    vertices, faces = [], []
    for axis in range(3):
        for end in (0, 1):
            square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
            corners = np.insert(square, axis, end, axis=1)
            points = low + corners * (high - low)
            normal = np.cross(points[1] - points[0], points[2] - points[0])[axis]
            turn = [0, 1, 2, 3] if (normal > 0) == (end == 1) else [3, 2, 1, 0]
            start = len(vertices) * 4
            vertices.append(points[turn])
            faces += [[start, start + 1, start + 2], [start, start + 2, start + 3]]
    return Mesh(np.concatenate(vertices).astype(np.float32), np.array(faces, np.uint32))


def ball(shape, centre, radius_nm, size=SIZE):
    """Voxels, bool (Z, Y, X), whose centres lie within a ball; `centre` in nm, (z, y, x)."""
    places = [(np.arange(n) + 0.5) * s for n, s in zip(shape, size, strict=True)]
    z, y, x = np.meshgrid(*places, indexing="ij")
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius_nm**2


@pytest.fixture(scope="session")
def make_ball():
    return ball


@pytest.fixture(scope="session")
def make_box():
    return box_mesh
