"""Surfaces of objects in one file: Amira's and IMOD's, parsed by their layout and by ahds where it is."""

import re
import struct

import numpy as np
import pytest

from densem.errors import ExistsError, InputError
from densem.meshes.exports import export_meshes
from densem.meshes.mesh import Mesh
from densem.meshes.named import NamedMesh, Room, vertex_normals
from densem.meshes.surface import surface
from densem.volumes.exports import ExportOptions

SIZE, OFFSET = (40.0, 8.0, 10.0), (80.0, -24.0, 70.0)
ROOM = Room((7, 20, 30), SIZE, OFFSET)


@pytest.fixture(scope="module")
def meshes():
    voxels = np.zeros(ROOM.shape, np.uint32)
    voxels[1:4, 2:9, 3:12], voxels[2:6, 11:18, 15:27], voxels[3:5, 4:6, 20:25] = 12, 40000, 7
    made = {i: surface(voxels, i, SIZE, OFFSET) for i in (12, 40000, 7)}
    return [
        NamedMesh(7, "mitochondrion", (1, 171, 254), made[7]),
        NamedMesh(12, "mitochondrion", (1, 171, 254), made[12]),
        NamedMesh(40000, "alpha granule", (1, 254, 1), made[40000]),
    ]


def parse_surface(path):
    """Materials, vertices and patches (region, faces from 0) of a .surf file."""
    raw = path.read_bytes()
    assert raw.startswith(b"# HyperSurface 0.1 BINARY\n")
    found = re.search(rb"\nVertices (\d+)\n", raw)
    count, at = int(found[1]), found.end()
    vertices = np.frombuffer(raw[at : at + 12 * count], ">f4").reshape(-1, 3)
    rest = re.compile(rb"\nNBranchingPoints 0\nNVerticesOnCurves 0\nBoundaryCurves 0\nPatches (\d+)\n")
    found = rest.match(raw, at + 12 * count)
    at, patches = found.end(), []
    head = re.compile(
        rb"\{\nInnerRegion (\w+)\nOuterRegion Exterior\nBoundaryID 0\nBranchingPoints 0\n \nTriangles (\d+)\n"
    )
    for _ in range(int(found[1])):
        patch = head.match(raw, at)
        at = patch.end() + 12 * int(patch[2])
        faces = np.frombuffer(raw[patch.end() : at], ">i4").reshape(-1, 3) - 1
        patches.append((patch[1].decode(), faces))
        assert raw[at : at + 3] == b"\n}\n"
        at += 3
    assert at == len(raw)
    text = raw[: raw.index(b"\nVertices")].decode()
    rows = re.findall(r"(\w+) \{\s+Color ([\d.e-]+) ([\d.e-]+) ([\d.e-]+),\s+Id (\d+)", text)
    return (
        {r[0]: (*(round(255 * float(v)) for v in r[1:4]), int(r[4])) for r in rows},
        vertices,
        patches,
        text,
    )


def test_amira_has_a_material_and_a_patch_for_each_object(meshes, tmp_path):
    said = export_meshes(meshes, ROOM, "amira-surface", tmp_path / "a.surf")
    materials, vertices, patches, text = parse_surface(tmp_path / "a.surf")
    assert materials["mitochondrion_12"] == (1, 171, 254, 3)
    assert materials["alpha_granule_40000"] == (1, 254, 1, 4)
    assert 'Coordinates "nm"' in text
    assert [p[0] for p in patches] == ["mitochondrion_7", "mitochondrion_12", "alpha_granule_40000"]
    for made, (_, faces) in zip(meshes, patches, strict=True):
        found = Mesh(vertices.astype(np.float32), faces.astype(np.uint32))
        assert np.array_equal(found.vertices[found.faces], made.mesh.vertices[made.mesh.faces])
        assert found.volume_nm3 == pytest.approx(made.mesh.volume_nm3)
        assert found.volume_nm3 > 0  # outward
    assert said[0] == f"{tmp_path / 'a.surf'}: Amira surface (HyperSurface), 3 surfaces"


def test_amira_in_micrometres(meshes, tmp_path):
    export_meshes(meshes[:1], ROOM, "amira-surface", tmp_path / "a.surf", ExportOptions(unit="um"))
    _, vertices, _, text = parse_surface(tmp_path / "a.surf")
    assert 'Coordinates "µm"' in text
    assert vertices == pytest.approx(meshes[0].mesh.vertices / 1000)


def test_ahds_reads_the_surface(meshes, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "string_", np.bytes_, raising=False)  # its version 0.2 asks for it
    ahds = pytest.importorskip("ahds")
    export_meshes(meshes, ROOM, "amira-surface", tmp_path / "a.surf")
    found = ahds.AmiraFile(str(tmp_path / "a.surf"))
    found.read()
    vertices = np.asarray(found.data_streams.Data.Vertices.data)
    assert np.array_equal(vertices, np.concatenate([m.mesh.vertices for m in meshes]))
    patches = found.data_streams.Data.Vertices.Patches
    assert [len(np.asarray(patches[i].Triangles.data)) for i in range(3)] == [
        len(m.mesh.faces) for m in meshes
    ]


def parse_model(path):
    """Objects of a model: name, colour, flags, surfaces, and meshes as (surface, vertices, normals, faces)."""
    raw = path.read_bytes()
    assert (raw[:8], raw[-4:]) == (b"IMODV1.2", b"IEOF")
    at, objects = 240, []
    for _ in range(struct.unpack(">i", raw[148:152])[0]):
        head = raw[at + 4 : at + 180]
        contours, flags = struct.unpack(">iI", head[128:136])
        count, surfaces = struct.unpack(">2i", head[168:176])
        assert (raw[at : at + 4], contours) == (b"OBJT", 0)
        at, found = at + 180, []
        for _ in range(count):
            assert raw[at : at + 4] == b"MESH"
            points, size, _, _, number = struct.unpack(">iiI2h", raw[at + 4 : at + 20])
            end = at + 20 + 12 * points
            pairs = np.frombuffer(raw[at + 20 : end], ">f4").reshape(-1, 2, 3)
            list_ = np.frombuffer(raw[end : end + 4 * size], ">i4")
            assert (list_[0], list_[-2], list_[-1]) == (-25, -22, -1)
            found.append((number, pairs[:, 0], pairs[:, 1], list_[1:-2].reshape(-1, 3) // 2))
            at = end + 4 * size
        color = tuple(round(255 * v) for v in struct.unpack(">3f", head[144:156]))
        objects.append((head[:64].rstrip(b"\0").decode(), color, flags, surfaces, found))
    assert at == len(raw) - 4
    return objects


def test_imod_has_an_object_for_each_class_in_pixels(meshes, tmp_path):
    export_meshes(meshes, ROOM, "imod-mesh", tmp_path / "a.mod")
    granules, mitochondria = parse_model(tmp_path / "a.mod")
    draws_filled_meshes = 1 << 10 | 1 << 11 | 1 << 8
    assert granules[:4] == ("alpha granule", (1, 254, 1), draws_filled_meshes, 0)  # 40000 is no short
    assert mitochondria[:4] == ("mitochondrion", (1, 171, 254), draws_filled_meshes, 12)
    assert [m[0] for m in mitochondria[4]] == [7, 12]
    _, vertices, normals, faces = mitochondria[4][1]
    made = meshes[1].mesh
    back = (vertices + np.array([0, 0, 0.5])) * (10.0, 8.0, 40.0) + (70.0, -24.0, 80.0)
    assert back == pytest.approx(made.vertices, abs=1e-3)
    assert np.array_equal(faces, made.faces)
    # around voxels x 3:12, y 2:9, z 1:4, whose slices have whole z
    assert vertices.mean(axis=0) == pytest.approx((7.5, 5.5, 2.0), abs=0.2)
    assert normals == pytest.approx(vertex_normals(made), abs=1e-6)


def test_imodmodel_reads_the_meshes(meshes, tmp_path):
    imodmodel = pytest.importorskip("imodmodel")
    export_meshes(meshes, ROOM, "imod-mesh", tmp_path / "a.mod")
    found = imodmodel.ImodModel.from_file(tmp_path / "a.mod")
    head = found.header
    assert (head.xmax, head.ymax, head.zmax, head.pixelsize, head.units) == (30, 20, 7, 10.0, -9)
    assert (head.yscale, head.zscale) == pytest.approx((0.8, 4.0))
    assert [(o.header.name, len(o.meshes)) for o in found.objects] == [
        ("alpha granule", 1),
        ("mitochondrion", 2),
    ]


def test_normals_of_a_ball_point_away_from_its_centre():
    z, y, x = np.ogrid[-6:7, -12:13, -12:13]
    ball = surface(((2 * z) ** 2 + y**2 + x**2 <= 100).astype(np.uint8), 1, (20.0, 10.0, 10.0), smooth_nm=0)
    outward = ball.vertices - ball.vertices.mean(axis=0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    along = (vertex_normals(ball) * outward).sum(axis=1)
    assert along.min() > 0
    assert along.mean() > 0.9


def test_nothing_and_what_is_there_are_refused(meshes, tmp_path):
    for to, name in (("amira-surface", "a.surf"), ("imod-mesh", "a.mod")):
        with pytest.raises(InputError, match=r"expected .*surfaces, found"):
            export_meshes([], ROOM, to, tmp_path / name)
        assert not list(tmp_path.iterdir())
    export_meshes(meshes, ROOM, "imod-mesh", tmp_path / "a.mod")
    with pytest.raises(ExistsError, match="exists already"):
        export_meshes(meshes, ROOM, "imod-mesh", tmp_path / "a.mod")
    with pytest.raises(InputError) as caught:
        export_meshes(meshes, ROOM, "fiji", tmp_path / "b.tif")
    assert str(caught.value) == (
        "--to fiji: expected an image or class labels or object ids, found meshes; formats for that: "
        "amira-surface, imod-mesh"
    )
