"""All or nothing, names and options, and what every format has in common."""

import contextlib
import errno
import itertools
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from densem.blocks import Box
from densem.errors import ConfigError, ExistsError, FormatError, InputError, NotFoundError, ResourceError
from densem.volumes import Volume, open_stack
from densem.volumes.exports import FORMATS, ExportOptions, choose_format, export_volume, staged

pytestmark = pytest.mark.usefixtures("unsynced")

FILES = {
    "fiji": "a.tif", "amira": "a.am", "mrc": "a.mrc", "imod-model": "a.mod", "ome-zarr": "a.zarr",
    "ome-zarr-0.4": "a.zarr", "neuroglancer": "a", "nrrd": "a.nrrd", "nifti": "a.nii.gz", "rgba-tiff": "a.tif",
    "run-length": "a.json",
}  # fmt: skip


def needed(to):
    if to == "neuroglancer":
        pytest.importorskip("tensorstore")


def test_every_format_is_tried_below():
    assert FILES.keys() == FORMATS.keys()


class Breaking:
    """Voxels of which some cannot be given."""

    shape, dtype = (40, 13, 18), np.dtype(np.uint8)

    def __init__(self, error):
        self.error = error

    def __getitem__(self, key):
        if key[0].stop > 20 or isinstance(self.error, KeyboardInterrupt):
            raise self.error
        return np.ones([len(range(*k.indices(n))) for k, n in zip(key, self.shape, strict=True)], np.uint8)


@pytest.mark.parametrize("to", FILES)
@pytest.mark.parametrize(
    "error", [ValueError("bad chunk"), KeyboardInterrupt()], ids=["corrupt", "interrupted"]
)
def test_what_breaks_off_leaves_what_was_there(classes, tmp_path, to, error):
    needed(to)
    target = tmp_path / FILES[to]
    export_volume(classes, to, target)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.rglob("*")}
    breaking = replace(classes, volume=Volume(Breaking(error), (40.0, 8.0, 10.0)))
    with pytest.raises((FormatError, KeyboardInterrupt)):
        export_volume(breaking, to, target, overwrite=True)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("to", FILES)
def test_nothing_is_replaced_unasked(classes, tmp_path, to):
    needed(to)
    target = tmp_path / FILES[to]
    export_volume(classes, to, target)
    with pytest.raises(ExistsError) as caught:
        export_volume(classes, to, target)
    assert str(caught.value) == f"{target}: exists already; give another --out or --overwrite to replace it"
    export_volume(classes, to, target, overwrite=True)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_nothing(classes, tmp_path, monkeypatch, number):
    def full(*arguments, **named):
        (tmp_path / ".a.am.part").write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("densem.volumes.exports.amira.write_voxels", full)
    with pytest.raises(ResourceError) as caught:
        export_volume(classes, "amira", tmp_path / "a.am")
    assert str(caught.value) == (
        f"{tmp_path / 'a.am'}: the disk was full before all was written ({os.strerror(number)}); nothing was left "
        "behind. Free some, export a --box or a coarser --scale, or choose another place"
    )
    assert not list(tmp_path.iterdir())


def test_numpy_tells_of_a_full_disk_in_words(classes, tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise OSError("160000 requested and 38192 written")

    monkeypatch.setattr("densem.volumes.exports.amira.write_voxels", full)
    with pytest.raises(
        ResourceError, match=r"was full before all was written \(160000 requested and 38192 written\)"
    ):
        export_volume(classes, "amira", tmp_path / "a.am")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_threads_still_write_in_is_removed(tmp_path):
    """As zarr's do for a moment after one of them has failed."""
    stop = threading.Event()

    def write():
        for number in itertools.count():
            if stop.wait(0.001):
                return
            with contextlib.suppress(FileNotFoundError):
                (tmp_path / ".a.part").mkdir(exist_ok=True)
                (tmp_path / f".a.part/{number}").write_bytes(b"x")

    thread = threading.Thread(target=write)

    def begin():
        with staged(tmp_path / "a") as area:
            area.main.mkdir()
            thread.start()
            threading.Timer(0.2, stop.set).start()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        begin()
    thread.join()
    assert not list(tmp_path.iterdir())


def test_a_small_disk_is_refused_before_anything_is_written(gray, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match=r"expected 2.34e-06 GB of free disk, found 1e-06 GB; free some"):
        export_volume(gray, "mrc", tmp_path / "a.mrc")
    assert not list(tmp_path.iterdir())


def test_formats_names_and_options_are_refused_in_plain_words(gray, classes, tmp_path):
    cases = [
        (classes, "fuji", "a.tif", {}, ConfigError, "--to fuji: no such format. Did you mean 'fiji'?"),
        (gray, "rgba-tiff", "a.tif", {}, InputError,
         "--to rgba-tiff: expected class labels, found an image; formats for that: fiji, amira, mrc, ome-zarr, "
         "ome-zarr-0.4, neuroglancer, nrrd, nifti"),
        (gray, "mrc", "a.tif", {}, InputError,
         f"--out {tmp_path / 'a.tif'}: expected a name that ends in .mrc or .rec for MRC for IMOD, found 'a.tif'"),
        (gray, "mrc", "a.mrc", {"unit": "um"}, ConfigError,
         "--unit um with --to mrc: expected none: the format has a unit of its own"),
        (gray, "nifti", "a.nii", {"unit": "nm"}, ConfigError, "--unit nm with --to nifti: expected one of mm, um"),
        (gray, "fiji", "a.tif", {"palette": "schema"}, ConfigError,
         "--palette schema with --to fiji: expected it with rgba-tiff alone; other formats take the schema's "
         "colours"),
        (gray, "fiji", "no/a.tif", {}, NotFoundError,
         f"--out {tmp_path / 'no/a.tif'}: expected its folder {tmp_path / 'no'} to be there; make it first"),
    ]  # fmt: skip
    for source, to, name, options, kind, message in cases:
        with pytest.raises(kind) as caught:
            export_volume(source, to, tmp_path / name, ExportOptions(**options))
        assert str(caught.value) == message
    with pytest.raises(ConfigError) as caught:
        ExportOptions(unit="micron")
    assert str(caught.value).startswith("--unit micron: expected nm, um or mm.")
    assert not list(tmp_path.iterdir())


def test_a_tool_names_its_format(tmp_path):
    assert choose_format("napari", "image", tmp_path / "a.zarr") is FORMATS["ome-zarr"]
    assert choose_format("Slicer", "classes", tmp_path / "a.seg.nrrd") is FORMATS["nrrd"]


@pytest.mark.parametrize("to", ["rgba-tiff", "run-length"])
def test_platelet_em_formats_come_back(classes, tmp_path, to):
    from densem.volumes import Palette
    from densem.volumes.palettes import packed_colors

    path = tmp_path / FILES[to]
    export_volume(classes, to, path)
    stack = open_stack(path)
    if to == "run-length":
        assert np.array_equal(stack.read(), classes.volume.read())
        return
    assert stack.voxel_size_nm == pytest.approx(classes.volume.voxel_size_nm)
    palette = Palette.of_schema(classes.schema)
    colors, clear = packed_colors(stack, Box.of_shape(stack.shape))
    found = palette.lookup()[colors]
    found[clear] = palette.transparent
    assert np.array_equal(found, classes.volume.read())


def test_a_palette_without_grey_refuses_unlabelled_voxels(classes, tmp_path):
    with pytest.raises(
        InputError, match="has a colour for, found 255 in slice 1; palette schema has grey for unlabelled"
    ):
        export_volume(classes, "rgba-tiff", tmp_path / "a.tif", ExportOptions(palette="platelet-em"))
    assert not list(tmp_path.iterdir())


MEASURE = """
import resource, sys
import numpy as np
from densem.schema import LabelSchema
from densem.volumes import Volume
from densem.volumes.exports import Source, export_volume
from pathlib import Path
class Large:
    shape, dtype = (int(sys.argv[3]), 512, 640), np.dtype(np.uint8)
    plane = ((np.arange(512)[:, None] // 64 + np.arange(640) // 64) % 7).astype(np.uint8)
    def __getitem__(self, key):
        deep = len(range(*key[0].indices(self.shape[0])))
        return np.repeat(self.plane[key[1:]][None], deep, axis=0)
source = Source(Volume(Large(), (40.0, 8.0, 10.0)), "classes", "large", LabelSchema.resolve("platelet"))
export_volume(source, sys.argv[1], Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", FILES)
def test_memory_does_not_grow_with_depth(tmp_path, to):
    needed(to)
    peaks = []
    for depth in (160, 800):  # 52 and 262 MB
        command = [sys.executable, "-c", MEASURE, to, str(tmp_path / f"{depth}{FILES[to]}"), str(depth)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 80, peaks  # of the 210 MB that the volume grows by
