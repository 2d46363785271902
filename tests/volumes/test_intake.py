import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import zarr

from densem.blocks import Box, Grid
from densem.errors import (
    ExistsError,
    FormatError,
    InputError,
    NotFoundError,
    ResourceError,
    ShapeError,
    VoxelSizeError,
)  # fmt: skip
from densem.volumes import (
    Volume,
    Writing,
    content_id,
    import_image,
    intake,
    layers,
    measure_intensity,
    ome_zarr,
    open_stack,
    open_volume,
)  # fmt: skip

VOXEL = (40.0, 10.0, 12.0)


@pytest.fixture
def path(tmp_path, image):
    tifffile.imwrite(tmp_path / "a.tif", image, metadata=None)
    return tmp_path / "a.tif"


@pytest.fixture
def small_shards(monkeypatch):
    """Shards and slabs so small that a stack of 6 x 40 x 70 has many, tiled in y as well."""
    monkeypatch.setattr(ome_zarr, "SHARD", (2, 16, 32))
    monkeypatch.setattr(ome_zarr, "CHUNK", (1, 8, 16))
    monkeypatch.setattr(layers, "SLAB_BYTES", 2 * 16 * 70)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_what_was_imported_is_read_by_zarr(tmp_path, image, dtype):
    values = (image.astype(np.float32) * 3 - (100 if dtype in ("int16", "float32") else 0)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata=None)
    volume = import_image(open_stack(tmp_path / "a.tif"), tmp_path / "a.zarr", VOXEL)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(group["s0"][:], values)
    assert group["s0"].dtype == np.dtype(dtype)
    assert group["s0"].shards is not None
    scale = dict(group.attrs)["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]
    assert scale == {"type": "scale", "scale": list(VOXEL)}
    assert volume.intensity.to_dict() == measure_intensity(volume).to_dict()
    assert volume.intensity.mean == pytest.approx(values.mean(), rel=1e-5)


@pytest.mark.parametrize(("dtype", "stored"), [("int8", "int16"), ("float16", "float32"), ("bool", "uint8")])
def test_types_that_are_widened(tmp_path, image, dtype, stored):
    values = (image > 120) if dtype == "bool" else (image // 2).astype(dtype)
    zarr.create_array(tmp_path / "in.zarr", data=values)
    volume = import_image(open_stack(tmp_path / "in.zarr"), tmp_path / "a.zarr", VOXEL)
    assert volume.dtype == np.dtype(stored)
    np.testing.assert_array_equal(volume.read(), values)


@pytest.mark.usefixtures("small_shards")
def test_slabs_cover_every_voxel_once_and_are_whole_shards(tmp_path, path, image):
    shape = image.shape
    boxes = list(intake.slabs(shape, image.dtype, ome_zarr.Layout.fitting(shape)))
    assert len(boxes) > shape[0] // 2
    seen = np.zeros(shape, int)
    for box in boxes:
        seen[box.slices] += 1
        assert box.start[0] % 2 == box.start[1] % 16 == box.start[2] == 0
    assert (seen == 1).all()
    told = []
    volume = import_image(
        open_stack(path), tmp_path / "a.zarr", VOXEL, Writing(progress=lambda *a: told.append(a))
    )
    np.testing.assert_array_equal(volume.read(), image)
    assert told == [(i + 1, len(boxes)) for i in range(len(boxes))]
    assert content_id(volume) == volume.id


def test_the_id_is_that_of_the_content(tmp_path, path, image, monkeypatch):
    one = import_image(open_stack(path), tmp_path / "a.zarr", VOXEL).id
    total = hashlib.sha256(json.dumps([[6, 40, 70], "uint8", [40.0, 10.0, 12.0]]).encode())
    for plane in image:
        total.update(hashlib.sha256(plane.tobytes()).digest())
    assert one == total.hexdigest()[:16]
    monkeypatch.setattr(ome_zarr, "SHARD", (2, 16, 32))
    monkeypatch.setattr(ome_zarr, "CHUNK", (1, 8, 16))
    monkeypatch.setattr(layers, "SLAB_BYTES", 2 * 16 * 70)
    tifffile.imwrite(tmp_path / "b.tif", image, compression="zlib", byteorder=">")
    assert import_image(open_stack(tmp_path / "b.tif"), tmp_path / "b.zarr", VOXEL).id == one
    assert content_id(Volume(image, VOXEL)) == one
    assert content_id(Volume(image, (40.0, 10.0, 12.1))) != one
    image[3, 20, 30] ^= 1
    assert content_id(Volume(image, VOXEL)) != one


def test_a_part_keeps_its_place_and_its_lineage(tmp_path, path, image):
    writing = Writing(provenance={"command": "densem import"})
    volume = import_image(open_stack(path, slices=slice(2, 5)), tmp_path / "a.zarr", VOXEL, writing)
    np.testing.assert_array_equal(volume.read(), image[2:5])
    assert volume.offset_nm == (80, 0, 0)
    assert volume.provenance == {
        "densem": "0.1.0",
        "source": str(path),
        "format": "TIFF",
        "slices": [2, 5],
        "command": "densem import",
    }


def test_voxel_size_from_the_file_or_the_user(tmp_path, path, image, caplog):
    with pytest.raises(VoxelSizeError, match="found none; give it with --voxel-size Z Y X in nm"):
        import_image(open_stack(path), tmp_path / "a.zarr")
    meta = {"axes": "ZYX", "spacing": 0.04, "unit": "micron"}
    tifffile.imwrite(path, image, imagej=True, metadata=meta, resolution=(1 / 0.012, 1 / 0.01))
    assert import_image(open_stack(path), tmp_path / "a.zarr").voxel_size_nm == pytest.approx(VOXEL)
    assert import_image(open_stack(path), tmp_path / "b.zarr", (50, 5, 5)).voxel_size_nm == (50, 5, 5)
    assert "--voxel-size says 50 x 5 x 5 nm; taking the latter" in caplog.text


def refused(error, match, source, target, voxel_size_nm=VOXEL):
    with pytest.raises(error, match=match):
        import_image(source, target, voxel_size_nm)
    assert not [p for p in target.parent.iterdir() if ".zarr" in p.name]


def test_refusals_leave_nothing(tmp_path, image):
    path = tmp_path / "a.tif"
    target = tmp_path / "out" / "a.zarr"
    target.parent.mkdir()
    refused(VoxelSizeError, "above zero, found 0 10 10 nm", tiff(path, image), target, (0, 10, 10))
    rgb = np.stack([image] * 3, -1)
    refused(ShapeError, "expected grey values, found 3 colour values per voxel", tiff(path, rgb), target)
    wide = image.astype(np.float64)
    refused(InputError, "image of uint8, uint16, int16, float32, found float64", tiff(path, wide), target)
    broken = image.astype(np.float32)
    broken[4, 39, 12] = np.inf
    refused(InputError, "found inf at voxel z 4, y 39, x 12", tiff(path, broken), target)
    refused(InputError, "found one value", tiff(path, np.full_like(image, 9)), target)
    table = np.random.default_rng(0).integers(0, 65535, (3, 256)).astype(np.uint16)
    refused(
        InputError,
        "expected grey values, found indices into a colour table",
        tiff(path, image, photometric="palette", colormap=table),
        target,
    )


def tiff(path, values, **options):
    tifffile.imwrite(path, values, metadata=None, **options)
    return open_stack(path)


def test_a_grey_colour_table_is_no_obstacle(tmp_path, image):
    ramp = np.repeat((np.arange(256) * 257).astype(np.uint16)[None], 3, 0)
    source = tiff(tmp_path / "a.tif", image, photometric="palette", colormap=ramp)
    np.testing.assert_array_equal(import_image(source, tmp_path / "a.zarr", VOXEL).read(), image)


def test_the_place_of_nan_counts_from_the_file(tmp_path, image):
    values = image.astype(np.float32)
    values[4, 1, 2] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values, metadata=None)
    refused(
        InputError, "z 4, y 1, x 2", open_stack(tmp_path / "a.tif", slices=slice(2, 6)), tmp_path / "a.zarr"
    )


@pytest.mark.usefixtures("small_shards")
def test_an_error_in_the_middle_leaves_nothing(tmp_path, image):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, compression="zlib", metadata=None)
    source = open_stack(path)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[4].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(300))
    refused(FormatError, "cannot be read", source, tmp_path / "a.zarr")


@pytest.mark.usefixtures("small_shards")
def test_ctrl_c_leaves_nothing_and_keeps_what_was_there(tmp_path, path, image):
    target = tmp_path / "a.zarr"

    def interrupt(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_image(open_stack(path), target, VOXEL, Writing(progress=interrupt))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif"]
    before = import_image(open_stack(path), target, VOXEL).id
    with pytest.raises(ExistsError, match=r"a\.zarr: exists already; give another name or --overwrite"):
        import_image(open_stack(path), target, VOXEL)
    with pytest.raises(KeyboardInterrupt):
        import_image(open_stack(path), target, VOXEL, Writing(overwrite=True, progress=interrupt))
    assert open_volume(target).id == before
    np.testing.assert_array_equal(open_volume(target).read(), image)


def test_too_little_disk_is_refused_before_starting(tmp_path, path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9, 9, 20_000))
    with pytest.raises(
        ResourceError, match=r"a\.zarr: expected 2.35e-05 GB of free disk .*found 2e-05 GB; free some"
    ):
        import_image(open_stack(path), tmp_path / "deep" / "er" / "a.zarr", VOXEL)
    assert not (tmp_path / "deep").exists()


KILLED = """
import sys, time
from pathlib import Path
from densem.volumes import Writing, import_image, layers, ome_zarr, open_stack
ome_zarr.SHARD, ome_zarr.CHUNK, layers.SLAB_BYTES = (1, 16, 32), (1, 8, 16), 1
def hang(done, total):
    Path(sys.argv[1] + ".begun").touch()
    time.sleep(600)
import_image(open_stack(sys.argv[1]), Path(sys.argv[2]), (40, 10, 12), Writing(progress=hang))
"""


def test_a_kill_leaves_nothing_at_the_target(tmp_path, path, image):
    target = tmp_path / "a.zarr"
    child = subprocess.Popen([sys.executable, "-c", KILLED, path, target])
    deadline = time.monotonic() + 300
    while not (tmp_path / "a.tif.begun").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not target.exists()
    with pytest.raises(NotFoundError):
        open_volume(target)
    np.testing.assert_array_equal(import_image(open_stack(path), target, VOXEL).read(), image)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "a.tif.begun", "a.zarr"]


BOUNDED = """
import resource, sys
from pathlib import Path
import numpy as np, tifffile, h5py, zarr
from densem.volumes import import_image, layers, ome_zarr, open_stack
size = int(next(r for r in open("/proc/self/status") if r.startswith("VmSize")).split()[1]) * 1024
limit = size + int(sys.argv[3]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
if len(sys.argv) > 4:
    layers.SLAB_BYTES = int(sys.argv[4])
volume = import_image(open_stack(sys.argv[1]), Path(sys.argv[2]), (40, 10, 12))
print(volume.id, volume.shape)
"""


def sparse_tiff(path, shape):
    """A BigTIFF that takes little disk: zeros but for noise in every eighth slice."""
    stack = tifffile.memmap(path, shape=shape, dtype=np.uint8, bigtiff=True, metadata=None)
    noise = np.random.default_rng(0).integers(1, 255, shape[1:], dtype=np.uint8)
    stack[:: max(8, shape[0] // 16)] = noise
    stack.flush()


def import_bounded(tmp_path, shape, *limits):
    sparse_tiff(tmp_path / "big.tif", shape)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, "-c", BOUNDED, tmp_path / "big.tif", tmp_path / "big.zarr", *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert open_volume(tmp_path / "big.zarr").shape == shape
    box = Box((shape[0] // 2, 3, 5), (shape[0] // 2 + 2, 60, 70))
    np.testing.assert_array_equal(
        open_volume(tmp_path / "big.zarr").read(box), open_stack(tmp_path / "big.tif").read(box)
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs limits on the address space")
def test_a_volume_larger_than_the_memory_it_is_allowed(tmp_path):
    """250 MB within 215 MB above what the interpreter and the libraries take; threads of a busy machine count."""
    import_bounded(tmp_path, (240, 1040, 1000), 215, 16 * 2**20)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs limits on the address space")
def test_a_volume_many_times_larger_than_the_memory_it_is_allowed(tmp_path):
    """2 GB within 0.7 GB, with slabs of the default size."""
    import_bounded(tmp_path, (500, 2000, 2050), 700)


def test_grids_of_slabs_need_no_special_shapes():
    for shape in ((1, 1, 1), (33, 513, 5), (7, 3000, 2999)):
        boxes = list(intake.slabs(shape, np.dtype(np.float32), ome_zarr.Layout.fitting(shape)))
        assert sum(b.size for b in boxes) == Box.of_shape(shape).size
        assert all(b in set(Grid(shape, boxes[0].shape)) for b in boxes)
