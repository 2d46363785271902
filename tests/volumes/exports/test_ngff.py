"""OME-Zarr 0.5 and 0.4, read back by zarr alone, by napari-ome-zarr and by TensorStore where they are."""

from dataclasses import replace

import numpy as np
import pytest
import zarr

from densem.volumes import Volume, open_volume
from densem.volumes.exports import export_volume

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def wide(gray):
    """Two levels: wider than 256."""
    voxels = np.random.default_rng(1).integers(0, 999, (5, 70, 300)).astype(np.uint16)
    return replace(gray, volume=Volume(voxels, (40.0, 8.0, 10.0), (80.0, -24.0, 70.0)))


@pytest.mark.parametrize(("to", "version"), [("ome-zarr", "0.5"), ("ome-zarr-0.4", "0.4")])
def test_metadata_literally(wide, tmp_path, to, version):
    export_volume(wide, to, tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    attrs = dict(group.attrs)
    ome = attrs["ome"] if version == "0.5" else attrs
    scale = ome["multiscales"][0]
    assert (ome if version == "0.5" else scale)["version"] == version
    assert group.metadata.zarr_format == (3 if version == "0.5" else 2)
    assert scale["name"] == "gray"
    assert scale["axes"] == [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
    first, second = (d["coordinateTransformations"] for d in scale["datasets"])
    assert first == [
        {"type": "scale", "scale": [40.0, 8.0, 10.0]},
        {"type": "translation", "translation": [80.0, -24.0, 70.0]},
    ]
    assert second == [
        {"type": "scale", "scale": [40.0, 16.0, 20.0]},
        {"type": "translation", "translation": [80.0, -20.0, 75.0]},
    ]
    levels = [np.asarray(group[d["path"]]) for d in scale["datasets"]]
    assert np.array_equal(levels[0], wide.volume.read())
    blocks = wide.volume.read().reshape(5, 35, 2, 150, 2).astype(float)
    assert np.array_equal(levels[1], np.rint(blocks.mean(axis=(2, 4))).astype(np.uint16))


@pytest.mark.parametrize("to", ["ome-zarr", "ome-zarr-0.4"])
def test_labels_carry_colours_and_the_name_that_webknossos_looks_for(classes, tmp_path, to):
    export_volume(classes, to, tmp_path / "a.zarr")
    attrs = dict(zarr.open_group(tmp_path / "a.zarr", mode="r").attrs)
    ome = attrs.get("ome", attrs)
    assert ome["multiscales"][0]["name"] == "labels"
    colors = {c["label-value"]: c["rgba"] for c in ome["image-label"]["colors"]}
    assert (colors[3], colors[255]) == ([1, 254, 1, 255], [128, 128, 128, 255])
    assert colors[0] == [0, 0, 0, 0]  # background hides nothing
    names = {p["label-value"]: p["name"] for p in ome["image-label"]["properties"]}
    assert names[6] == "dense_granule_core"
    found = open_volume(tmp_path / "a.zarr")
    assert (found.voxel_size_nm, found.offset_nm) == (classes.volume.voxel_size_nm, classes.volume.offset_nm)
    assert np.array_equal(found.read(), classes.volume.read())


@pytest.mark.parametrize("to", ["ome-zarr", "ome-zarr-0.4"])
def test_the_napari_plugin_reads_scale_place_and_colours(classes, tmp_path, to):
    reader = pytest.importorskip("napari_ome_zarr")
    export_volume(classes, to, tmp_path / "a.zarr")
    layers = reader.napari_get_reader(str(tmp_path / "a.zarr"))(str(tmp_path / "a.zarr"))
    data, facts, kind = layers[0]
    assert kind == "labels"
    assert np.array_equal(np.asarray(data[0] if isinstance(data, list) else data), classes.volume.read())
    assert list(facts["scale"]) == [40.0, 8.0, 10.0]
    assert list(facts["units"]) == ["nanometer"] * 3  # version 0.10 drops the translation
    assert np.asarray(facts["colormap"][3]) * 255 == pytest.approx([1, 254, 1, 255])
    assert facts["colormap"][0][3] == 0


@pytest.mark.parametrize(("to", "driver"), [("ome-zarr", "zarr3"), ("ome-zarr-0.4", "zarr")])
def test_tensorstore_reads_the_levels(wide, tmp_path, to, driver):
    tensorstore = pytest.importorskip("tensorstore")
    export_volume(wide, to, tmp_path / "a.zarr")
    name = "s0" if driver == "zarr3" else "0"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(tmp_path / "a.zarr" / name)}}
    assert np.array_equal(tensorstore.open(spec).result().read().result(), wide.volume.read())
