"""The files of a box, and that they are on disk."""

import os

import numpy as np
import pytest
import zarr
from zarr.storage import _local

from densem.blocks import Box, Grid
from densem.volumes import Layout, ome_zarr, shards

LAYOUT = Layout((1, 4, 5), (2, 8, 10))
SHAPE = (5, 19, 33)


@pytest.fixture(params=[(), (3,)], ids=["plain", "channels"])
def array(request, tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    return ome_zarr.create_array(group, "s0", (*request.param, *SHAPE), "uint16", LAYOUT, 7)


def there(array):
    folder = shards._folder(array)
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json")


@pytest.mark.parametrize("box", [Box((2, 8, 10), (5, 19, 30)), Box((4, 16, 30), (5, 19, 33))])
def test_these_files_hold_a_box(array, box):
    array[(..., *box.slices)] = 9
    assert sorted(shards.files(array, box)) == there(array)


def test_all_shards_of_a_box_and_their_folders_are_synced(array, monkeypatch):
    array[..., :4, :16, :20] = 9
    box = Box((2, 8, 10), (5, 19, 33))  # of its shards one a channel is there
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    shards.sync(array, box)
    wanted = [p for p in shards.files(array, box) if p.exists()]
    assert len(wanted) == (array.shape[0] if array.ndim == 4 else 1)
    top = shards._folder(array)
    folders = {f for p in wanted for f in p.parents if f.is_relative_to(top)}
    assert synced == {p.stat().st_ino for p in {*wanted, *folders}}


def test_the_shards_of_a_box_are_removed_and_no_others(array):
    array[:] = 9
    shards.remove(array, Box((2, 8, 10), (4, 19, 30)))
    expected = np.full(array.shape, 9)
    expected[..., 2:4, 8:19, 10:30] = 7
    np.testing.assert_array_equal(np.asarray(array), expected)


def damage(path, how):
    """Change a shard as a disk does: its index, its chunks, or its end."""
    data = bytearray(path.read_bytes())
    if how == "index":
        data[-10] ^= 255
    elif how == "chunks":
        data[: len(data) // 2] = bytes(len(data) // 2)
    path.write_bytes(data[: len(data) // 2] if how == "end" else data)


@pytest.mark.parametrize("how", ["index", "chunks", "end"])
@pytest.mark.parametrize("box", [Box((0, 0, 0), (4, 16, 20)), Box((4, 16, 30), (5, 19, 33))])
def test_a_damaged_shard_is_read_as_none_and_written_over(array, box, how):
    block = np.random.default_rng(3).integers(0, 999, (*array.shape[:-3], *box.shape), np.uint16)
    shards.write(array, box, block)
    paths = shards.files(array, box)
    before = [p.read_bytes() for p in paths]
    damage(paths[-1], how)
    assert shards.read(array, box) is None
    shards.write(array, box, block)
    np.testing.assert_array_equal(shards.read(array, box), block)
    assert [p.read_bytes() for p in paths] == before


def test_a_disk_that_cannot_be_read_is_no_damaged_shard(array, monkeypatch):
    def broken(*arguments):
        raise OSError(5, "Input/output error")

    array[:] = 9
    monkeypatch.setattr(_local, "_get", broken)
    with pytest.raises(OSError, match="Input/output error"):
        shards.read(array, Box((0, 0, 0), SHAPE))


def test_half_written_files_of_unfinished_blocks_are_swept_up(array):
    array[:] = 9
    blocks = Grid(SHAPE, (2, 16, 10))  # of two shards each, 3 x 2 x 4
    folder = shards._folder(array) / "c" / ("1" if array.ndim == 4 else "")
    left = [folder / f"{place}.{'0f' * 16}.partial" for place in ("0/1/2", "1/2/3", "2/0/0")]
    for path in (*left, shards._folder(array) / f"zarr.{'0f' * 16}.partial"):
        path.write_bytes(b"torn")
    before = np.asarray(array)
    shards.sweep(array, blocks, {2, 8})  # that of 0/1/2 is done
    assert [p.exists() for p in left] == [True, False, False]
    np.testing.assert_array_equal(np.asarray(array), before)


def test_a_box_of_fill_values_alone_has_nothing_to_sync(array):
    array[:] = np.uint16(7)
    assert there(array) == []
    shards.sync(array, Box((0, 0, 0), SHAPE))


def test_a_file_system_without_synced_folders_is_none_the_worse(array, monkeypatch):
    original = os.fsync

    def refuses(number):
        def fsync(handle):
            if os.path.isdir(f"/dev/fd/{handle}"):
                raise OSError(number, os.strerror(number))
            original(handle)

        return fsync

    array[..., :2, :8, :10] = 9
    monkeypatch.setattr(os, "fsync", refuses(22))
    shards.sync(array, Box((0, 0, 0), (2, 8, 10)))
    monkeypatch.setattr(os, "fsync", refuses(5))
    with pytest.raises(OSError, match="Input/output error"):
        shards.sync(array, Box((0, 0, 0), (2, 8, 10)))
