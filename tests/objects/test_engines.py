"""Objects found by other processes, after kills and on a full disk: the same files, byte by byte."""

import errno
import gc
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from noisy_cells import SIZE, noisy

from densem.blocks import EngineChoice, Journal
from densem.blocks.slurm import Jobs
from densem.errors import ResourceError
from densem.objects import ObjectsOptions, Rules, find_objects
from densem.objects.cutting import Tiling
from densem.objects.finding import WORK
from densem.schema import LabelSchema
from densem.volumes import ome_zarr, open_volume

RULES = {
    "cell": {"fill_holes_nm3": 3e5, "min_volume_nm3": 1e5},
    "mitochondrion": {"method": "watershed", "h_nm": 5.0},
    "alpha_granule": {"h_nm": 8.0, "connectivity": 6},
}
TILES = Tiling(1000, (6, 20, 24), (2, 6, 6))
BLOCK = (13, 24, 31)  # 4 blocks


def find(classes, folder, engine=None, progress=None, **more):
    volume = open_volume(classes)
    rules = Rules.of(LabelSchema.resolve("platelet"), volume.voxel_size_nm, RULES)
    options = ObjectsOptions(BLOCK, engine or EngineChoice(), TILES, **more)
    return find_objects(volume, LabelSchema.resolve("platelet"), rules, folder, options, progress)


def files(folder):
    """Digest of every file that a run must write alike: tables and chunks."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix not in (".json", ".parquet"))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Path of class ids."""
    path, array = tmp_path_factory.mktemp("classes") / "classes.zarr", noisy((13, 47, 61), 0)
    ome_zarr.create(path, array.shape, array.dtype)[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], (100.0, 0.0, 50.0), {"id": "noisy"})
    return ome_zarr.finish(path).path


@pytest.fixture(scope="module")
def here(classes, tmp_path_factory):
    """What one thread makes of them."""
    found = find(classes, tmp_path_factory.mktemp("here") / "o")
    assert {"cells.csv", "objects.csv", "objects-0.zarr/s0/c/0/0/0"} <= set(files(found.folder))
    assert len(found.table["id"]) > 50
    return files(found.folder)


# ---- Dask ------------------------------------------------------------------------------------


def test_dask_workers_write_the_same(classes, here, dask_scheduler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    find(classes, Path("o"), EngineChoice("dask", scheduler=dask_scheduler))
    assert files(tmp_path / "o") == here


@pytest.mark.parametrize("share", [0.05, 0.7])
def test_a_killed_worker_changes_nothing(classes, here, dask_scheduler, tmp_path, share, once):
    from distributed import Client

    def kill():
        with Client(dask_scheduler) as client:
            pids = client.run(os.getpid, on_error="ignore")
        os.kill(next(iter(pids.values())), signal.SIGKILL)

    progress, did = once(share, kill)
    find(classes, tmp_path / "o", EngineChoice("dask", scheduler=dask_scheduler), progress)
    assert did
    assert files(tmp_path / "o") == here


# ---- kill -9 ---------------------------------------------------------------------------------


DYING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_engines
from densem.objects import finding
owner = getattr(finding, {owner!r})
real, calls = getattr(owner, {name!r}), []
def dying(*arguments, **more):
    calls.append(arguments)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **more)
setattr(owner, {name!r}, dying)
test_engines.find(Path({classes!r}), Path({folder!r}), overwrite={overwrite})
"""


def killed(classes, folder, owner, name="__call__", call=2, overwrite=False):
    """Run until that call, at which the process is killed."""
    code = DYING.format(
        tests=os.path.dirname(__file__), owner=owner, name=name, call=call, classes=str(classes),
        folder=str(folder), overwrite=overwrite,
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        ("LabelTask", "__call__", 3),
        ("TileTask", "__call__", 5),
        ("pyramid", "build", 1),
    ],
)
def test_a_killed_process_goes_on(classes, here, tmp_path, owner, name, call):
    killed(classes, tmp_path / "o", owner, name, call)
    assert not (tmp_path / "o/objects.csv").exists()
    find(classes, tmp_path / "o")
    assert files(tmp_path / "o") == here


@pytest.mark.parametrize(
    ("owner", "name", "call"), [("TileTask", "__call__", 2), ("pyramid", "build", 1)], ids=["labels", "ids"]
)
def test_a_shard_that_is_damaged_when_it_goes_on_is_done_again(classes, here, tmp_path, owner, name, call):
    killed(classes, tmp_path / "o", owner, name, call)
    unfinished = [*(tmp_path / "o").glob(".*"), *(tmp_path / "o" / WORK).glob("level-*")]
    shards = [path for folder in unfinished for path in folder.rglob("c/*/*/*") if path.is_file()]
    assert shards
    for path in shards[::2]:
        path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    find(classes, tmp_path / "o")
    assert files(tmp_path / "o") == here


def test_killed_while_new_objects_take_the_place_of_old_ones(classes, here, tmp_path):
    """Between the two renamings; the old ones are put back, and replaced by the next run."""
    find(classes, tmp_path / "o")
    (tmp_path / "o").rename(tmp_path / ".o.old")
    (tmp_path / ".o.new").mkdir()
    find(classes, tmp_path / "o", overwrite=True)
    assert files(tmp_path / "o") == here
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


# ---- a full disk -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk in memory, and a function that makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    try:
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("needs to mount a file system")
    except (AttributeError, FileNotFoundError):
        pytest.skip("needs mount")

    def enlarge(kilobytes):
        grow = ["mount", "-o", f"remount,size={kilobytes}k", str(place)]
        subprocess.run(grow, check=True)

    yield place, enlarge
    gc.collect()  # tracebacks of the runs that failed may hold files that are mapped
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_loses_nothing(classes, here, small_disk):
    """Filled up at one point of the run after the other, and enlarged each time."""
    place, enlarge = small_disk
    failed = []
    for kilobytes in range(80, 2000, 70):
        enlarge(kilobytes)
        try:
            find(classes, place / "o")
            break
        except OSError as error:
            told = isinstance(error, ResourceError)
            if not told and error.errno != errno.ENOSPC:
                raise
            failed.append(str(error))
            assert not (place / "o/objects.csv").exists()
    assert len(failed) > 2
    assert files(place / "o") == here


# ---- Slurm -----------------------------------------------------------------------------------


@pytest.fixture
def on_slurm(slurm, tmp_path):
    (tmp_path / "slurm.toml").write_text(slurm)
    return EngineChoice("slurm", settings=tmp_path)


def jobs_of(folder):
    name = Jobs(Journal(folder.resolve() / "work/journal")).name
    asked = subprocess.run(["squeue", "-h", f"--name={name}", "-o", "%A"], capture_output=True, text=True)
    return asked.stdout.split()


def test_slurm_jobs_write_the_same_though_one_is_cancelled(classes, here, on_slurm, tmp_path, once):
    def cancel():
        subprocess.run(["scancel", "--signal=KILL", *jobs_of(tmp_path / "o")[:1]], check=True)

    progress, did = once(0.3, cancel)
    find(classes, tmp_path / "o", on_slurm, progress)
    assert did
    assert files(tmp_path / "o") == here
    assert jobs_of(tmp_path / "o") == []


SLURM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_engines
from densem.blocks import EngineChoice
choice = EngineChoice("slurm", settings=Path({settings!r}))
test_engines.find(Path({classes!r}), Path({folder!r}), choice)
"""


def test_a_killed_client_of_slurm_goes_on_and_leaves_no_job(classes, here, on_slurm, tmp_path):
    folder = tmp_path / "o"
    code = SLURM.format(
        tests=os.path.dirname(__file__), settings=str(tmp_path), classes=str(classes), folder=str(folder)
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not Journal(folder / "work/level-0/passes/seams/journal").done():
        assert time.monotonic() < deadline
        assert client.poll() is None
        time.sleep(0.01)
    client.send_signal(signal.SIGKILL)
    client.wait()
    assert not (folder / "objects.csv").exists()
    find(classes, folder, on_slurm)
    assert files(folder) == here
    assert jobs_of(folder) == []
    shutil.rmtree(folder)
