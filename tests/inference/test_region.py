"""What is labelled of a volume: a box, a mask, and nothing where there is no tissue."""

import numpy as np
import psutil
import pytest
import zarr
from tiny_models import EXACT, VOXEL_SIZE, chunk_files, make_model, make_volume, write_volume

from densem.blocks import Box, Journal
from densem.errors import ConfigError, ResourceError, ShapeError
from densem.inference import label_volume, predict
from densem.inference.fusion import Fusion
from densem.inference.outputs import Outputs
from densem.inference.region import Region
from densem.volumes import Volume

TILED = EXACT.model_copy(update={"core": (4, 16, 24), "save": ("entropy", "probabilities")})


@pytest.fixture(scope="module")
def model():
    return make_model(seed=4)


def with_(**changes):
    return TILED.model_copy(update=changes)


def read(folder, name):
    return np.asarray(zarr.open_group(folder / f"{name}.zarr")["s0"])


def counted(monkeypatch):
    """How many tiles the network is run on."""
    tiles, original = [], Fusion.pieces

    def counting(self, image, window, normalize):
        tiles.append(window.core)
        return original(self, image, window, normalize)

    monkeypatch.setattr(Fusion, "pieces", counting)
    return tiles


def test_a_box_is_labelled_as_in_the_whole_and_the_rest_is_not(model, tmp_path, monkeypatch):
    volume = make_volume((7, 53, 70))
    whole = label_volume(model, volume, options=TILED)
    tiles = counted(monkeypatch)
    predict(model, volume, tmp_path / "p", with_(box=((1, 3), (20, None), (None, 30))))
    expected = np.full(volume.shape, 255, np.uint8)
    expected[1:3, 20:, :30] = whole[1:3, 20:, :30]
    np.testing.assert_array_equal(read(tmp_path / "p", "classes"), expected)
    outside = expected == 255
    for name in ("confidence", "entropy"):
        found = read(tmp_path / "p", name)
        assert (found[outside] == 0).all()
        assert (found[~outside] > 0).any()
    assert (read(tmp_path / "p", "probabilities")[:, outside] == 0).all()
    assert len(tiles) == 1 * 3 * 2  # of 2 x 4 x 3


def test_a_mask_of_larger_voxels_chooses_voxels_and_tiles(model, tmp_path, monkeypatch):
    volume = make_volume((7, 53, 70))
    coarse = np.zeros((7, 14, 18), np.uint8)  # 4 x 4 voxels each, the last ones clipped
    coarse[2:4, 5, 7:9] = 9
    z, y, x = volume.voxel_size_nm
    mask = write_volume(Volume(coarse, (z, 4 * y, 4 * x)), tmp_path / "mask.zarr")
    whole = label_volume(model, volume, options=TILED)
    tiles = counted(monkeypatch)
    predict(model, volume, tmp_path / "p", with_(mask=mask.path))
    wanted = np.zeros(volume.shape, bool)
    wanted[2:4, 20:24, 28:36] = True
    np.testing.assert_array_equal(read(tmp_path / "p", "classes"), np.where(wanted, whole, 255))
    assert [c.start for c in tiles] == [(0, 16, 24)]


def test_going_on_with_another_region_is_refused(model, tmp_path):
    volume = make_volume((7, 53, 70))
    box = ((0, 4), (0, 16), (0, 24))
    first = predict(model, volume, tmp_path / "p", with_(box=box))
    assert first.classes.provenance["region"] == {"box": [[0, 0, 0], [4, 16, 24]], "mask": None}
    assert "region" not in predict(model, volume, tmp_path / "q", TILED).classes.provenance


def test_windows_of_one_grey_value_are_not_computed(model, tmp_path, monkeypatch):
    volume = make_volume((7, 53, 96))
    array = volume.read().copy()
    array[:, :, 42:] = 17
    empty = Volume(array, volume.voxel_size_nm, attributes=volume.attributes)
    tiles = counted(monkeypatch)
    predict(model, empty, tmp_path / "p", TILED)
    classes = read(tmp_path / "p", "classes")
    assert {c.start[2] for c in tiles} == {0, 24, 48}  # the third sees tissue in its context of 8
    assert (classes[:, :, 72:] == 255).all()
    assert (classes[:, :, :72] != 255).all()
    np.testing.assert_array_equal(label_volume(model, empty, options=TILED), classes)


def test_blocks_without_anything_leave_no_chunk_files(model, tmp_path):
    volume = make_volume((7, 53, 96))
    predict(model, volume, tmp_path / "p", with_(box=((0, 1), (0, 1), (0, 1))))
    files = {
        n: len([p for p in (tmp_path / "p" / f"{n}.zarr/s0/c").rglob("*") if p.is_file()])
        for n in TILED.outputs
    }
    assert files == {"classes": 1, "confidence": 1, "entropy": 1, "probabilities": 4}


SMALL = with_(box=((1, 3), (20, 30), (50, None)))  # in 2 of 2 x 2 x 2 blocks


@pytest.fixture
def written(monkeypatch):
    """The boxes that are written."""
    boxes, original = [], Outputs.write

    def noting(self, box, arrays):
        boxes.append(box)
        return original(self, box, arrays)

    monkeypatch.setattr(Outputs, "write", noting)
    return boxes


@pytest.fixture(params=["box", "mask"])
def part(request, tmp_path):
    """Options for the same part of the volume, as a box and as a mask."""
    if request.param == "box":
        return SMALL
    array = np.zeros((7, 53, 70), np.uint8)
    array[1:3, 20:30, 50:] = 1
    return with_(mask=write_volume(Volume(array, VOXEL_SIZE), tmp_path / "mask.zarr").path)


def test_blocks_without_a_wanted_voxel_are_noted_and_not_written(
    model, volume, part, tmp_path, written, monkeypatch
):
    found = predict(model, volume, tmp_path / "p", part)
    assert [b.start for b in written] == [(0, 0, 48)]
    with monkeypatch.context() as patch:
        patch.setattr(Region, "misses", lambda self, box: False)
        whole = predict(model, volume, tmp_path / "q", part)
    assert len(written) == 1 + 8
    assert chunk_files(tmp_path / "p") == chunk_files(tmp_path / "q")
    assert found.classes.id == whole.classes.id
    assert found.classes.attributes["label_counts"] == whole.classes.attributes["label_counts"]
    records = [Journal(tmp_path / f / "journal").records() for f in "pq"]
    for block in range(8):
        assert records[0][block]["digests"] == records[1][block]["digests"]
        assert records[0][block]["counts"] == records[1][block]["counts"]


def test_a_part_is_taken_up_again(model, volume, part, tmp_path, written, monkeypatch):
    predict(model, volume, tmp_path / "whole", part)
    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            predict(model, volume, tmp_path / "p", part)
    s0 = tmp_path / "p/.confidence.zarr.part/s0"
    (s0 / "c/0/0/1").unlink()  # a shard that was written
    (s0 / "c/1/1").mkdir(parents=True)
    (s0 / "c/1/1/0").write_bytes((tmp_path / "whole/confidence.zarr/s0/c/0/0/1").read_bytes())  # none was
    report = predict(model, volume, tmp_path / "p", part).report
    assert (report.planned, report.resumed, report.done) == (8, 6, 2)
    np.testing.assert_array_equal(read(tmp_path / "p", "confidence"), read(tmp_path / "whole", "confidence"))


def test_room_is_asked_for_the_part_alone(model, volume, tmp_path, monkeypatch):
    usage = psutil.disk_usage("/")
    monkeypatch.setattr(psutil, "disk_usage", lambda path: usage._replace(free=200_000))
    with pytest.raises(ResourceError, match=r"may need up to 520 kB"):
        predict(model, volume, tmp_path / "p", TILED)
    predict(model, volume, tmp_path / "p", SMALL)
    with pytest.raises(ResourceError, match=r"may need up to \d+ kB"):
        predict(model, volume, tmp_path / "q", with_(box=((0, 5), (0, 40), (0, 60))))


@pytest.mark.parametrize("box", [((0, 8), (0, 9), (0, 9)), ((3, 3), (0, 9), (0, 9))])
def test_a_box_outside_or_empty_is_refused(box):
    with pytest.raises(
        ConfigError, match=r"expected ranges with at least one voxel inside 0:7,0:53,0:70, the shape"
    ):
        Region.of(make_volume((7, 53, 70)), box, None)


def test_a_mask_over_another_field_of_view_is_refused(tmp_path):
    volume = make_volume((7, 53, 70))
    mask = write_volume(Volume(np.ones((7, 14, 22), np.uint8), (40.0, 40.0, 32.0)), tmp_path / "mask.zarr")
    with pytest.raises(ShapeError) as caught:
        Region.of(volume, None, mask.path)
    assert str(caught.value) == (
        "--mask mask: expected the field of view of volume, 0 to 280 x 0 to 530 x 0 to 560 nm (z y x), found "
        "0 to 280 x 0 to 560 x 0 to 704 nm; make the mask from that volume, at any of its pyramid levels"
    )


def test_masked_voxels_follow_the_offsets(tmp_path):
    """A mask that begins a mask voxel earlier is read there."""
    volume = make_volume((4, 12, 16))
    array = np.zeros((4, 7, 9), np.uint8)
    array[:, 1, 1] = 1
    shifted = Volume(array, (40.0, 20.0, 16.0), (0.0, -20.0, -16.0))
    region = Region(volume, volume.box, shifted)
    found = np.argwhere(region.wanted(Box((1, 0, 0), (2, 12, 16))))
    assert found.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]


def test_a_box_that_is_wanted_whole_takes_no_memory():
    volume = make_volume((4, 12, 16))
    region = Region.of(volume, ((1, 3), (2, 12), (0, 16)), None)
    inside, across = Box((1, 2, 3), (3, 9, 16)), Box((0, 2, 3), (3, 9, 16))
    assert region.wanted(inside).all()
    assert region.wanted(inside).strides == (0, 0, 0)
    assert region.wanted(across).sum(axis=(1, 2)).tolist() == [0, 7 * 13, 7 * 13]
