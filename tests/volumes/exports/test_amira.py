"""Amira mesh: the header literally, the voxels as any reader takes them."""

import re
from dataclasses import replace

import numpy as np
import pytest

from densem.schema import LabelSchema
from densem.volumes import Volume
from densem.volumes.exports import ExportOptions, export_volume

HEADER = """\
# AmiraMesh BINARY-LITTLE-ENDIAN 2.1

define Lattice 18 13 5

Parameters {
    Units {
        Coordinates "nm"
    }
    Content "18x13x5 ushort, uniform coordinates",
    BoundingBox 75 245 -20 76 100 260,
    CoordType "uniform"
}

Lattice { ushort Data } @1

# Data section follows
@1
"""


def test_an_image_literally(gray, tmp_path):
    export_volume(gray, "amira", tmp_path / "a.am")
    raw = (tmp_path / "a.am").read_bytes()
    assert raw.startswith(HEADER.encode())
    voxels = np.frombuffer(raw[len(HEADER) : -1], "<u2").reshape(5, 13, 18)  # x fastest
    assert np.array_equal(voxels, gray.volume.read())
    assert raw[-1:] == b"\n"


def read_labels(path):
    """Materials by position, and voxels: a reader of our own, after the published header alone."""
    head, raw = path.read_bytes().split(b"\n@1\n", 1)
    text = head.decode()
    nx, ny, nz = map(int, re.search(r"define Lattice (\d+) (\d+) (\d+)", text).groups())
    kind = re.search(r"Lattice \{ (\w+) Labels \} @1", text).group(1)
    dtype = {"byte": "u1", "ushort": "<u2", "int": "<i4"}[kind]
    rows = re.findall(r"(\w+) \{\s+Color ([\d.e-]+) ([\d.e-]+) ([\d.e-]+),\s+Id (\d+)\s+\}", text)
    voxels = np.frombuffer(raw[:-1], dtype).reshape(nz, ny, nx)
    return [(r[0], *(round(255 * float(v)) for v in r[1:4]), int(r[4])) for r in rows], voxels, text


def test_labels_have_a_material_at_the_position_of_each_id(classes, tmp_path):
    export_volume(classes, "amira", tmp_path / "a.am")
    rows, voxels, _ = read_labels(tmp_path / "a.am")
    assert rows[2] == ("mitochondrion", 1, 171, 254, 3)
    assert rows[6] == ("dense_granule_core", 245, 0, 203, 7)
    assert (rows[7][0], rows[255][0], len(rows)) == ("unused_7", "unlabelled", 256)
    assert [r[4] for r in rows] == list(range(1, 257))
    assert np.array_equal(voxels, classes.volume.read())


def test_materials_end_with_the_classes_where_everything_is_labelled(tmp_path):
    schema = LabelSchema.from_table(
        {"b g": {"id": 0, "color": "#000000"}, "1st-one": {"id": 2, "color": "#ff0080"}}, "x"
    )
    from densem.volumes.exports import Source

    voxels = np.zeros((2, 3, 4), np.uint8)
    voxels[1, 2, 1] = 2
    export_volume(Source(Volume(voxels, (4.0, 2.0, 1.0)), "classes", "a", schema), "amira", tmp_path / "a.am")
    rows, found, text = read_labels(tmp_path / "a.am")
    assert [r[0] for r in rows] == ["b_g", "unused_1", "_1st_one"]
    assert rows[2][1:] == (255, 0, 128, 3)
    assert "BoundingBox 0.5 3.5 1 5 2 6," in text
    assert np.array_equal(found, voxels)


@pytest.mark.parametrize(("unit", "told", "box"), [("um", "µm", "0.075 0.245 -0.02 0.076 0.1 0.26")])
def test_other_units(objects, tmp_path, unit, told, box):
    export_volume(objects, "amira", tmp_path / "a.am", ExportOptions(unit=unit))
    rows, voxels, text = read_labels(tmp_path / "a.am")
    assert rows == []
    assert f'Coordinates "{told}"' in text
    assert f"BoundingBox {box}," in text
    assert voxels.dtype == np.int32
    assert np.array_equal(voxels, objects.volume.read())


def test_signed_and_float_images(gray, tmp_path):
    for dtype, name in (("int16", "short"), ("float32", "float"), ("uint8", "byte")):
        voxels = gray.volume.read().astype(dtype)
        source = replace(gray, volume=Volume(voxels, (40.0, 8.0, 10.0)))
        export_volume(source, "amira", tmp_path / f"{name}.am")
        raw = (tmp_path / f"{name}.am").read_bytes()
        assert f"Lattice {{ {name} Data }} @1".encode() in raw
        assert np.array_equal(
            np.frombuffer(raw[-1 - voxels.nbytes : -1], voxels.dtype).reshape(5, 13, 18), voxels
        )


def test_ahds_reads_lattice_materials_and_voxels(classes, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "string_", np.bytes_, raising=False)  # its version 0.2 asks for it
    ahds = pytest.importorskip("ahds")
    source = replace(
        classes, volume=Volume(classes.volume.read() % 7, (40.0, 8.0, 10.0), (80.0, -24.0, 70.0))
    )
    export_volume(source, "amira", tmp_path / "a.am")
    found = ahds.AmiraFile(str(tmp_path / "a.am"))
    found.read()
    told = found.header.Parameters
    assert told.BoundingBox == [75, 245, -20, 76, 100, 260]
    assert told.Units.Coordinates == "nm"
    granule = told.Materials[3]
    assert (granule.name, granule.Id) == ("alpha_granule", 4)
    assert granule.Color == pytest.approx([1 / 255, 254 / 255, 1 / 255], abs=1e-5)
    assert np.array_equal(np.asarray(found.data_streams.Labels.data), source.volume.read())
