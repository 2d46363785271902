"""Neuroglancer's precomputed format: info literally, chunks by their layout, and by cloud-volume where it is."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from densem.errors import InputError, ResourceError
from densem.volumes import Volume
from densem.volumes.exports import export_volume

SIZE, OFFSET = (40.0, 8.0, 10.0), (80.0, -24.0, 70.0)


def test_without_tensorstore_it_is_refused(gray, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(InputError) as caught:
        export_volume(gray, "neuroglancer", tmp_path / "a")
    assert str(caught.value) == (
        "--to neuroglancer: expected the package tensorstore, which writes this format; install it with  pip "
        "install 'densem[export]'"
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def wide(gray):
    """Three levels, on odd places of the grid."""
    pytest.importorskip("tensorstore")
    voxels = np.random.default_rng(1).integers(0, 999, (3, 70, 517)).astype(np.uint16)
    return replace(gray, volume=Volume(voxels, SIZE, OFFSET))


def raw_chunk(folder, key, x, y, z):
    """An uncompressed chunk as the format defines it: x fastest, no header."""
    name = f"{x[0]}-{x[1]}_{y[0]}-{y[1]}_{z[0]}-{z[1]}"
    shape = (z[1] - z[0], y[1] - y[0], x[1] - x[0])
    return np.frombuffer((folder / key / name).read_bytes(), "<u2").reshape(shape)


def test_image_scales_lie_on_whole_voxels(wide, tmp_path):
    export_volume(wide, "neuroglancer", tmp_path / "a")
    info = json.loads((tmp_path / "a/info").read_text())
    assert (info["type"], info["data_type"], info["num_channels"]) == ("image", "uint16", 1)
    facts = [(s["size"], s["voxel_offset"], s["resolution"], s["encoding"]) for s in info["scales"]]
    assert facts == [
        ([517, 70, 3], [7, -3, 2], [10, 8, 40], "raw"),
        ([259, 36, 3], [3, -2, 2], [20, 16, 40], "raw"),  # x 7:524 -> 3:262, y -3:67 -> -2:34
        ([130, 18, 3], [1, -1, 2], [40, 32, 40], "raw"),
    ]
    voxels = wide.volume.read()
    chunk = raw_chunk(tmp_path / "a", info["scales"][0]["key"], (135, 263), (-3, 67), (2, 5))
    assert np.array_equal(chunk, voxels[:, :, 128:256])
    coarse = raw_chunk(tmp_path / "a", info["scales"][1]["key"], (3, 131), (-2, 34), (2, 5))
    inside = voxels[:, 1:69, 1:255].reshape(3, 34, 2, 127, 2).astype(float).mean(axis=(2, 4))
    assert np.array_equal(
        coarse[:, 1:35, 1:128], np.rint(inside).astype(np.uint16)
    )  # 2 x 2 on the grid from 0
    assert np.array_equal(coarse[:, 0, 0], voxels[:, 0, 0])  # the first voxel, repeated


def test_cloud_volume_reads_images(wide, tmp_path):
    cloudvolume = pytest.importorskip("cloudvolume")
    export_volume(wide, "neuroglancer", tmp_path / "a")
    volume = cloudvolume.CloudVolume(f"precomputed://file://{tmp_path / 'a'}", progress=False)
    assert volume.resolution.tolist() == [10, 8, 40]
    assert volume.voxel_offset.tolist() == [7, -3, 2]
    assert np.array_equal(np.asarray(volume[:])[..., 0].transpose(2, 1, 0), wide.volume.read())


def test_segments_have_names_tags_and_colours(objects, classes, tmp_path):
    pytest.importorskip("tensorstore")
    said = export_volume(objects, "neuroglancer", tmp_path / "a")
    info = json.loads((tmp_path / "a/info").read_text())
    assert (info["type"], info["data_type"], info["segment_properties"]) == (
        "segmentation", "uint32", "segment_properties"
    )  # fmt: skip
    assert info["scales"][0]["encoding"] == "compressed_segmentation"
    told = json.loads((tmp_path / "a/segment_properties/info").read_text())
    assert told == {
        "@type": "neuroglancer_segment_properties",
        "inline": {
            "ids": ["12", "70001"],
            "properties": [
                {"id": "label", "type": "label", "values": ["mitochondrion 12", "alpha_granule 70001"]},
                {
                    "id": "class",
                    "type": "tags",
                    "tags": ["alpha_granule", "mitochondrion"],
                    "values": [[1], [0]],
                },
            ],
        },
    }
    colors = json.loads((tmp_path / "a/segment_colors.json").read_text())
    assert colors == {"segmentColors": {"12": "#01abfe", "70001": "#01fe01"}}
    assert any("shows id 0 as nothing" in line for line in said)
    export_volume(classes, "neuroglancer", tmp_path / "b")
    told = json.loads((tmp_path / "b/segment_properties/info").read_text())["inline"]
    assert told["ids"] == ["1", "2", "3", "4", "5", "6", "255"]
    assert told["properties"][0]["values"][-1] == "unlabelled"


def test_a_tag_is_one_word(objects, tmp_path):
    pytest.importorskip("tensorstore")
    named = replace(objects, class_of={12: "synaptic vesicle", 70001: "alpha granule"})
    export_volume(named, "neuroglancer", tmp_path / "a")
    label, tags = json.loads((tmp_path / "a/segment_properties/info").read_text())["inline"]["properties"]
    assert label["values"] == ["synaptic vesicle 12", "alpha granule 70001"]
    assert (tags["tags"], tags["values"]) == (["alpha_granule", "synaptic_vesicle"], [[1], [0]])


def test_cloud_volume_reads_segmentations(objects, classes, tmp_path):
    cloudvolume = pytest.importorskip("cloudvolume")
    for source in (objects, classes):
        export_volume(source, "neuroglancer", tmp_path / source.kind)
        volume = cloudvolume.CloudVolume(f"precomputed://file://{tmp_path / source.kind}", progress=False)
        assert np.array_equal(np.asarray(volume[:])[..., 0].transpose(2, 1, 0), source.volume.read())


def test_a_place_between_voxels_is_said(gray, tmp_path):
    pytest.importorskip("tensorstore")
    between = replace(gray, volume=Volume(gray.volume.read(), SIZE, (90.0, -24.0, 70.0)))
    said = export_volume(between, "neuroglancer", tmp_path / "a")
    assert (
        "The volume lies at 90 x -24 x 70 nm, between whole voxels; it was moved to the nearest one" in said
    )


def test_only_an_earlier_export_is_replaced(gray, tmp_path):
    pytest.importorskip("tensorstore")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(Exception, match="found a folder that densem has not exported in this format"):
        export_volume(gray, "neuroglancer", tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine/thesis.tex").exists()
    export_volume(gray, "neuroglancer", tmp_path / "a")
    export_volume(gray, "neuroglancer", tmp_path / "a", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "mine"]


def test_a_write_that_fails_is_told_as_any_other(gray, tmp_path, monkeypatch):
    pytest.importorskip("tensorstore")

    class Full:
        dtype = type("T", (), {"numpy_dtype": np.dtype(np.uint16)})

        def __getitem__(self, key):
            return self

        def write(self, block):
            return self

        def exception(self):
            return ValueError("RESOURCE_EXHAUSTED: Error writing local file: No space left on device")

    monkeypatch.setattr("densem.volumes.exports.precomputed._create", lambda *arguments: Full())
    with pytest.raises(
        ResourceError, match=r"the disk was full before all was written \(No space left on device\)"
    ):
        export_volume(gray, "neuroglancer", tmp_path / "a")
    assert not list(tmp_path.iterdir())
