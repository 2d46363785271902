"""Surfaces by hand, for tests of the 3D view."""

import numpy as np

from densem.meshes.mesh import Mesh
from densem.report.view3d import Scene, SceneClass, SceneObject


def ball(centre, radii, rings=12):
    """An ellipsoid of latitudes and longitudes, x, y, z; outward."""
    around = 2 * rings
    theta = np.linspace(0, np.pi, rings + 1)[1:-1, None]
    phi = np.arange(around)[None] * 2 * np.pi / around
    rows = np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi], axis=-1
    )
    points = np.concatenate([[[0, 0, 1]], rows.reshape(-1, 3), [[0, 0, -1]]])
    faces = []
    for k in range(around):
        after = (k + 1) % around
        faces.append((0, 1 + k, 1 + after))
        for row in range(rings - 2):
            a, b = 1 + row * around, 1 + (row + 1) * around
            faces += [(a + k, b + k, b + after), (a + k, b + after, a + after)]
        last = 1 + (rings - 2) * around
        faces.append((len(points) - 1, last + after, last + k))
    vertices = points * np.array(radii) + np.array(centre)
    return Mesh(vertices.astype(np.float32), np.array(faces, np.uint32))


def small_scene():
    """A glass cell around a red granule, and a blue mitochondrion outside; 4 x 3 x 2 µm, off the origin."""
    classes = (
        SceneClass("cell", "#0101e0", translucent=True),
        SceneClass("granule", "#e01010"),
        SceneClass("mitochondrion", "#10a0e0"),
    )
    objects = (
        SceneObject(1, 0, ball((1700, 1400, 1000), (1200, 900, 700), 20), 3.17e9, 0, False),
        SceneObject(3, 1, ball((1500, 1400, 1000), (300, 300, 200)), 7.5e7, 1, False),
        SceneObject(7, 2, ball((3500, 700, 1300), (400, 300, 300)), 1.5e8, 0, True),
    )
    return Scene(classes, objects, (100.0, 0.0, 50.0), (4100.0, 3000.0, 2050.0))
