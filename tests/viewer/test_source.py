"""Sources: the corner of the first voxel lands where densem has it, whatever the file says."""

import numpy as np
import pytest
import zarr

from densem.errors import InputError
from densem.viewer import Source
from densem.volumes import Volume, ome_zarr, open_volume

SIZE = (40.0, 10.0, 12.5)


def corner_in_neuroglancer(path, source):
    """The corner of the first voxel in nm, by the rules of Neuroglancer's reader, then the source's transform."""
    attributes = ome_zarr.read_attributes(path) if (path / "zarr.json").exists() else {}
    ome = attributes.get("ome", attributes)
    lower = np.zeros(3)
    if "multiscales" in ome:
        steps = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        scale = np.array(steps[0]["scale"][-3:])
        shift = np.array(steps[1]["translation"][-3:]) if len(steps) > 1 else np.zeros(3)
        lower = (shift - scale / 2) / scale
    made = source.transform()
    rank = len(made["matrix"])
    place = np.array(made["matrix"]) @ np.array([*([0.0] * (rank - 3)), *lower, 1.0])
    metres = [made["outputDimensions"][axis][0] for axis in "zyx"]
    return place[-3:] * np.array(metres) * 1e9


def written(path, offset):
    part = ome_zarr.create(path, (3, 5, 7), "uint8")
    part[:] = 1
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], offset, {})
    return ome_zarr.finish(path)


@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (2000.0, -35.0, 6.25)])
def test_own_volumes(tmp_path, offset):
    source = Source.of("k", written(tmp_path / "v.zarr", offset))
    assert (source.zarr, source.leading) == (3, ())
    assert source.shift == (0.5, 0.5, 0.5)
    assert corner_in_neuroglancer(tmp_path / "v.zarr", source) == pytest.approx(offset, abs=1e-6)


def test_transform_is_a_literal(tmp_path):
    made = Source.of("k", written(tmp_path / "v.zarr", (0.0, 0.0, 0.0))).transform()
    assert made == {
        "outputDimensions": {"z": [4e-8, "m"], "y": [1e-8, "m"], "x": [1.25e-8, "m"]},
        "matrix": [[1.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.5], [0.0, 0.0, 1.0, 0.5]],
    }


def test_a_bare_array(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(3, 5, 7), dtype="uint8")
    volume = open_volume(tmp_path / "a.zarr", voxel_size_nm=SIZE)
    source = Source.of("k", Volume(volume.array, SIZE, (80.0, -10.0, 0.0), volume.path))
    assert source.shift == (2.0, -1.0, 0.0)
    assert corner_in_neuroglancer(tmp_path / "none", source) == pytest.approx((80.0, -10.0, 0.0))


def test_version_2_with_channel_and_no_unit(tmp_path):
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(1, 3, 5, 7), dtype="uint8")
    steps = [{"type": "scale", "scale": [1, 4, 2, 2]}, {"type": "translation", "translation": [0, 8, 0, 1]}]
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "zyx")]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    ]
    source = Source.of("k", open_volume(tmp_path / "b.zarr", voxel_size_nm=SIZE))
    assert (source.zarr, source.leading) == (2, ("c",))
    assert source.shift == (-1.5, 0.5, 0.0)  # to the origin: densem has no offset without a unit
    made = source.transform()
    assert next(iter(made["outputDimensions"].items())) == ("c'", [1, ""])
    assert made["matrix"][0] == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_only_from_disk():
    with pytest.raises(InputError, match="only volumes on disk can be looked at"):
        Source.of("k", Volume(np.zeros((2, 2, 2), np.uint8), SIZE))
