import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from densem.errors import InputError, SchemaError, ShapeError
from densem.schema import LabelSchema
from densem.volumes import (
    LabelCoding,
    Palette,
    Volume,
    content_id,
    import_image,
    import_labels,
    import_objects,
    label_intake,
    layers,
    ome_zarr,
    open_stack,
)  # fmt: skip
from densem.volumes.palettes import write_rgba
from densem.volumes.run_length import write_run_length

DATA = Path(os.environ.get("DENSEM_TEST_DATA", "/nonexistent"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the data of DENSEM_TEST_DATA")
VOXEL = (40.0, 10.0, 12.0)


@pytest.fixture
def schema():
    return LabelSchema.resolve("platelet")


@pytest.fixture
def like():
    """An image of 5 x 21 x 33 that lies at z = 80 nm."""
    return Volume(np.zeros((5, 21, 33), np.uint8), VOXEL, (80.0, 0.0, 0.0), Path("image.zarr"))


@pytest.fixture
def labels():
    return np.random.default_rng(0).choice([0, 1, 2, 3, 4, 5, 6, 255], (5, 21, 33)).astype(np.uint8)


def tiff(path, values, **options):
    tifffile.imwrite(path, values, metadata=None, **options)
    return open_stack(path)


def counts_of(labels):
    return {str(i): int((labels == i).sum()) for i in np.unique(labels)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
def test_indices_of_any_type(tmp_path, schema, like, labels, dtype, monkeypatch):
    monkeypatch.setattr(ome_zarr, "SHARD", (2, 16, 32))
    monkeypatch.setattr(ome_zarr, "CHUNK", (1, 8, 16))
    monkeypatch.setattr(layers, "SLAB_BYTES", 1)
    monkeypatch.setattr(label_intake, "PIECE_VOXELS", 16 * 33)
    volume = import_labels(tiff(tmp_path / "l.tif", labels.astype(dtype)), tmp_path / "l.zarr", schema, like)
    group = zarr.open_group(tmp_path / "l.zarr", mode="r")
    np.testing.assert_array_equal(group["s0"][:], labels)
    assert group["s0"].dtype == np.uint8
    assert (volume.voxel_size_nm, volume.offset_nm) == (VOXEL, (80.0, 0.0, 0.0))
    assert volume.attributes["label_counts"] == counts_of(labels)
    assert volume.id == content_id(Volume(labels, VOXEL))
    shown = dict(group.attrs)["ome"]["image-label"]
    assert shown["colors"][2] == {"label-value": 2, "rgba": [1, 171, 254, 255]}
    assert shown["properties"][2] == {"label-value": 2, "name": "mitochondrion"}
    assert LabelSchema.from_table(volume.attributes["classes"], "stored") == schema


def test_the_schema_is_stored_whatever_its_order(tmp_path, schema, like, labels):
    volume = import_labels(tiff(tmp_path / "l.tif", labels), tmp_path / "l.zarr", schema, like)
    assert volume.provenance["slices"] == [0, 5]
    assert volume.attributes["kind"] == "labels"


def test_palettes_run_lengths_and_indices_agree(tmp_path, schema, like, labels):
    source = Volume(labels, VOXEL)
    write_rgba(source, tmp_path / "c.tif", Palette.of_schema(schema))
    write_run_length(source, tmp_path / "r.json")
    coding = LabelCoding(Palette.resolve("schema", schema))
    colored = import_labels(open_stack(tmp_path / "c.tif"), tmp_path / "c.zarr", schema, like, coding)
    coded = import_labels(open_stack(tmp_path / "r.json"), tmp_path / "r.zarr", schema, like)
    np.testing.assert_array_equal(colored.read(), labels)
    np.testing.assert_array_equal(coded.read(), labels)
    assert colored.id == coded.id


def test_rgb_without_alpha_and_colour_tables(tmp_path, schema, like, labels):
    labels[labels == 255] = 0
    coding = LabelCoding(Palette.resolve("platelet-em", schema))
    rgb = tiff(tmp_path / "c.tif", schema.rgb_of_id[labels], photometric="rgb")
    np.testing.assert_array_equal(
        import_labels(rgb, tmp_path / "c.zarr", schema, like, coding).read(), labels
    )
    (tmp_path / "p").mkdir()
    for z, plane in enumerate(9 - labels):
        picture = Image.fromarray(plane, "P")
        picture.putpalette(schema.rgb_of_id[9 - np.arange(10)].ravel().tolist())
        picture.save(tmp_path / "p" / f"{z}.png")
    table = open_stack(tmp_path / "p")
    np.testing.assert_array_equal(
        import_labels(table, tmp_path / "p.zarr", schema, like, coding).read(), labels
    )


def test_a_value_that_means_unlabelled(tmp_path, schema, like, labels):
    labels[labels == 0] = 9
    coding = LabelCoding(unlabelled_value=9)
    volume = import_labels(tiff(tmp_path / "l.tif", labels), tmp_path / "l.zarr", schema, like, coding)
    expected = np.where(labels == 9, 255, labels)
    np.testing.assert_array_equal(volume.read(), expected)
    assert volume.attributes["label_counts"] == counts_of(expected)


def refused(error, message, call, tmp_path):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert not [p.name for p in tmp_path.iterdir() if ".zarr" in p.name]


def test_unknown_ids_are_listed_with_counts(tmp_path, schema, like, labels):
    values = labels.astype(np.int32)
    values[0, 0, :3], values[4, 20, :5], values[2, 2, 2] = 7, 1000, -1
    source = tiff(tmp_path / "l.tif", values)
    refused(
        SchemaError,
        "l.tif: expected ids 0, 1, 2, 3, 4, 5, 6 of the schema or 255 (unlabelled), found 1000 (5 voxels), "
        "7 (3 voxels), -1 (1 voxels); add classes to the schema, or name one value with --unlabelled-value",
        lambda: import_labels(source, tmp_path / "l.zarr", schema, like),
        tmp_path,
    )


def test_unknown_colours_are_listed_with_counts(tmp_path, schema, like):
    colors = np.zeros((5, 21, 33, 4), np.uint8)
    colors[3, :2, :4], colors[4, 0, 0] = (1, 2, 0xE0, 255), (9, 9, 9, 255)
    source = tiff(tmp_path / "c.tif", colors, photometric="rgb")
    coding = LabelCoding(Palette.resolve("platelet-em", schema))
    refused(
        SchemaError,
        "expected colours of palette platelet-em, found #0102e0 (8 voxels), #090909 (1 voxels); give the "
        "right",
        lambda: import_labels(source, tmp_path / "l.zarr", schema, like, coding),
        tmp_path,
    )
    refused(
        ShapeError,
        "expected grey values, found 4 colour values per voxel; convert it to 8-bit grey, or give --palette",
        lambda: import_labels(source, tmp_path / "l.zarr", schema, like),
        tmp_path,
    )


def test_many_unknown_ids_are_cut_short(tmp_path, schema, like, monkeypatch):
    values = np.arange(5 * 21 * 33, dtype=np.uint16).reshape(5, 21, 33) + 1000
    source = tiff(tmp_path / "l.tif", values)

    def call():
        import_labels(source, tmp_path / "l.zarr", schema, like)

    refused(SchemaError, "and 3455 more; add classes", call, tmp_path)
    monkeypatch.setattr(label_intake, "MOST_UNKNOWN", 100)
    refused(SchemaError, "more; add classes", call, tmp_path)


def test_shapes_must_fit(tmp_path, schema, like, labels):
    source = tiff(tmp_path / "l.tif", labels[:2])
    for call in (
        lambda: import_labels(source, tmp_path / "l.zarr", schema, like),
        lambda: import_objects(source, tmp_path / "l.zarr", like),
    ):
        refused(
            ShapeError,
            "expected labels of 5 x 21 x 33 voxels (z y x) like the image image.zarr, found 2 x 21 x 33; "
            "give files",
            call,
            tmp_path,
        )


def test_labels_must_be_whole_numbers(tmp_path, schema, like, labels):
    source = tiff(tmp_path / "l.tif", labels.astype(np.float32))
    message = "expected labels as whole numbers, found float32; convert them to 8 or 16 bits"
    refused(InputError, message, lambda: import_labels(source, tmp_path / "l.zarr", schema, like), tmp_path)
    refused(InputError, message, lambda: import_objects(source, tmp_path / "l.zarr", like), tmp_path)


def test_a_palette_needs_colours(tmp_path, schema, like, labels):
    source = tiff(tmp_path / "l.tif", labels)
    coding = LabelCoding(Palette.resolve("platelet-em", schema))
    refused(
        InputError,
        "expected labels as 8-bit RGB or RGBA colours, found 1 value(s) of uint8 per voxel; leave out "
        "--palette",
        lambda: import_labels(source, tmp_path / "l.zarr", schema, like, coding),
        tmp_path,
    )


# ---- objects ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "top", "stored"),
    [
        ("uint8", 200, "uint16"),
        ("int32", 65535, "uint16"),
        ("uint32", 65536, "uint32"),
        ("uint64", 2**40, "uint64"),
    ],
)
def test_objects_take_the_narrowest_type(tmp_path, like, dtype, top, stored):
    ids = np.random.default_rng(0).integers(0, 5, (5, 21, 33)).astype(dtype)
    ids[4, 20, 32] = top
    np_path = tmp_path / "in.zarr"
    zarr.create_array(np_path, data=ids)
    volume = import_objects(open_stack(np_path), tmp_path / "o.zarr", like)
    assert volume.dtype == np.dtype(stored)
    np.testing.assert_array_equal(volume.read(), ids)
    assert volume.attributes["object_count"] == 5
    assert volume.attributes["kind"] == "objects"


def test_every_colour_is_an_object(tmp_path, like):
    colors = np.zeros((5, 21, 33, 4), np.uint8)
    colors[0, 0] = (200, 0, 0, 255)
    colors[1, 1] = (0, 0, 200, 255)
    colors[2:4, 2] = (0, 3, 0, 255)
    colors[3, 3] = (200, 0, 0, 0)
    colors[4, 4] = (0, 0, 0, 255)
    volume = import_objects(tiff(tmp_path / "c.tif", colors, photometric="rgb"), tmp_path / "o.zarr", like)
    expected = np.zeros((5, 21, 33), np.uint16)
    expected[1, 1], expected[2:4, 2], expected[0, 0] = 1, 2, 3
    np.testing.assert_array_equal(volume.read(), expected)
    assert volume.dtype == np.uint16


def test_negative_objects_are_refused(tmp_path, like):
    ids = np.zeros((5, 21, 33), np.int16)
    ids[1, 1, 1] = -4
    refused(
        InputError,
        "expected object ids from 0 up, found -4; 0 means no object",
        lambda: import_objects(tiff(tmp_path / "o.tif", ids), tmp_path / "o.zarr", like),
        tmp_path,
    )


# ---- real data -------------------------------------------------------------------------------


@needs_data
def test_the_published_palettes_equal_the_index_files(tmp_path, schema):
    folder = DATA / "platelet-slices"
    image = import_image(open_stack(folder / "50-images-z0.tif"), tmp_path / "i.zarr", (40, 10, 10))
    coding = LabelCoding(Palette.resolve("platelet-em", schema))
    rgba = open_stack(folder / "50-semantic-z0-rgba.tif")
    labels = import_labels(rgba, tmp_path / "l.zarr", schema, image, coding)
    np.testing.assert_array_equal(
        labels.read(), tifffile.imread(folder / "50-semantic-z0.tif").reshape(1, 800, 800)
    )
    for kind, count in (("cell", 17), ("organelle", 107)):
        rgba = open_stack(folder / f"50-instance-{kind}-z0-rgba.tif")
        objects = import_objects(rgba, tmp_path / f"{kind}.zarr", image)
        indices = tifffile.imread(folder / f"50-instance-{kind}-z0.tif").reshape(1, 800, 800)
        np.testing.assert_array_equal(objects.read(), indices)
        assert objects.attributes["object_count"] == count
    write_rgba(labels, tmp_path / "again.tif", Palette.resolve("platelet-em", schema))
    published = tifffile.imread(folder / "50-semantic-z0-rgba.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "again.tif").reshape(published.shape), published)


@needs_data
def test_unlabelled_slices_stay_unlabelled(tmp_path):
    names = ["background", "membrane", "sheath", "vesicle", "mitochondrion", "density"]
    span = slice(0, 20)
    image = open_stack(DATA / "lucchi" / "train-images.tif", voxel_size_nm=(5, 5, 5), slices=span).volume()
    source = open_stack(DATA / "lucchi" / "train-semantic.tif", slices=span)
    volume = import_labels(source, tmp_path / "l.zarr", LabelSchema.from_names(names), image)
    stored = tifffile.imread(DATA / "lucchi" / "train-semantic.tif")[span]
    np.testing.assert_array_equal(volume.read(), stored)
    assert volume.attributes["label_counts"]["255"] == int((stored == 255).sum()) > 0


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32"])
def test_numbers_of_the_file_by_a_table(tmp_path, schema, like, dtype):
    raw = np.random.default_rng(2).integers(0, 2, (5, 21, 33)).astype(dtype)
    coding = LabelCoding(values={0: 4, 1: 255, 77: 2})
    made = import_labels(tiff(tmp_path / "l.tif", raw), tmp_path / "l.zarr", schema, like, coding)
    assert np.array_equal(made.read(), np.where(raw == 0, 4, 255))


def test_numbers_that_the_table_does_not_have(tmp_path, schema, like):
    raw = np.zeros((5, 21, 33), np.int16)
    raw[2, 3, 4:7], raw[4, 0, 0] = -1, 300
    source = tiff(tmp_path / "l.tif", raw)
    with pytest.raises(
        SchemaError,
        match=r"expected the values 0, 77, found -1 \(3 voxels\), 300 \(1 voxels\); add the others",
    ):
        import_labels(source, tmp_path / "l.zarr", schema, like, LabelCoding(values={77: 2, 0: 1}))
    raw[raw == -1] = 0
    coding = LabelCoding(values={0: 1}, unlabelled_value=300)
    made = import_labels(tiff(tmp_path / "m.tif", raw), tmp_path / "m.zarr", schema, like, coding)
    assert np.array_equal(made.read(), np.where(raw == 300, 255, 1))
