"""Files read back by trimesh."""

import json
import struct

import numpy as np
import pytest
import trimesh

from densem.errors import ConfigError, InputError
from densem.meshes.formats import FILES, Label, check_formats, check_installed, write_mesh
from densem.meshes.surface import surface

LABEL = Label("alpha_granule-17", 17, "alpha granule", (1, 171, 254))


@pytest.fixture(scope="module")
def mesh():
    mask = np.zeros((6, 9, 13), bool)
    mask[1:4, 2:8, 3:12] = True
    return surface(mask, 1, (40.0, 10.0, 7.0), (1000.0, 2000.0, 3000.0))


@pytest.mark.parametrize("format", FILES)
def test_read_back(mesh, tmp_path, format):
    path = tmp_path / f"m.{format}"
    write_mesh(mesh, path, LABEL)
    found = trimesh.load_mesh(path)
    assert found.is_watertight
    assert found.volume == pytest.approx(mesh.volume_nm3, rel=1e-4)
    assert found.bounds == pytest.approx(mesh.box_nm, abs=0.01)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if format == "ply":
        assert found.visual.vertex_colors[0].tolist() == [1, 171, 254, 255]
    if format == "obj":
        assert "# alpha_granule-17, id 17, class alpha granule, unit nm" in path.read_text()[:200]


def test_glb_says_what_it_is(mesh, tmp_path):
    write_mesh(mesh, tmp_path / "m.glb", LABEL)
    raw = (tmp_path / "m.glb").read_bytes()
    head = json.loads(raw[20 : 20 + struct.unpack("<I", raw[12:16])[0]])
    (shape,) = head["meshes"]
    assert shape["extras"] == {"name": LABEL.name, "id": 17, "class": "alpha granule", "unit": "nm"}
    assert head["nodes"][0]["name"] == LABEL.name
    assert "NORMAL" in shape["primitives"][0]["attributes"]
    (material,) = head["materials"]
    assert material["name"] == "alpha granule"
    light = material["pbrMetallicRoughness"]["baseColorFactor"]
    assert light == pytest.approx([0.0003, 0.407, 0.991, 1], abs=0.005)  # linear, not sRGB


def test_what_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"--format plt: no such format\. Did you mean 'ply'"):
        check_formats(("glb", "plt"))
    with pytest.raises(ConfigError, match="no format was named"):
        check_formats(())
    assert check_formats(("glb", "stl", "glb")) == ("glb", "stl")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs trimesh, DracoPy, .* pip install 'densem\[meshes\]'"):
        check_installed(("glb", "precomputed"))
