"""Scene: what is packed comes back, to within half a step."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from shapes import ball, small_scene

from densem.meshes.mesh import Mesh
from densem.report.view3d import Scene, SceneClass, SceneObject, decode
from densem.report.view3d.scene import packed_bytes


def test_the_ball_is_closed_and_outward():
    mesh = ball((5, -3, 2), (4, 3, 2), 30)
    assert mesh.is_closed
    assert mesh.volume_nm3 == pytest.approx(4 / 3 * np.pi * 24, rel=0.01)


def test_surfaces_come_back_to_within_half_a_step():
    scene = small_scene()
    assert scene.step_nm == pytest.approx(4000 / 65535)
    found = decode(scene.description(), scene.payload())
    assert len(found) == 3
    for mesh, shown in zip(found, scene.objects, strict=True):
        np.testing.assert_array_equal(mesh.faces, shown.mesh.faces)
        away = np.abs(mesh.vertices.astype(float) - shown.mesh.vertices)
        assert away.max() <= scene.step_nm / 2 + 1e-3
        assert away.max() > 0
        assert mesh.volume_nm3 == pytest.approx(shown.mesh.volume_nm3, rel=1e-3)


def test_what_the_description_says():
    record = json.loads(small_scene().description())
    assert record["id"] == [1, 3, 7]
    assert record["parent"] == [0, 1, 0]
    assert record["kind"] == [0, 1, 2]
    assert record["border"] == [0, 0, 1]
    assert record["volume_nm3"] == [3.17e9, 7.5e7, 1.5e8]
    assert record["origin_nm"] == [100.0, 0.0, 50.0]
    assert record["classes"][0] == {"name": "cell", "color": "#0101e0", "translucent": True}
    low, high = (np.array(corner) for corner in record["box"])
    np.testing.assert_array_equal(low, 0)
    np.testing.assert_allclose(high * record["step_nm"], [4000, 3000, 2000], atol=record["step_nm"])


def test_a_tetrahedron_byte_by_byte():
    points = np.array([[0, 0, 0], [65535, 0, 0], [0, 257, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.uint32)
    shown = SceneObject(9, 0, Mesh(points, faces), 1.0)
    scene = Scene((SceneClass("a", "#ffffff"),), (shown,), (0.0, 0.0, 0.0), (65535.0, 300.0, 2.0))
    data = base64.b64decode(scene.payload())
    assert list(data[:6]) == [0, 0, 2, 0, 1, 0]
    assert list(data[24:]) == [0] * 6 + [255, 255, 0, 0, 0, 0] + [0, 0, 1, 1, 0, 0] + [0, 0, 0, 0, 1, 0]


def test_an_object_of_many_vertices_has_wide_indices():
    large = ball((500, 500, 500), (400, 300, 200), 190)
    assert len(large.vertices) > 65536
    objects = (
        SceneObject(1, 0, ball((100, 100, 100), (50, 40, 30)), 1.0),
        SceneObject(2, 0, large, 1.0),
        SceneObject(3, 0, ball((900, 100, 100), (50, 40, 30)), 1.0),
    )
    scene = Scene((SceneClass("a", "#ffffff"),), objects, (0.0, 0.0, 0.0), (1000.0, 1000.0, 1000.0))
    for mesh, shown in zip(decode(scene.description(), scene.payload()), objects, strict=True):
        np.testing.assert_array_equal(mesh.faces, shown.mesh.faces)
        np.testing.assert_allclose(mesh.vertices, shown.mesh.vertices, atol=scene.step_nm)


def test_the_bytes_are_those_that_were_reckoned():
    scene = small_scene()
    reckoned = sum(packed_bytes(len(o.mesh.vertices), len(o.mesh.faces)) for o in scene.objects)
    assert len(scene.payload()) <= reckoned <= len(scene.payload()) + 3 * 4


def test_what_sticks_out_of_the_volume_is_not_cut_off():
    scene = small_scene()
    wide = replace(scene, low_nm=(1000.0, 1000.0, 900.0), high_nm=(1100.0, 1100.0, 1000.0))
    found = decode(wide.description(), wide.payload())
    np.testing.assert_allclose(found[2].vertices, scene.objects[2].mesh.vertices, atol=wide.step_nm)


def test_stuff_is_no_object():
    scene = small_scene()
    vessel = replace(scene.objects[1], id=0)
    assert replace(scene, objects=(*scene.objects, vessel)).count == 3
