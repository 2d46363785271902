"""Neuroglancer's format, read back by a reader written from its description."""

import json

import DracoPy
import numpy as np
import pytest

from densem.meshes.mesh import Mesh
from densem.meshes.precomputed import write_info, write_levels
from densem.meshes.simplification import simplified
from densem.meshes.surface import surface


def read_levels(folder, id):
    """Levels of detail in nm, finest first, and the scale of each."""
    info = json.loads((folder / "info").read_text())
    top = 2 ** info["vertex_quantization_bits"] - 1
    raw, data, at = (folder / f"{id}.index").read_bytes(), (folder / str(id)).read_bytes(), 0

    def take(kind, *shape):
        nonlocal at
        count = int(np.prod(shape))
        found = np.frombuffer(raw, kind, count, at).reshape(shape)
        at += found.nbytes
        return found

    cell, origin = take("<f4", 3), take("<f4", 3)
    (count,) = take("<u4", 1)
    scales, offsets, parts = take("<f4", count), take("<f4", count, 3), take("<u4", count)
    start, levels = 0, []
    for level in range(count):
        places, sizes = take("<u4", 3, parts[level]), take("<u4", parts[level])
        for place, size in zip(places.T, sizes, strict=True):
            part = DracoPy.decode(data[start : start + int(size)])
            start += int(size)
            share = place + part.points / top
            levels.append(
                Mesh(origin + offsets[level] + cell * 2**level * share, part.faces.astype(np.uint32))
            )
            if level:  # wholly in one of the eight parts of the cell
                assert len(np.unique(part.points > top / 2, axis=0)) == 1
    assert at == len(raw)
    assert start == len(data)
    return levels, scales


def test_read_back(tmp_path):
    z, y, x = np.indices((9, 40, 44))
    mask = (4 * (z - 4.2)) ** 2 + (y - 20.1) ** 2 + (0.7 * (x - 22.3)) ** 2 < 14.5**2
    fine = surface(mask, 1, (40.0, 10.0, 7.0), (4000.0, 0.0, 100.0))
    wanted = [fine, simplified(fine, 5.0).mesh, simplified(fine, 20.0).mesh]
    write_levels(tmp_path, 7, wanted)
    write_info(tmp_path, [{"id": 7, "name": "cell-7", "class": "a cell", "volume_nm3": 5.0}])
    levels, scales = read_levels(tmp_path, 7)
    assert len(levels) == 3
    assert (np.diff(scales) > 0).all()
    for number, (found, mesh) in enumerate(zip(levels, wanted, strict=True)):
        assert len(found.faces) == len(mesh.faces)
        assert found.is_closed
        assert found.volume_nm3 == pytest.approx(mesh.volume_nm3, rel=1e-3)
        assert found.box_nm == pytest.approx(mesh.box_nm, abs=0.01 * 2**number)


def test_segment_properties(tmp_path):
    rows = [
        {"id": 7, "name": "cell-7", "class": "cell", "volume_nm3": 5.0},
        {"id": 9, "name": "alpha_granule-9", "class": "alpha granule", "volume_nm3": 2.0},
    ]
    write_info(tmp_path, rows)
    info = json.loads((tmp_path / "info").read_text())
    assert info["@type"] == "neuroglancer_multilod_draco"
    found = json.loads((tmp_path / info["segment_properties"] / "info").read_text())
    assert found["@type"] == "neuroglancer_segment_properties"
    assert found["inline"]["ids"] == ["7", "9"]
    label, kind, volume = found["inline"]["properties"]
    assert label["values"] == ["cell-7", "alpha_granule-9"]
    assert [kind["tags"][v[0]] for v in kind["values"]] == ["cell", "alpha_granule"]
    assert volume["values"] == [5.0, 2.0]
