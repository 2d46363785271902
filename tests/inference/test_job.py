"""A prediction whose blocks are done by other processes, through Dask on the loopback interface."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from tiny_models import EXACT, chunk_files, make_model, make_volume, with_, write_volume

from densem.blocks import Box, Journal, UnfitWorkerError
from densem.blocks.status import Status
from densem.errors import ConfigError, ExistsError, IntegrityError, NotFoundError
from densem.inference import job as job_file
from densem.inference import predict
from densem.inference.job import PredictionJob
from densem.inference.prediction import _Prediction
from densem.model import Ensemble
from densem.volumes import pyramid

pytest.importorskip("distributed")

OPTIONS = EXACT.model_copy(
    update={"core": (4, 16, 24), "save": ("entropy", "probabilities"), "threads": 1}
)  # 8 blocks


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A volume on disk and what one process makes of it."""
    folder = tmp_path_factory.mktemp("cluster")
    volume = write_volume(make_volume(), folder / "volume.zarr")
    predict(make_model(), volume, folder / "here", OPTIONS)
    return folder, volume


@pytest.fixture
def there(dask_scheduler):
    return with_(OPTIONS, engine="dask", scheduler=dask_scheduler)


def test_the_same_bytes_as_in_one_process(place, there, tmp_path):
    folder, volume = place
    told = []
    result = predict(make_model(), volume, tmp_path / "p", there, lambda *a: told.append(a))
    assert chunk_files(tmp_path / "p") == chunk_files(folder / "here")
    assert result.classes.id == hashlib_id(folder / "here")
    assert told[-1] == (25970, 25970)
    assert not (tmp_path / "p/journal/job").exists()
    found = Status.of(Journal(tmp_path / "p/journal"))
    assert (found.state, found.engine, found.done) == ("finished", "dask", 8)
    assert found.dashboard.startswith("http://127.0.0.1:")


def hashlib_id(folder):
    from densem.volumes import open_volume

    return open_volume(folder / "classes.zarr").id


def test_an_ensemble_at_another_voxel_size(dask_scheduler, tmp_path):
    volume = write_volume(make_volume((7, 40, 60), voxel_size_nm=(40.0, 10.0, 16.0)), tmp_path / "v.zarr")
    models = Ensemble([make_model(seed=s, name=f"m{s}") for s in (1, 2)])
    options = with_(EXACT, core=(4, 16, 24), resample=True, flips="y", threads=1)
    predict(models, volume, tmp_path / "here", options)
    predict(models, volume, tmp_path / "there",
            with_(options, engine="dask", scheduler=dask_scheduler))  # fmt: skip
    assert chunk_files(tmp_path / "there") == chunk_files(tmp_path / "here")


def test_pyramids_are_made_by_the_same_workers(there, tmp_path, monkeypatch):
    """The client decides on the levels; shards are those of any volume."""
    monkeypatch.setattr(pyramid, "SMALLEST", 16)
    volume = write_volume(make_volume((7, 90, 70)), tmp_path / "volume.zarr")
    predict(make_model(), volume, tmp_path / "here", OPTIONS)
    monkeypatch.setattr(pyramid, "reduce", None)  # from here on of no use in this process
    predict(make_model(), volume, tmp_path / "there", there)
    assert any("/s2/" in name for name in chunk_files(tmp_path / "there"))
    assert chunk_files(tmp_path / "there") == chunk_files(tmp_path / "here")


def test_pyramids_alone_are_made_there_as_well(there, tmp_path, monkeypatch):
    """All blocks were done, and the run was killed before its end."""
    monkeypatch.setattr(pyramid, "SMALLEST", 16)
    volume = write_volume(make_volume((7, 90, 70)), tmp_path / "volume.zarr")
    predict(make_model(), volume, tmp_path / "here", OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(_Prediction, "finish", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict(make_model(), volume, tmp_path / "there", OPTIONS)
    monkeypatch.setattr(pyramid, "reduce", None)  # from here on of no use in this process
    told = []
    report = predict(make_model(), volume, tmp_path / "there", there, lambda *a: told.append(a)).report
    assert (report.resumed, report.done) == (report.planned, 0)
    assert told[-1] == (volume.box.size, volume.box.size)
    assert chunk_files(tmp_path / "there") == chunk_files(tmp_path / "here")
    assert Status.of(Journal(tmp_path / "there/journal")).state == "finished"


def test_no_cluster_is_asked_for_where_nothing_is_left(place, tmp_path, monkeypatch):
    folder, volume = place
    with monkeypatch.context() as patch:
        patch.setattr(_Prediction, "finish", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict(make_model(), volume, tmp_path / "p", OPTIONS)
    nowhere = with_(OPTIONS, engine="dask", scheduler="tcp://127.0.0.1:9")
    assert predict(make_model(), volume, tmp_path / "p", nowhere).report.done == 0
    assert chunk_files(tmp_path / "p") == chunk_files(folder / "here")


def test_a_folder_given_from_where_one_is(place, there, tmp_path, monkeypatch):
    """Workers may be anywhere."""
    monkeypatch.setattr(pyramid, "SMALLEST", 16)
    predict(make_model(), place[1], tmp_path / "here", OPTIONS)
    monkeypatch.chdir(tmp_path)
    predict(make_model(), place[1], Path("p"), there)
    assert any("/s1/" in name for name in chunk_files(Path("p")))
    assert chunk_files(Path("p")) == chunk_files(tmp_path / "here")


def test_begun_here_and_finished_there(place, there, tmp_path, monkeypatch):
    folder, volume = place
    calls = []

    def interrupt(done, total):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(make_model(), volume, tmp_path / "p", OPTIONS, interrupt)
    done = len(Journal(tmp_path / "p/journal").done())
    assert 0 < done < 8
    assert predict(make_model(), volume, tmp_path / "p", there).report.resumed == done
    assert chunk_files(tmp_path / "p") == chunk_files(folder / "here")
    with pytest.raises(ExistsError):
        predict(make_model(), volume, tmp_path / "p", there)


def test_replacing_a_finished_prediction(place, there, tmp_path):
    _, volume = place
    predict(make_model(seed=9), volume, tmp_path / "p", OPTIONS)
    predict(make_model(), volume, tmp_path / "p", with_(there, overwrite=True))
    assert chunk_files(tmp_path / "p") == chunk_files(place[0] / "here")


def test_slurm_jobs_write_the_same_bytes(place, slurm, tmp_path):
    (tmp_path / "slurm.toml").write_text(slurm)
    report = predict(
        make_model(), place[1], tmp_path / "p", with_(OPTIONS, engine="slurm", settings=tmp_path)
    ).report
    assert report.done == 8
    assert chunk_files(tmp_path / "p") == chunk_files(place[0] / "here")


SLOW = """
def dask_setup(worker):
    import time
    from densem.inference.fusion import Fusion
    original = Fusion.pieces
    def slow(self, *given):
        time.sleep(0.05)
        return original(self, *given)
    Fusion.pieces = slow
"""
CLIENT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from tiny_models import make_model, EXACT
from densem.inference import predict
from densem.volumes import open_volume
options = EXACT.model_copy(update=dict(core=(4, 16, 24), save=("entropy", "probabilities"),
    threads=1, engine="dask", scheduler={address!r}))
predict(make_model(), open_volume({volume!r}), Path({folder!r}), options)
"""


@pytest.fixture
def slow_cluster(tmp_path):
    """Workers that take their time, so that there is a middle to kill something in."""
    from distributed import LocalCluster

    path = tmp_path / "slow.py"
    path.write_text(SLOW)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        memory_limit=0, silence_logs=50, preload=[str(path)],
    ) as cluster:  # fmt: skip
        yield cluster


def test_a_killed_worker_and_a_killed_client_change_no_byte(place, slow_cluster, tmp_path):
    folder, volume = place
    target, address = tmp_path / "p", slow_cluster.scheduler_address
    code = CLIENT.format(
        tests=str(Path(__file__).parent), address=address, volume=str(volume.path), folder=str(target),
    )  # fmt: skip
    client = subprocess.Popen([sys.executable, "-c", code])
    _wait(lambda: len(Journal(target / "journal").done()) >= 2)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    done = len(Journal(target / "journal").done())
    assert 2 <= done < 8
    victim = _process_of(target)
    killer = threading.Timer(0.5, lambda: os.kill(victim, signal.SIGKILL))
    killer.start()
    options = with_(OPTIONS, engine="dask", scheduler=address)
    report = predict(make_model(), volume, target, options).report
    killer.join()
    assert report.resumed >= done
    assert chunk_files(target) == chunk_files(folder / "here")


def _wait(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not get so far"
        time.sleep(0.05)


def _process_of(folder):
    """A living worker process that has a journal file there."""
    numbers = [int(p.stem.split("-")[-2]) for p in (folder / "journal").glob("*-*.jsonl")]
    return next(n for n in numbers if psutil.pid_exists(n))


# ---- the job in this process -----------------------------------------------------------------


@pytest.fixture
def left(place, tmp_path):
    """A prediction that was begun, and its job."""
    _, volume = place
    prepared = _Prediction.prepare(Ensemble([make_model()]), volume, tmp_path / "p", OPTIONS)
    prepared.begin()
    return prepared, PredictionJob.leave(prepared)


def test_a_job_does_a_block(left, place):
    prepared, job = left
    record = job(5, prepared.blocks.box(5))
    known = Journal(place[0] / "here/journal").records()[5]
    assert record == {k: known[k] for k in ("digests", "counts")}


def test_a_machine_with_another_plan_is_named(left, monkeypatch):
    prepared, job = left
    path = prepared.journal.folder / "plan.json"
    path.write_text(json.dumps({**prepared.plan(), "torch": "1.0"}))
    monkeypatch.setattr(job_file.socket, "gethostname", lambda: "n7")
    with pytest.raises(UnfitWorkerError) as caught:
        job(5, prepared.blocks.box(5))
    assert str(caught.value) == (
        f"machine n7 would not give the same bytes: torch (expected '1.0', found '{torch.__version__}'); let "
        "the workers run on machines of one kind with one installation (on Slurm: directives = "
        '["--constraint=..."])'
    )


def test_a_machine_that_does_not_see_the_volume_is_named(left):
    prepared, job = left
    facts = json.loads(job.path.read_text())
    facts["volume"]["path"] = "/no/such/volume.zarr"
    job.path.write_text(json.dumps(facts))
    with pytest.raises(UnfitWorkerError, match=r"cannot open what it needs \(.*a disk that all machines see"):
        job(5, prepared.blocks.box(5))


def test_a_killed_run_is_stopped_by_the_next(left, place, monkeypatch):
    from densem.blocks import Stopped

    prepared, job = left
    job(5, prepared.blocks.box(5))
    monkeypatch.setattr(job_file, "LOOK_SECONDS", -1.0)
    folder = prepared.outputs.folder
    predict(make_model(seed=9), place[1], folder, with_(OPTIONS, overwrite=True))
    before = chunk_files(folder)
    with pytest.raises(Stopped):
        job(6, prepared.blocks.box(6))
    assert chunk_files(folder) == before


def test_a_retracted_job_drops_its_block(left, monkeypatch):
    from densem.blocks import Stopped

    prepared, job = left
    box = prepared.blocks.box(5)
    job(5, box)
    monkeypatch.setattr(job_file, "LOOK_SECONDS", -1.0)
    job.retract()
    with pytest.raises(Stopped):
        job(5, box)


# ---- refused ---------------------------------------------------------------------------------


def test_a_volume_in_memory_is_refused(there, tmp_path):
    with pytest.raises(ConfigError) as caught:
        predict(make_model(), make_volume(), tmp_path / "p", there)
    assert str(caught.value) == (
        "--engine dask: volume: expected a volume that other machines can open by its path, found one in memory "
        "or a part of one; write it as OME-Zarr first"
    )


def test_a_part_of_a_volume_is_refused(place, there, tmp_path):
    part = place[1].part(Box((0, 0, 0), (5, 40, 50)))
    with pytest.raises(ConfigError, match="or a part of one"):
        predict(make_model(), part, tmp_path / "p", there)


def test_no_scheduler_is_refused(place, tmp_path):
    with pytest.raises(ConfigError, match=r"--engine dask: give --scheduler ADDRESS"):
        predict(make_model(), place[1], tmp_path / "p", with_(OPTIONS, engine="dask"))


def test_no_slurm_settings_are_refused(place, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    with pytest.raises(NotFoundError, match=r"--engine slurm: expected this cluster's settings in "):
        predict(make_model(), place[1], tmp_path / "p", with_(OPTIONS, engine="slurm"))
    assert not (tmp_path / "p").exists()


def test_another_model_is_refused_before_anything_is_asked_for(place, tmp_path):
    _, volume = place
    prepared = _Prediction.prepare(Ensemble([make_model()]), volume, tmp_path / "p", OPTIONS)
    prepared.begin()
    nowhere = with_(OPTIONS, engine="dask", scheduler="tcp://127.0.0.1:9")
    with pytest.raises(IntegrityError, match=r"begun with another model \(then "):
        predict(make_model(seed=9), volume, tmp_path / "p", nowhere)


def test_other_threads_are_refused_and_those_of_an_unfinished_run_taken_over(place, tmp_path):
    _, volume = place
    before = torch.get_num_threads()
    prepared = _Prediction.prepare(Ensemble([make_model()]), volume, tmp_path / "p", OPTIONS)
    prepared.begin()
    with pytest.raises(IntegrityError, match=r"threads \(then 1, now 2\)"):
        predict(make_model(), volume, tmp_path / "p", with_(OPTIONS, threads=2))
    found = predict(make_model(), volume, tmp_path / "p", with_(OPTIONS, threads=None))
    assert found.classes.provenance["threads"] == 1
    assert torch.get_num_threads() == before
