"""Sources that other processes open anew: here, what they are sent is taken out of its wrapping again."""

import pickle
import shutil
import socket

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from densem.blocks import Box, UnfitWorkerError
from densem.errors import ConfigError
from densem.volumes import Stack, Volume, ome_zarr, open_stack, open_volume, shared
from densem.volumes.shared import Shared

VOXEL = (40.0, 10.0, 12.0)
BOX = Box((1, 3, 0), (4, 30, 21))


@pytest.fixture(autouse=True)
def nothing_is_open():
    shared._opened.cache_clear()
    yield
    shared._opened.cache_clear()


def compressed(folder, voxels):
    tifffile.imwrite(folder / "a.tif", voxels, compression="zlib", metadata=None)
    return "a.tif", None


def plain(folder, voxels):
    tifffile.imwrite(folder / "a.tif", voxels, metadata=None)
    return "a.tif", None


def hdf5(folder, voxels):
    with h5py.File(folder / "a.h5", "w") as file:
        file["raw/images"] = voxels[None]
        file["other"] = np.zeros((2, 2, 2), np.uint8)
    return "a.h5", "raw/images"


def pngs(folder, voxels):
    (folder / "slices").mkdir()
    for z, plane in enumerate(voxels):
        Image.fromarray(plane).save(folder / f"slices/s{z:02d}.png")
    return "slices", None


def group(folder, voxels):
    zarr.open_group(folder / "a.zarr", mode="w").create_array("deep", data=voxels)
    return "a.zarr", "deep"


@pytest.mark.parametrize("write", [compressed, plain, hdf5, pngs, group])
def test_a_stack_is_opened_anew_and_gives_the_same(tmp_path, voxels, write, monkeypatch):
    name, dataset = write(tmp_path, voxels)
    monkeypatch.chdir(tmp_path)
    stack = open_stack(name, dataset, slices=slice(1, 5))
    sent = pickle.dumps(Shared(stack))
    assert len(sent) < 1000
    monkeypatch.chdir("/")  # a worker may be anywhere
    found = pickle.loads(sent).get()
    assert found is not stack
    assert (found.shape, found.first) == (stack.shape, 1)
    np.testing.assert_array_equal(found.read(BOX), voxels[1:][BOX.slices])
    assert pickle.loads(sent).get() is found


def test_here_it_is_what_it_was(voxels):
    volume = Volume(voxels, VOXEL)
    assert Shared(volume).get() is volume


def write_volume(path, voxels, **attributes):
    ome_zarr.create(path, voxels.shape, voxels.dtype)[:] = voxels
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", VOXEL)], (0.0, 0.0, 0.0), attributes)
    return ome_zarr.finish(path)


def test_a_volume_is_opened_anew(tmp_path, voxels, monkeypatch):
    write_volume(tmp_path / "v.zarr", voxels, id="abc")
    monkeypatch.chdir(tmp_path)
    again = pickle.dumps(pickle.loads(pickle.dumps(Shared(open_volume("v.zarr")))))  # passed on unopened
    monkeypatch.chdir("/")
    found = pickle.loads(again).get()
    assert (found.voxel_size_nm, found.id) == (VOXEL, "abc")
    np.testing.assert_array_equal(found.read(), voxels)


def test_a_machine_that_does_not_see_it_is_named(tmp_path, voxels, monkeypatch):
    plain(tmp_path, voxels)
    sent = pickle.dumps(Shared(open_stack(tmp_path / "a.tif")))
    (tmp_path / "a.tif").unlink()
    monkeypatch.setattr(socket, "gethostname", lambda: "n7")
    with pytest.raises(UnfitWorkerError) as caught:
        pickle.loads(sent).get()
    assert str(caught.value) == (
        f"machine n7 cannot open {tmp_path}/a.tif ({tmp_path}/a.tif: no file or folder there): it must lie on "
        "a disk that all machines see under the same path"
    )


def test_a_machine_that_finds_something_else_there_is_named(tmp_path, voxels, monkeypatch):
    sent = pickle.dumps(Shared(write_volume(tmp_path / "v.zarr", voxels, id="abc")))
    shutil.rmtree(tmp_path / "v.zarr")
    write_volume(tmp_path / "v.zarr", voxels[:, :30], id="abd")
    monkeypatch.setattr(socket, "gethostname", lambda: "n7")
    with pytest.raises(UnfitWorkerError) as caught:
        pickle.loads(sent).get()
    assert str(caught.value) == (
        f"machine n7 finds something else at {tmp_path}/v.zarr: expected 5 x 37 x 23 voxels (abc), found "
        "5 x 30 x 23 voxels (abd); it must lie on a disk that all machines see under the same path"
    )


def test_what_lies_in_memory_cannot_be_sent(tmp_path, voxels):
    with pytest.raises(ConfigError, match="found some in memory; write them to a file first"):
        pickle.dumps(Shared(Stack(voxels, tmp_path / "a.tif", "TIFF")))
    with pytest.raises(ConfigError, match="found one in memory; write it as OME-Zarr first"):
        pickle.dumps(Shared(Volume(voxels, VOXEL)))
