"""Literals counted by hand, and numbers of files and bytes as a real prediction writes them."""

import os

import pytest
from tiny_models import EXACT, VOXEL_SIZE, make_model, make_volume

from densem.inference import predict
from densem.inference.footprint import Footprint, Level, levels_of
from densem.inference.outputs import layout_for
from densem.volumes import Layout

OPTIONS = EXACT.model_copy(update={"core": (4, 20, 72), "save": ("entropy", "probabilities")})
SHAPE = (6, 40, 530)  # two coarser levels: of 265 and of 133 voxels along x


def test_one_level_by_hand():
    level = Level((5, 9, 14), Layout((2, 2, 5), (2, 4, 10)))
    assert level.shards == 3 * 3 * 2
    assert level.folders == 1 + 1 + 3 + 3 * 3  # s0, c, one for each z, one for each z and y
    chunks = 3 * 5 * 3
    assert level.largest == chunks * 20 + 18 * (4 * 32 + 4)
    assert level.raw == 5 * 9 * 14


def test_channels_by_hand():
    level = Level((5, 9, 14), Layout((2, 2, 5), (2, 4, 10)), voxel_bytes=4, channels=7)
    assert level.shards == 7 * 18
    assert level.folders == 2 + 7 + 7 * 3 + 7 * 9
    assert level.raw == 4 * 7 * 630


def test_an_output_by_hand():
    found = Footprint.of(
        [Level((4, 8, 8), Layout((4, 8, 8), (4, 8, 8))), Level((4, 4, 4), Layout.fitting((4, 4, 4)))]
    )
    assert (found.files, found.folders) == ((1 + 1) * 2 + 1, 4 * 2 + 1)
    assert found.inodes == 14


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footprint") / "p"
    predict(make_model("planar"), make_volume(SHAPE), folder, OPTIONS)
    return folder


@pytest.mark.parametrize(
    ("name", "levels"), [("classes", 3), ("confidence", 3), ("entropy", 3), ("probabilities", 1)]
)
def test_equals_what_is_written(written, name, levels):
    found = levels_of(name, SHAPE, layout_for((4, 20, 72), SHAPE), VOXEL_SIZE, 4)
    assert len(found) == levels
    expected = Footprint.of(found)
    walked = list(os.walk(written / f"{name}.zarr"))
    files = [os.path.join(place, f) for place, _, names in walked for f in names]
    assert expected.files == len(files)
    assert expected.folders == len(walked)
    size = sum(os.path.getsize(f) for f in files)
    assert size <= expected.largest
    assert expected.raw <= expected.largest


def test_an_odd_side_is_rounded_up_and_coarse_axes_are_left():
    found = levels_of("classes", (7, 601, 301), Layout(), (40.0, 10.0, 10.0), 4)
    assert [level.shape for level in found] == [(7, 601, 301), (7, 301, 151), (7, 151, 76)]


def test_a_volume_that_cannot_be_compressed_stays_below_the_bound(tmp_path):
    """Random confidence: the bound holds even where compression costs bytes."""
    import numpy as np
    import zarr

    from densem.volumes import ome_zarr

    layout = Layout((3, 8, 8), (6, 16, 16))
    group = zarr.open_group(tmp_path / "v.zarr", mode="w", zarr_format=3)
    array = ome_zarr.create_array(group, "s0", (11, 30, 45), "uint8", layout)
    array[:] = np.random.default_rng(0).integers(0, 256, array.shape, dtype=np.uint8)
    size = sum(f.stat().st_size for f in (tmp_path / "v.zarr/s0/c").rglob("*") if f.is_file())
    assert array.size < size <= Level((11, 30, 45), layout).largest
