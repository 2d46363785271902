"""Imports that a crew writes layer by layer: the same files as slab by slab, and the same refusals."""

import hashlib
import threading

import numpy as np
import pytest
import tifffile

from densem.blocks import Box, LocalCrew, RunOptions, Stopped
from densem.errors import FormatError, IncompleteError, InputError, IntegrityError, SchemaError
from densem.schema import LabelSchema
from densem.volumes import (
    LabelCoding,
    Palette,
    Volume,
    Writing,
    content_id,
    import_image,
    import_labels,
    import_objects,
    layers,
    ome_zarr,
    open_stack,
    pyramid,
)  # fmt: skip
from densem.volumes.intake import GreyReader
from densem.volumes.layers import LayerTask, SliceHashes, layer_grid, slab_grid
from densem.volumes.ome_zarr import Layout

VOXEL = (40.0, 10.0, 12.0)
SCHEMA = LabelSchema.resolve("platelet")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """7 slices are three whole layers and a thin one, each of three slabs; there are coarser levels."""
    monkeypatch.setattr(ome_zarr, "SHARD", (2, 16, 32))
    monkeypatch.setattr(ome_zarr, "CHUNK", (1, 8, 16))
    monkeypatch.setattr(layers, "SLAB_BYTES", 2 * 16 * 70)
    monkeypatch.setattr(pyramid, "SMALLEST", 16)


@pytest.fixture
def image():
    rng = np.random.default_rng(3)
    ramp = np.linspace(60, 180, 70) + np.linspace(0, 30, 40)[:, None]
    return (ramp + rng.normal(0, 12, (7, 40, 70))).clip(1, 250).astype(np.uint8)


@pytest.fixture
def labels():
    return np.random.default_rng(0).choice([0, 1, 2, 3, 4, 5, 6, 255], (7, 40, 70)).astype(np.uint8)


def tiff(path, values, **options):
    tifffile.imwrite(path, values, metadata=None, **options)
    return open_stack(path)


def by(workers, **options):
    return Writing(crew=LocalCrew(RunOptions(workers, fatal=(InputError,), kept=False, **options)))


def files(folder):
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "zarr.json")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def left(folder):
    return sorted(p.name for p in folder.iterdir() if ".zarr" in p.name)


def test_layers_are_whole_shards_and_cover_every_voxel_once():
    shape, layout = (7, 40, 70), Layout((1, 8, 16), (2, 16, 32))
    grid, slab = layer_grid(shape, layout), slab_grid(shape, np.dtype(np.uint8), layout)
    assert (len(grid), len(slab)) == (4, 12)
    seen = np.zeros(shape, int)
    for layer in grid:
        for box in slab.within(layer):
            assert layer.contains(box)
            assert box.start[0] % 2 == box.start[1] % 16 == box.start[2] == 0
            seen[box.slices] += 1
    assert (seen == 1).all()


def test_hashes_of_slices_are_those_of_their_bytes(image):
    hashes = SliceHashes(7)
    for y in (0, 16, 32):
        hashes.add(image[:, y : y + 16])
    assert hashes.digests() == [hashlib.sha256(plane.tobytes()).digest() for plane in image]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "lzw", "rowsperstrip": 7}])
def test_an_image_is_the_same_by_any_crew(tmp_path, image, workers, options):
    source = tiff(tmp_path / "a.tif", image, **options)
    one = import_image(source, tmp_path / "one.zarr", VOXEL)
    told = []
    writing = Writing({"command": "x"}, progress=lambda *a: told.append(a), crew=by(workers).crew)
    many = import_image(source, tmp_path / "many.zarr", VOXEL, writing)
    np.testing.assert_array_equal(many.read(), image)
    assert many.id == one.id == content_id(Volume(image, VOXEL))
    assert many.attributes["intensity"] == one.attributes["intensity"]
    assert many.provenance == {**one.provenance, "command": "x"}
    assert files(tmp_path / "many.zarr") == files(tmp_path / "one.zarr")
    assert any(name.startswith("s2/") for name in files(tmp_path / "many.zarr"))
    assert told[0] == (0, image.size)
    assert told[-1] == (image.size, image.size)
    assert left(tmp_path) == ["many.zarr", "one.zarr"]


@pytest.mark.parametrize("workers", [1, 3])
def test_labels_are_the_same_by_any_crew(tmp_path, labels, workers):
    like = Volume(np.zeros(labels.shape, np.uint8), VOXEL)
    source = tiff(tmp_path / "l.tif", labels, compression="zlib")
    one = import_labels(source, tmp_path / "one.zarr", SCHEMA, like)
    many = import_labels(source, tmp_path / "many.zarr", SCHEMA, like, None, by(workers))
    assert many.attributes == one.attributes
    assert many.attributes["label_counts"] == {
        str(i): int((labels == i).sum()) for i in (0, 1, 2, 3, 4, 5, 6, 255)
    }
    assert files(tmp_path / "many.zarr") == files(tmp_path / "one.zarr")


def test_colours_and_a_value_for_unlabelled_are_the_same_by_a_crew(tmp_path, labels):
    like = Volume(np.zeros(labels.shape, np.uint8), VOXEL)
    colors = np.zeros((256, 3), np.uint8)
    for row in SCHEMA.classes:
        colors[row.id] = row.rgb
    shown = labels.copy()
    shown[shown == 255] = 3
    source = tiff(tmp_path / "c.tif", colors[shown], photometric="rgb", compression="zlib")
    coding = LabelCoding(Palette.of_schema(SCHEMA), 4)
    import_labels(source, tmp_path / "one.zarr", SCHEMA, like, coding)
    many = import_labels(source, tmp_path / "many.zarr", SCHEMA, like, coding, by(3))
    np.testing.assert_array_equal(many.read(), np.where(shown == 4, 255, shown))
    assert files(tmp_path / "many.zarr") == files(tmp_path / "one.zarr")


def test_objects_are_the_same_by_threads(tmp_path):
    ids = np.random.default_rng(2).integers(0, 70_000, (7, 40, 70)).astype(np.uint32)
    like = Volume(np.zeros(ids.shape, np.uint8), VOXEL)
    source = tiff(tmp_path / "o.tif", ids)
    one = import_objects(source, tmp_path / "one.zarr", like)
    many = import_objects(source, tmp_path / "many.zarr", like, by(3))
    np.testing.assert_array_equal(many.read(), ids)
    assert many.attributes == one.attributes
    assert files(tmp_path / "many.zarr") == files(tmp_path / "one.zarr")


# ---- refused: nothing is left ----------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_a_value_that_is_none_ends_it_at_once(tmp_path, image, workers):
    values = image.astype(np.float32)
    values[5, 39, 12] = np.nan
    source = tiff(tmp_path / "a.tif", values)
    with pytest.raises(InputError, match="found nan at voxel z 5, y 39, x 12"):
        import_image(source, tmp_path / "a.zarr", VOXEL, by(workers))
    assert left(tmp_path) == []


def test_a_file_that_cannot_be_read_ends_it_at_once(tmp_path, image):
    source = tiff(tmp_path / "a.tif", image, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        start = tif.pages[4].dataoffsets[0]
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(start)
        file.write(bytes(300))
    with pytest.raises(FormatError, match="cannot be read"):
        import_image(source, tmp_path / "a.zarr", VOXEL, by(2))
    assert left(tmp_path) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_unknown_ids_are_listed_with_their_counts_over_all_layers(tmp_path, labels, workers):
    labels[labels == 2] = 77
    labels[6, :3, :5] = 9
    labels[0, 0, 0] = 78
    like = Volume(np.zeros(labels.shape, np.uint8), VOXEL)
    source = tiff(tmp_path / "l.tif", labels)
    said = []
    for writing in (None, by(workers)):
        with pytest.raises(SchemaError) as caught:
            import_labels(source, tmp_path / "l.zarr", SCHEMA, like, None, writing)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert f"found 77 ({(labels == 77).sum()} voxels), 9 (15 voxels), 78 (1 voxels); add classes" in said[0]
    assert left(tmp_path) == []


def test_a_layer_that_fails_again_and_again_leaves_nothing(tmp_path, image, monkeypatch):
    original = LayerTask.__call__

    def broken(self, index, box):
        if index == 2:
            raise ValueError("odd")
        return original(self, index, box)

    monkeypatch.setattr(LayerTask, "__call__", broken)
    source = tiff(tmp_path / "a.tif", image)
    with pytest.raises(IncompleteError) as caught:
        import_image(source, tmp_path / "a.zarr", VOXEL, by(2, retries=1))
    assert str(caught.value) == (
        "1 of 4 blocks are missing after 2 attempts each: block 2 (z 4:6, y 0:40, x 0:70). First failure: "
        "ValueError: odd. Nothing was kept: repair the cause and run the same again"
    )
    assert left(tmp_path) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_ctrl_c_leaves_nothing(tmp_path, image, workers):
    def interrupt(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    writing = Writing(progress=interrupt, crew=by(workers).crew)
    with pytest.raises(KeyboardInterrupt):
        import_image(tiff(tmp_path / "a.tif", image), tmp_path / "a.zarr", VOXEL, writing)
    assert left(tmp_path) == []


def test_ctrl_c_does_not_wait_for_the_layers_in_work(tmp_path, image, monkeypatch):
    """Three layers are begun; after the interruption none of them goes on with a further slab."""
    reads, gate, original = [], threading.Event(), GreyReader.__call__

    def slow(self, box):
        reads.append(box)
        if box.start[0] != 0:
            assert gate.wait(20)
        return original(self, box)

    def interrupt(done, total):
        if done:
            threading.Timer(0.2, gate.set).start()
            raise KeyboardInterrupt

    monkeypatch.setattr(GreyReader, "__call__", slow)
    writing = Writing(progress=interrupt, crew=by(3).crew)
    with pytest.raises(KeyboardInterrupt):
        import_image(tiff(tmp_path / "a.tif", image), tmp_path / "a.zarr", VOXEL, writing)
    others = [box for box in reads if box.start[0] != 0]
    assert all(box.start[1] == 0 for box in others)
    assert left(tmp_path) == []


# ---- a task by itself ------------------------------------------------------------------------


@pytest.fixture
def task(tmp_path, image):
    path = tmp_path / "a.zarr"
    ome_zarr.create(path, image.shape, image.dtype)
    return LayerTask(
        ome_zarr.temporary(path), lambda box: (image[box.slices], None), Layout.fitting(image.shape)
    )


def test_what_the_disk_does_not_give_back_is_noticed(task, monkeypatch):
    original = layers.zarr.Array.__setitem__

    def forgetful(array, key, values):
        values = values.copy()
        values[1, 4, 33] ^= 1
        original(array, key, values)

    monkeypatch.setattr(layers.zarr.Array, "__setitem__", forgetful)
    with pytest.raises(IntegrityError, match="slab z 4:6, y 0:16, x 0:70 read back differs"):
        task(2, Box((4, 0, 0), (6, 40, 70)))


def test_a_task_that_was_given_up_writes_no_more(task, tmp_path):
    box = Box((4, 0, 0), (6, 40, 70))
    assert len(task(2, box)["notes"]) == 3
    ome_zarr.discard(tmp_path / "a.zarr")
    with pytest.raises(Stopped):
        task(2, box)
    assert left(tmp_path) == []


def test_one_that_is_given_up_while_it_reads_writes_no_more(task, tmp_path, image):
    def read(box):
        ome_zarr.discard(tmp_path / "a.zarr")
        return image[box.slices], None

    with pytest.raises(Stopped):
        LayerTask(task.folder, read, task.layout)(2, Box((4, 0, 0), (6, 40, 70)))
    assert left(tmp_path) == []
