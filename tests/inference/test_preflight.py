"""What a dry run says against what a real run does, and what it refuses.

The window is measured in this process but for one test: a fresh one takes seconds to load torch.
"""

import importlib
import json
import os

import pytest
from tiny_models import EXACT, VOXEL_SIZE, make_model, make_volume, with_, write_volume

from densem.blocks import Grid
from densem.errors import ConfigError, EmptyError, ExistsError, IntegrityError, ResourceError, VoxelSizeError
from densem.inference import fits, measurement, predict, preflight
from densem.inference.footprint import Footprint
from densem.inference.measurement import Measurement, Timing, measure_here
from densem.model import Ensemble
from densem.volumes import Layout, ome_zarr

module = importlib.import_module("densem.inference.preflight")
TILED = EXACT.model_copy(update={"core": (4, 16, 24), "threads": 1})  # shards of 4 x 32 x 48
ALL = TILED.model_copy(update={"save": ("entropy", "probabilities")})
GB = 10**9


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(module, "measure", measure_here)


def fake(**changes):
    """A measurement of round numbers."""
    facts = {
        "device": "cpu", "precision": "fp32", "threads": 1, "passes": 1, "window_seconds": 2.0,
        "window_voxels": 1000, "timed": (Timing(4, 4, 2.0, 4, 0.0),), "process_bytes": GB,
        "peak_bytes": 3 * GB, "ratio": dict.fromkeys(ALL.outputs, 0.5),
    }  # fmt: skip
    return Measurement(**{**facts, **changes})


@pytest.fixture
def faked(monkeypatch):
    def set_(**changes):
        monkeypatch.setattr(module, "measure", lambda probe: fake(**changes))

    set_()
    return set_


@pytest.fixture
def room(monkeypatch):
    """Sets what the machine has."""
    there = {"disk": 10**15, "inodes": 10**9, "memory": 100 * GB}

    def set_(**changes):
        there.update(changes)

    look = lambda cls, folder, needed: cls(there["disk"], needed, there["inodes"], there["memory"])  # noqa: E731
    monkeypatch.setattr(fits.Room, "look", classmethod(look))
    return set_


def listing(folder):
    return sorted((str(p.relative_to(folder)), p.stat().st_mtime_ns) for p in folder.rglob("*"))


def teravoxel(path, written=True, stored=True):
    """10,000 voxels a side, of which a block in the middle is on disk."""
    array = ome_zarr.create(path, (10_000, 10_000, 10_000), "uint8", Layout((16, 128, 128), (64, 512, 512)))
    if written:
        array[4990:5010, 4900:5100, 4900:5100] = make_volume((20, 200, 200)).read()
    attributes = make_volume().attributes if stored else {}
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", VOXEL_SIZE)], (0, 0, 0), attributes)
    return ome_zarr.finish(path)


# ---- against a real run ----------------------------------------------------------------------


def test_blocks_files_and_disk_are_those_of_the_run(model, tmp_path, here):
    volume = make_volume((4, 37, 300))
    found = preflight(model, volume, tmp_path / "p", ALL)
    facts = found.to_dict()
    report = predict(model, volume, tmp_path / "p", ALL).report
    assert facts["blocks"]["count"] == facts["blocks"]["left"] == report.planned == 1 * 2 * 7
    walked = [w for n in ALL.outputs for w in os.walk(tmp_path / "p" / f"{n}.zarr")]
    files = [os.path.join(place, f) for place, _, names in walked for f in names]
    assert facts["files"]["files"] == len(files)
    assert facts["files"]["folders"] == len(walked)
    journal = [f for _, _, names in os.walk(tmp_path / "p/journal") for f in names]
    assert len(journal) <= facts["files"]["journal_files"]
    size = sum(os.path.getsize(f) for f in files)
    assert size <= facts["disk"]["largest_bytes"]
    assert 0 < facts["disk"]["expected_bytes"] < facts["disk"]["largest_bytes"]
    assert set(facts["disk"]["outputs"]) == set(ALL.outputs)


def test_tiles_are_those_of_the_run(model, volume, tmp_path, faked):
    found = preflight(model, volume, tmp_path / "p", TILED)
    grid = Grid(volume.shape, (4, 16, 24))
    windows = [found.workload.tiling.window(core).shape for core in grid]
    assert found.to_dict()["tiles"]["count"] == len(windows)
    run = sum(z * y * x for z, y, x in windows)
    assert found.times.computing == pytest.approx(run * 2.0 / 1000)


def test_an_unfinished_run_is_gone_on_with(model, volume, tmp_path, faked):
    def interrupt(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, volume, tmp_path / "p", TILED, interrupt)
    before = listing(tmp_path)
    found = preflight(model, volume, tmp_path / "p", TILED)
    blocks = found.to_dict()["blocks"]
    assert 0 < blocks["done"] == blocks["count"] - blocks["left"]
    done = predict(model, volume, tmp_path / "q", TILED)
    assert blocks["count"] == done.report.planned
    assert listing(tmp_path / "p") == [(n.removeprefix("p/"), t) for n, t in before if n.startswith("p/")]
    whole = preflight(model, volume, tmp_path / "new", TILED)
    assert found.times.computing == pytest.approx(whole.times.computing * found.workload.left)
    assert found.room.disk_needed < whole.room.disk_needed
    with pytest.raises(IntegrityError, match="begun with another context"):
        preflight(model, volume, tmp_path / "p", with_(TILED, context=(1, 2, 2)))
    assert preflight(model, volume, tmp_path / "p", with_(TILED, overwrite=True)).workload.left == 1
    assert predict(model, volume, tmp_path / "p", TILED).report.resumed == blocks["done"]


def test_resampled_counts_both_grids(model, tmp_path, faked):
    volume = make_volume((7, 40, 60), voxel_size_nm=(40.0, 10.0, 16.0))
    found = preflight(model, volume, tmp_path / "p", with_(TILED, resample=True))
    facts = found.to_dict()
    assert facts["volume"]["predicted_shape"] == [7, 40, 120]
    one = Footprint.total(
        preflight(model, make_volume((7, 40, 120)), tmp_path / "q", TILED).footprints.values()
    )
    both = Footprint.total(found.footprints.values())
    assert one.files < both.files
    assert list(tmp_path.iterdir()) == []


def test_an_ensemble_with_flips_is_measured_once(volume, tmp_path, here):
    models = Ensemble([make_model(seed=s, name=f"m{s}") for s in (1, 2, 3)])
    measured = preflight(models, volume, tmp_path / "p", with_(TILED, flips="yx")).measured
    assert len(measured.timed) == 1
    assert measured.passes == 3 * 4
    assert measured.window_seconds == pytest.approx(12 * measured.timed[0].seconds)


# ---- a teravoxel -----------------------------------------------------------------------------


def test_a_teravoxel_in_a_fresh_process(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.5)
    volume = teravoxel(tmp_path / "v.zarr")
    (tmp_path / "there").mkdir()
    before = listing(tmp_path)
    options = EXACT.model_copy(update={"threads": 1, "core": (16, 128, 128)})
    found = preflight(make_model("planar"), volume, tmp_path / "there/p", options)
    assert listing(tmp_path) == before
    facts = found.to_dict()
    assert facts["volume"]["voxels"] == 10**12
    assert facts["tiles"]["count"] == 625 * 79 * 79
    assert facts["blocks"]["left"] == facts["blocks"]["count"]
    assert not found.place.constant
    assert found.measured.window_seconds > 0
    assert 10**8 < found.memory.process_bytes < found.memory.worker
    assert facts["disk"]["largest_bytes"] > 2 * 1.25 * 10**12
    assert any("GB of disk" in r or "TB of disk" in r for r in found.refusals)


def test_an_empty_volume_is_measured_and_said(tmp_path, faked, room):
    volume = teravoxel(tmp_path / "v.zarr", written=False, stored=False)
    found = preflight(make_model("planar"), volume, tmp_path / "p", EXACT)
    assert found.place.constant
    assert found.refusals == ()
    assert found.notes[0].startswith(
        f"densem predict would refuse this volume as it is now: {tmp_path / 'v.zarr'}: expected an image, found one"
    )
    assert any(n.startswith("the measured window holds a single value, as did all ") for n in found.notes)
    with pytest.raises(EmptyError):
        predict(make_model("planar"), volume, tmp_path / "p", EXACT)


# ---- what it says ----------------------------------------------------------------------------


def test_json_keys(model, volume, tmp_path, here):
    facts = json.loads(json.dumps(preflight(model, volume, tmp_path / "p", TILED).to_dict()))
    assert list(facts) == [
        "folder", "volume", "models", "tiles", "blocks", "disk", "files", "memory", "measured", "time", "engine",
        "notes", "refusals",
    ]  # fmt: skip
    assert set(facts["time"]) == {
        "window_seconds", "block_seconds", "computing_seconds", "reading_seconds", "writing_seconds",
        "end_seconds", "unit", "work_hours", "wall",
    }  # fmt: skip
    assert [row["workers"] for row in facts["time"]["wall"]] == [1, 8, 64]
    assert facts["time"]["unit"] == "worker-hours"
    assert facts["engine"] == {"name": "local", "workers": 1, "job": None}
    assert facts["refusals"] == []


def test_a_card_is_counted_in_gpu_hours(model, volume, tmp_path, faked):
    faked(device="NVIDIA H100", card_bytes=5)
    found = preflight(model, volume, tmp_path / "p", TILED)
    assert found.to_dict()["time"]["unit"] == "GPU-hours"


def test_a_busy_machine_is_said(model, volume, tmp_path, faked):
    faked(share_of_processor=0.4)
    notes = preflight(model, volume, tmp_path / "p", with_(TILED, workers=2)).notes
    assert notes[0] == (
        "this machine was busy: the measurement had 40% of the processor time that its 1 threads could use; "
        "left alone it may need as little as 40% of the times said"
    )
    assert notes[1].startswith("2 workers on this machine share its processor")


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        (1, "the coarser levels at the end; with more workers they take less, as blocks do"),
        (
            2,
            "the coarser levels at the end, counted as if one worker made them: all 2 do, so that it takes less",
        ),
    ],
)
def test_a_long_end_is_said(model, volume, tmp_path, faked, workers, told):
    faked(pyramid_seconds={"classes": 3600 / volume.box.size})
    found = preflight(model, volume, tmp_path / "p", with_(TILED, workers=workers))
    assert found.notes[-1].startswith("60 min of the ")
    assert found.notes[-1].endswith(f" are {told}")
    faked(pyramid_seconds={"classes": 0.0})
    notes = preflight(model, volume, tmp_path / "p", with_(TILED, workers=workers)).notes
    assert not any("coarser levels" in n for n in notes)


def test_the_end_of_a_resampled_one_is_named(model, tmp_path, faked):
    volume = make_volume((7, 40, 60), voxel_size_nm=(40.0, 10.0, 16.0))
    faked(pyramid_seconds={"classes": 3600 / volume.box.size})
    found = preflight(model, volume, tmp_path / "p", with_(TILED, resample=True, workers=2))
    assert found.notes[-1].endswith(
        " are bringing the labels back to the volume's own voxel size and the coarser levels at the end, counted "
        "as if one worker made them: all 2 do, so that it takes less"
    )


# ---- what it refuses -------------------------------------------------------------------------


def refused(model, volume, folder, options=TILED):
    found = preflight(model, volume, folder, options).refusals
    assert len(found) == 1, found
    return found[0]


def test_too_little_disk(model, tmp_path, faked, room):
    volume = make_volume((7, 53, 300))
    needed = preflight(model, volume, tmp_path / "p", ALL).room.disk_needed
    room(disk=needed)
    assert preflight(model, volume, tmp_path / "p", ALL).refusals == ()
    room(disk=1_000_000)
    assert refused(model, volume, tmp_path / "p", ALL) == (
        f"{tmp_path / 'p'}: expected up to 3.46 MB of disk (classes, confidence, entropy, probabilities), found "
        "1 MB free there; without --save probabilities 828 kB would do; else free 2.46 MB or write to another disk"
    )
    room(disk=1000)
    assert "would do" not in refused(model, volume, tmp_path / "p", ALL)


def test_too_few_inodes(model, volume, tmp_path, faked, room):
    room(inodes=200)
    assert refused(model, volume, tmp_path / "p", ALL) == (
        f"{tmp_path / 'p'}: expected room for 222 files and folders, found 200 that the file system there can "
        "still make; without --save probabilities 157 would do; else write to another disk"
    )
    room(inodes=None)
    assert preflight(model, volume, tmp_path / "p", ALL).refusals == ()


def test_workers_that_do_not_fit(model, volume, tmp_path, faked, room):
    room(memory=7.5 * GB)
    assert refused(model, volume, tmp_path / "p", with_(TILED, workers=4)) == (
        "--block 4 32 48, 4 at a time: expected 9 GB of memory, found 7.5 GB free; --workers 3 would fit"
    )


def test_a_block_that_does_not_fit(model, tmp_path, faked, room):
    volume = make_volume((7, 100, 120))
    options = with_(TILED, block=(8, 128, 144))
    faked(process_bytes=100_000, peak_bytes=200_000)
    room(memory=700_000)
    assert refused(model, volume, tmp_path / "p", options) == (
        "--block 7 100 120, 1 at a time: expected 872 kB of memory, found 700 kB free; --block 8 64 144 would fit"
    )
    fitting = preflight(model, volume, tmp_path / "p", with_(options, block=(8, 64, 144)))
    assert fitting.refusals == ()


def test_not_even_one_shard_fits(model, volume, tmp_path, faked, room):
    room(memory=2 * GB)
    assert refused(model, volume, tmp_path / "p") == (
        "--block 4 32 48, 1 at a time: expected 3 GB of memory, found 2 GB free; even a block of one shard needs "
        "3 GB: have 1 GB more free"
    )


def test_what_predict_refuses_is_refused(model, volume, tmp_path, faked):
    with pytest.raises(VoxelSizeError, match="found 40 x 10 x 16 nm; give --resample"):
        preflight(model, make_volume(voxel_size_nm=(40.0, 10.0, 16.0)), tmp_path / "p", TILED)
    with pytest.raises(ConfigError, match="give 4 32 48"):
        preflight(model, volume, tmp_path / "p", with_(TILED, block=(3, 20, 40)))
    assert list(tmp_path.iterdir()) == []
    predict(model, volume, tmp_path / "p", TILED)
    with pytest.raises(ExistsError, match="a prediction lies there already"):
        preflight(model, volume, tmp_path / "p", TILED)


def test_a_measurement_that_fails_says_why(model, volume, tmp_path, monkeypatch):
    import subprocess

    def killed(*args, **kwargs):
        return subprocess.CompletedProcess([], -9, b"", b"")

    monkeypatch.setattr(measurement.subprocess, "run", killed)
    with pytest.raises(ResourceError) as caught:
        preflight(model, volume, tmp_path / "p", TILED)
    assert str(caught.value) == (
        "measuring: expected a window of 6 x 30 x 40 voxels (z y x) to be labelled on this machine, found: ended "
        "by signal 9, which is often a sign of too little memory; try a smaller --context, --precision bf16 or "
        "another --device"
    )


# ---- clusters --------------------------------------------------------------------------------

SLURM = 'memory = "16GB"\ncores = 4\ntime = "1:00:00"\njobs = 3\n'


@pytest.fixture
def slurm(tmp_path, volume):
    """A volume on disk, options for Slurm, and how its settings are changed."""
    settings = tmp_path / "settings"
    settings.mkdir()

    def write(text=SLURM):
        (settings / "slurm.toml").write_text(text)

    write()
    placed = write_volume(volume, tmp_path / "v.zarr")
    return placed, with_(TILED, engine="slurm", settings=settings), write


def test_slurm_starts_no_job(model, slurm, tmp_path, faked, monkeypatch):
    volume, options, _ = slurm
    monkeypatch.setenv("PATH", "")
    before = listing(tmp_path)
    found = preflight(model, volume, tmp_path / "p", options)
    assert listing(tmp_path) == before
    assert found.refusals == ()
    assert found.to_dict()["engine"] == {
        "name": "slurm", "workers": 3, "job": {"memory": 16 * GB, "seconds": 3600, "jobs": 3, "gpus": 0, "cores": 4},
    }  # fmt: skip
    assert [row["workers"] for row in found.to_dict()["time"]["wall"]] == [1, 3, 8, 64]
    assert found.notes[-1] == (
        "measured on this machine (cpu, fp32, 1 threads), not on a worker of the slurm engine, which may be faster "
        "or slower"
    )


def test_a_job_with_too_little_memory(model, slurm, tmp_path, faked):
    volume, options, write = slurm
    write(SLURM.replace("16GB", "2GB"))
    assert refused(model, volume, tmp_path / "p", options) == (
        "slurm.toml: expected at least 3 GB of memory for a job with blocks of 4 32 48, found 2 GB; memory = "
        '"4GB" would fit'
    )


def test_a_job_that_is_shorter_than_a_block(model, slurm, tmp_path, faked):
    volume, options, write = slurm
    faked(window_seconds=1000.0)
    write(SLURM.replace("1:00:00", "1:05:00"))
    options = with_(options, block=(8, 64, 48))
    assert refused(model, volume, tmp_path / "p", options) == (
        "slurm.toml: expected a job to last for one block, 4.44 h as measured here, found 65 min (the shorter of "
        'time and lifetime); time = "4:30:00" would fit'
    )
    write(SLURM.replace("1:00:00", "1:10:00"))
    assert refused(model, volume, tmp_path / "p", options).endswith(
        'time = "4:30:00" would fit, or --block 4 32 48'
    )


def test_a_gpu_job_is_not_judged_by_a_processor(model, slurm, tmp_path, faked):
    volume, options, write = slurm
    faked(window_seconds=100_000.0)
    write(SLURM + "gpus = 1\n")
    found = preflight(model, volume, tmp_path / "p", options)
    assert found.refusals == ()
    assert any(n.startswith("jobs have a GPU and this machine has none") for n in found.notes)


def test_blocks_that_waste_a_job_are_said(model, slurm, tmp_path, faked):
    volume, options, _ = slurm
    faked(window_seconds=600.0)  # 4 windows: 40 min of an hour
    notes = preflight(model, volume, tmp_path / "p", options).notes
    assert any(n.startswith("a job of 60 min has time for 1.5 blocks of 40 min") for n in notes)


def test_dask_is_not_asked(model, volume, tmp_path, faked):
    placed = write_volume(volume, tmp_path / "v.zarr")
    options = with_(TILED, engine="dask", scheduler="tcp://127.0.0.1:1")
    found = preflight(model, placed, tmp_path / "p", options)
    assert found.to_dict()["engine"]["name"] == "dask"
    with pytest.raises(ConfigError, match="that other machines can open by its path"):
        preflight(model, volume, tmp_path / "p", options)


def test_a_box_is_less_work(model, volume, tmp_path, faked):
    """Two tiles of 4 x 16 x 24 in one block of 4 x 32 x 48, of 24 tiles in 8 blocks."""
    found = preflight(model, volume, tmp_path / "p", with_(TILED, box=((1, 2), (16, 40), (0, 10))))
    assert found.workload.blocks_left == 2
    assert found.workload.left == pytest.approx(4 * 32 * 24 / volume.box.size)


def test_what_a_mask_leaves_out_is_not_known_before(model, volume, tmp_path, faked):
    mask = write_volume(volume, tmp_path / "mask.zarr")
    found = preflight(model, volume, tmp_path / "p", with_(TILED, mask=mask.path))
    assert "what mask mask leaves out is counted as if it were labelled: it takes less" in found.notes
