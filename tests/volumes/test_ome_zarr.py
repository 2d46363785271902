import json

import numpy as np
import pytest
import zarr

from densem.errors import ExistsError, ShapeError
from densem.volumes import Layout, ome_zarr, open_volume


@pytest.mark.parametrize("shape", [(1, 7, 9), (40, 700, 130), (5, 128, 128), (1000, 3000, 5000)])
def test_a_layout_fits(shape):
    layout = Layout.fitting(shape)
    assert all(s % c == 0 for s, c in zip(layout.shard, layout.chunk, strict=True))
    assert all(c <= n for c, n in zip(layout.chunk, shape, strict=True))
    assert all(s <= full for s, full in zip(layout.shard, ome_zarr.SHARD, strict=True))


def test_a_layout_must_be_whole_chunks():
    with pytest.raises(ShapeError, match=r"found shard \(30, 512, 512\) and chunk \(16, 128, 128\)"):
        Layout((16, 128, 128), (30, 512, 512))


def written(path, values, attributes=None):
    array = ome_zarr.create(path, values.shape, values.dtype)
    array[:] = values
    part = ome_zarr.temporary(path)
    ome_zarr.describe(part, [("s0", (40.0, 10.0, 12.0))], (80.0, 5.0, 6.0), attributes or {})
    return ome_zarr.finish(path)


def test_round_trip_and_metadata_as_other_programs_read_it(tmp_path, voxels):
    volume = written(tmp_path / "a.zarr", voxels, {"id": "abc"})
    np.testing.assert_array_equal(volume.read(), voxels)
    assert (volume.voxel_size_nm, volume.offset_nm, volume.id) == ((40, 10, 12), (80, 5, 6), "abc")
    stored = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    assert stored["zarr_format"] == 3
    ome = stored["attributes"]["ome"]
    assert ome["version"] == "0.5"
    scale = ome["multiscales"][0]
    assert scale["axes"] == [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    assert scale["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [40.0, 10.0, 12.0]},
        {"type": "translation", "translation": [80.0, 5.0, 6.0]},
    ]
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr" / "s0", mode="r")[:], voxels)


def test_nothing_is_replaced_unasked(tmp_path, voxels):
    written(tmp_path / "a.zarr", voxels)
    with pytest.raises(ExistsError, match=r"a\.zarr: exists already; give another name or --overwrite"):
        ome_zarr.create(tmp_path / "a.zarr", voxels.shape, voxels.dtype)


def test_replacing_keeps_the_old_one_until_the_end(tmp_path, voxels):
    path = tmp_path / "a.zarr"
    written(path, voxels)
    array = ome_zarr.create(path, voxels.shape, voxels.dtype, overwrite=True)
    array[:] = voxels // 2
    np.testing.assert_array_equal(open_volume(path).read(), voxels)
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", (1.0, 2.0, 3.0))], (0, 0, 0), {})
    np.testing.assert_array_equal(ome_zarr.finish(path, overwrite=True).read(), voxels // 2)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_attributes_are_changed_one_by_one(tmp_path, voxels):
    written(tmp_path / "a.zarr", voxels, {"id": "abc", "kind": "image"})
    ome_zarr.update_attributes(tmp_path / "a.zarr", kind="labels")
    assert ome_zarr.read_attributes(tmp_path / "a.zarr")["densem"] == {"id": "abc", "kind": "labels"}
