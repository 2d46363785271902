"""Imports and evaluations whose blocks are done by other processes, through Dask on the loopback interface."""

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
from tifffile import imwrite

from densem.blocks import EngineChoice, Journal
from densem.blocks import cluster as cluster_engine
from densem.blocks.slurm import Jobs
from densem.cli.app import run
from densem.errors import (
    ConfigError,
    IncompleteError,
    InputError,
    IntegrityError,
    NotFoundError,
    ResourceError,
    SchemaError,
)
from densem.evaluation import BlockTables, Protocol, block_tables, boundaries, calibration, passes, scores
from densem.schema import LabelSchema
from densem.study import Study, scoring
from densem.study.intake import ImportRequest, import_volume
from densem.study.manifest import PredictionEntry, locked
from densem.study.progress import statuses
from densem.study.scoring import evaluate_prediction
from densem.volumes import ome_zarr, open_volume
from densem.volumes.run_length import write_run_length

SHAPE, SIZE = (70, 48, 530), (40.0, 10.0, 12.0)  # three layers of 32 slices
SCHEMA = LabelSchema.resolve("membrane")
EXPECTED_PARTS = ("volumes/v.zarr", "annotations/v/semantic.zarr")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An image and labels, compressed page by page."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    image = rng.integers(0, 255, SHAPE, dtype=np.uint8)
    labels = rng.integers(0, len(SCHEMA), SHAPE).astype(np.uint8)
    labels[:, :5] = 255
    imwrite(folder / "image.tif", image, compression="zlib", metadata=None)
    imwrite(folder / "labels.tif", labels, compression="zlib", metadata=None)
    return folder


@pytest.fixture
def study(tmp_path):
    return Study.create(tmp_path / "s", SCHEMA)


def dask(address):
    return ["--engine", "dask", "--scheduler", address]


def bring(study, files, *more, labels=True):
    image = [
        "--image",
        str(files / "image.tif"),
        *(["--labels", str(files / "labels.tif")] if labels else []),
    ]
    return run(["import", str(study.folder), "v", *image, "--voxel-size", *map(str, SIZE), *more])


def chunk_files(folder):
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "zarr.json")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def hidden(study):
    return sorted(p.name for p in study.folder.rglob(".*") if p.name != ".study.lock")


# ---- imports ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here(tmp_path_factory, files):
    """What one thread makes of the files."""
    study = Study.create(tmp_path_factory.mktemp("here") / "s", SCHEMA)
    assert bring(study, files) == 0
    return study


@pytest.mark.parametrize("engine", ["threads", "dask"])
def test_an_import_by_any_engine_is_the_same(here, study, files, dask_scheduler, engine, monkeypatch):
    """The paths are given as a person gives them, from where the command is typed."""
    monkeypatch.chdir(study.folder.parent)
    for name in ("image.tif", "labels.tif"):
        os.link(files / name, name)
    told = ["--image", "image.tif", "--labels", "labels.tif", "--voxel-size", *map(str, SIZE)]
    more = dask(dask_scheduler) if engine == "dask" else ["--workers", "3"]
    assert run(["import", "s", "v", *told, *more]) == 0
    for part in EXPECTED_PARTS:
        assert chunk_files(study.folder / part) == chunk_files(here.folder / part)
        one, other = open_volume(here.folder / part), open_volume(study.folder / part)
        assert one.id == other.id
        kept = {k: v for k, v in one.attributes.items() if k != "provenance"}
        assert kept == {k: v for k, v in other.attributes.items() if k != "provenance"}
        assert other.provenance["source"] in ("image.tif", "labels.tif")
    assert any(name.startswith("s1/") for name in chunk_files(study.folder / "volumes/v.zarr"))
    assert study.manifest.volumes == here.manifest.volumes
    assert hidden(study) == []


def test_labels_alone_by_workers(here, study, files, dask_scheduler):
    assert bring(study, files, labels=False) == 0
    assert (
        run(["import", str(study.folder), "v", "--labels", str(files / "labels.tif"), *dask(dask_scheduler)])
        == 0
    )
    part = EXPECTED_PARTS[1]
    assert chunk_files(study.folder / part) == chunk_files(here.folder / part)


def test_a_mistake_in_the_file_is_told_as_in_one_process(study, files, dask_scheduler, tmp_path, capsys):
    labels = tifffile.imread(files / "labels.tif")
    labels[66, 40, 500:503] = 77
    imwrite(tmp_path / "wrong.tif", labels)
    before = chunk_files(study.folder)
    said = []
    for more in ([], dask(dask_scheduler)):
        arguments = ["--image", str(files / "image.tif"), "--labels", str(tmp_path / "wrong.tif")]
        assert (
            run(["import", str(study.folder), "v", *arguments, "--voxel-size", *map(str, SIZE), *more]) == 2
        )
        said.append(capsys.readouterr().err.splitlines()[-1])
    assert said[0] == said[1]
    assert "found 77 (3 voxels); add classes to the schema" in said[0]
    assert chunk_files(study.folder) == before
    assert hidden(study) == []


def test_a_value_that_is_none_is_told_by_the_worker_and_nothing_is_left(
    study, files, dask_scheduler, tmp_path
):
    values = np.random.default_rng(1).random(SHAPE, np.float32)
    values[40, 3, 7] = np.inf
    imwrite(tmp_path / "wrong.tif", values, metadata=None)
    request = ImportRequest(
        image=tmp_path / "wrong.tif",
        voxel_size_nm=SIZE,
        engine=EngineChoice("dask", scheduler=dask_scheduler),
    )
    with pytest.raises(InputError, match="found inf at voxel z 40, y 3, x 7"):
        import_volume(study, "v", request, lambda done, total: None)
    assert hidden(study) == []
    assert study.manifest.volumes == {}


def test_ctrl_c_leaves_nothing(study, files, dask_scheduler):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    request = ImportRequest(
        image=files / "image.tif", voxel_size_nm=SIZE, engine=EngineChoice("dask", scheduler=dask_scheduler)
    )
    with pytest.raises(KeyboardInterrupt):
        import_volume(study, "v", request, interrupt)
    assert hidden(study) == []
    assert not (study.folder / "volumes").exists() or not any((study.folder / "volumes").iterdir())


def test_status_tells_of_an_import_while_it_runs(study, files):
    seen = []

    def look(done, total):
        seen.append((statuses(study.folder), statuses(study.folder / ".import-v")))

    request = ImportRequest(image=files / "image.tif", voxel_size_nm=SIZE, engine=EngineChoice(workers=2))
    import_volume(study, "v", request, look)
    (found,), (same,) = seen[1]
    assert found.folder == f"{study.folder / '.import-v'}: v.zarr s0"
    assert (found.state, found.planned, found.engine) == ("running", 3, "local")
    assert same.folder == found.folder
    assert statuses(study.folder) == []


CLIENT = "import sys\nfrom densem.cli.app import run\nrun(sys.argv[1:])\n"


def test_what_a_killed_client_left_is_swept_by_the_next(here, study, files, dask_scheduler):
    """Killed as soon as there is something on disk; workers may still be at it."""
    arguments = ["import", str(study.folder), "v", "--image", str(files / "image.tif"), "--voxel-size"]
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, *arguments, *map(str, SIZE), *dask(dask_scheduler)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    home = study.folder / ".import-v"
    deadline = time.monotonic() + 60
    while not list(home.glob("*/volumes/.v.zarr.part/s0/zarr.json")):
        assert time.monotonic() < deadline
        assert client.poll() is None
        time.sleep(0.005)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    assert home.exists()
    assert not (study.folder / "volumes/v.zarr").exists()
    assert bring(study, files, *dask(dask_scheduler)) == 0
    for part in EXPECTED_PARTS:
        assert chunk_files(study.folder / part) == chunk_files(here.folder / part)
    assert hidden(study) == []


def test_two_imports_of_one_name_do_not_meet(study, files, monkeypatch):
    journal = Journal(study.folder.resolve() / ".import-v/journal")
    code = (
        "import sys\nfrom densem.cli.app import run\n"
        f"raise SystemExit(run(['import', {str(study.folder)!r}, 'v', '--image', {str(files / 'image.tif')!r}, "
        "'--voxel-size', '40', '10', '12']))"
    )
    with journal.lock():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "another process is working on it; wait for it or stop it first" in done.stderr
    assert study.manifest.volumes == {}


# ---- what an engine cannot do ----------------------------------------------------------------


@pytest.mark.parametrize("engine", ["dask", "slurm"])
def test_files_that_are_read_as_a_whole_are_refused_with_what_to_do(here, study, files, tmp_path, engine):
    write_run_length(open_volume(here.folder / EXPECTED_PARTS[1]), tmp_path / "labels.json")
    choice = EngineChoice(engine, scheduler="tcp://127.0.0.1:9" if engine == "dask" else None)
    request = ImportRequest(
        image=files / "image.tif", labels=tmp_path / "labels.json", voxel_size_nm=SIZE, engine=choice
    )
    with pytest.raises(ConfigError) as caught:
        import_volume(study, "v", request, lambda done, total: None)
    assert str(caught.value) == (
        f"--engine {engine}: {tmp_path}/labels.json: run-length JSON is read as a whole, which one process "
        f"does; bring it in by itself with  densem import {study.folder} v --labels {tmp_path}/labels.json"
    )
    with pytest.raises(ConfigError, match=r"labels\.tif: object ids are collected over the whole file first"):
        import_volume(
            study, "v",
            ImportRequest(image=files / "image.tif", instances=files / "labels.tif", voxel_size_nm=SIZE,
                          engine=choice),
            lambda done, total: None,
        )  # fmt: skip
    assert hidden(study) == []


def test_run_lengths_by_threads(here, study, files, tmp_path):
    write_run_length(open_volume(here.folder / EXPECTED_PARTS[1]), tmp_path / "labels.json")
    assert bring(study, files, labels=False) == 0
    arguments = ["--labels", str(tmp_path / "labels.json"), "--workers", "2"]
    assert run(["import", str(study.folder), "v", *arguments]) == 0
    part = EXPECTED_PARTS[1]
    assert chunk_files(study.folder / part) == chunk_files(here.folder / part)


def test_no_slurm_settings_are_refused_before_anything_is_written(study, files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    request = ImportRequest(
        image=files / "image.tif", voxel_size_nm=SIZE, engine=EngineChoice("slurm", settings=study.folder)
    )
    with pytest.raises(NotFoundError, match=r"--engine slurm: expected this cluster's settings in "):
        import_volume(study, "v", request, lambda done, total: None)
    assert hidden(study) == []


@pytest.mark.parametrize("command", [["import", "S", "v"], ["evaluate", "S", "--prediction", "p"]])
def test_engines_that_do_not_fit_are_refused(command, capsys):
    assert run([*command, "--engine", "slrum"]) == 2
    assert "--engine slrum: expected one of local, slurm, dask" in capsys.readouterr().err
    assert run([*command, "--engine", "dask"]) == 2
    assert "--engine dask: expected --engine dask with --scheduler ADDRESS" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["import", "evaluate"])
def test_the_help_tells_of_engines(command, capsys):
    assert run([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "--engine" in said
    assert "--scheduler" in said
    assert "local (this machine), slurm or dask" in " ".join(said.replace("│", " ").split())


# ---- evaluations -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(tmp_path_factory, here):
    """A study with a prediction that nobody made: labels moved by three voxels, and some confidence."""
    study = Study.create(tmp_path_factory.mktemp("judged") / "e", SCHEMA)
    shutil.copytree(here.folder / EXPECTED_PARTS[0], study.folder / EXPECTED_PARTS[0])
    rng = np.random.default_rng(7)
    truth = np.kron(rng.choice([*SCHEMA.ids, 255], (7, 4, 53)), np.ones((10, 12, 10))).astype(np.uint8)
    classes = np.roll(truth, 3, axis=2)
    classes[30:40, 20:, 100:300] = 1
    arrays = {
        EXPECTED_PARTS[1]: truth,
        "predictions/p/classes.zarr": classes,
        "predictions/p/confidence.zarr": rng.integers(60, 256, SHAPE, dtype=np.uint8),
    }
    for name, array in arrays.items():
        path = study.folder / name
        ome_zarr.create(path, SHAPE, np.uint8)[:] = array
        record = {"id": f"made-up {name}", "complete": True, "provenance": {"input": here.image("v").id}}
        ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], (0.0, 0.0, 0.0), record)
        ome_zarr.finish(path)
    with locked(study.path) as manifest:
        manifest.volumes["v"] = here.manifest.volumes["v"]
        manifest.predictions["p"] = PredictionEntry(
            models=["m"], model_id="x", volume="v", volume_id=here.image("v").id
        )
    return study


@pytest.fixture
def predicted(tmp_path, judged, monkeypatch):
    """A copy of it; the page is left out, which wants a model."""
    for name in ("_facts", "evaluation_report", "write_page"):
        monkeypatch.setattr(scoring, name, lambda *a: None)
    shutil.copytree(judged.folder, tmp_path / "e")
    return Study.open(tmp_path / "e")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(passes, "BLOCK", (16, 48, 128))  # 25 blocks, three passes of them


def written(study, protocol="labelled"):
    """Scores and block tables, byte by byte."""
    folder = study.folder / "predictions/p"
    return (folder / f"scores-{protocol}.json").read_bytes(), (folder / f"blocks-{protocol}.npz").read_bytes()


def evaluate(study, *more):
    return run(["evaluate", str(study.folder), "--prediction", "p", "--boundaries", *more])


@pytest.mark.usefixtures("small_blocks")
def test_an_evaluation_by_any_engine_is_the_same(predicted, dask_scheduler, monkeypatch):
    monkeypatch.chdir(predicted.folder.parent)
    found = []
    for more in (["--workers", "1"], ["--workers", "3"], dask(dask_scheduler)):
        assert run(["evaluate", "e", "--prediction", "p", "--boundaries", *more]) == 0
        found.append(written(predicted))
        assert hidden(predicted) == []
    assert found[1] == found[0]
    assert found[2] == found[0]
    told = json.loads(found[0][0])
    truth = predicted.labels("v")
    classes, sure = (
        open_volume(predicted.folder / f"predictions/p/{n}.zarr") for n in ("classes", "confidence")
    )
    tables = block_tables(truth, classes, SCHEMA)
    expected = {
        **scores(tables.whole()).to_dict(),
        "calibration": calibration(truth, classes, sure, SCHEMA).to_dict(),
        "boundaries": boundaries(truth, classes, SCHEMA).to_dict(),
    }
    assert {k: told[k] for k in expected} == json.loads(json.dumps(expected))
    kept = BlockTables.load(predicted.folder / "predictions/p/blocks-labelled.npz")
    np.testing.assert_array_equal(kept.counts, tables.counts)


@pytest.mark.usefixtures("small_blocks")
def test_an_evaluation_goes_on_with_another_engine(predicted, dask_scheduler):
    """Dask is interrupted in the second pass, Dask again in the third; then threads, then all at once."""
    choice, place = (
        EngineChoice("dask", scheduler=dask_scheduler),
        predicted.folder / "predictions/p/.evaluation-labelled",
    )

    def stop_at(share):
        def stop(done, total):
            if done > share * total:
                raise KeyboardInterrupt

        return stop

    with pytest.raises(KeyboardInterrupt):
        evaluate_prediction(predicted.folder, "p", "labelled", stop_at(0.5), choice, True)
    assert hidden(predicted) == [".evaluation-labelled"]
    known = {s.folder.rsplit(": ")[-1]: (s.state, s.done, s.planned) for s in statuses(predicted.folder)}
    assert known["counts"] == ("blocks done", 25, 25)
    assert known["calibration"][0] == "stopped"
    assert 0 < known["calibration"][1] < 25
    assert [s.folder for s in statuses(place)] == [f"{place}: calibration", f"{place}: counts"]
    with pytest.raises(KeyboardInterrupt):
        evaluate_prediction(predicted.folder, "p", "labelled", stop_at(0.75), choice, True)
    done = len(Journal(place / "boundaries").done())
    assert 0 < done < 25
    told = []
    evaluate_prediction(
        predicted.folder, "p", "labelled", lambda *a: told.append(a), EngineChoice(workers=2), True
    )
    assert 2 / 3 < told[2][0] / told[2][1] < 1  # counts and calibration known, and some surfaces
    assert len(told) == 3 + 25 - done
    assert hidden(predicted) == []
    found = written(predicted)
    assert evaluate(predicted) == 0
    assert written(predicted) == found


EVALUATION = """import sys
from densem.cli.app import run
from densem.evaluation import passes
from densem.study import scoring
passes.BLOCK = (16, 48, 128)
for name in ("_facts", "evaluation_report", "write_page"):
    setattr(scoring, name, lambda *a: None)
run(sys.argv[1:])
"""


@pytest.mark.usefixtures("small_blocks")
def test_a_killed_evaluation_goes_on(predicted, dask_scheduler):
    arguments = [
        "evaluate",
        str(predicted.folder),
        "--prediction",
        "p",
        "--boundaries",
        *dask(dask_scheduler),
    ]
    client = subprocess.Popen(
        [sys.executable, "-c", EVALUATION, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    place = predicted.folder / "predictions/p/.evaluation-labelled"
    deadline = time.monotonic() + 60
    while len(Journal(place / "counts").done()) < 5:
        assert time.monotonic() < deadline
        assert client.poll() is None
        time.sleep(0.005)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    known = len(Journal(place / "counts").done())
    assert known >= 5
    assert evaluate(predicted, *dask(dask_scheduler)) == 0
    assert hidden(predicted) == []
    found = written(predicted)
    assert evaluate(predicted, "--workers", "1") == 0
    assert written(predicted) == found


def test_what_is_refused_leaves_nothing(predicted, dask_scheduler, tmp_path, monkeypatch):
    def by(*choice, **more):
        evaluate_prediction(predicted.folder, "p", "labelled", lambda *a: None, EngineChoice(*choice, **more))

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(cluster_engine, "CONNECT_SECONDS", 0.5)
    with pytest.raises(NotFoundError, match=r"--engine slurm: expected this cluster's settings in "):
        by("slurm", settings=predicted.folder)
    assert hidden(predicted) == []
    with pytest.raises(ResourceError, match="no Dask scheduler answered there"):
        by("dask", scheduler="tcp://127.0.0.1:9")
    assert hidden(predicted) == []
    array = zarr.open_group(predicted.folder / "predictions/p/classes.zarr", mode="r+")["s0"]
    array[3, 3, 3:5] = 99
    said = []
    for choice in ({"workers": 2}, {"engine": "dask", "scheduler": dask_scheduler}):
        with pytest.raises(
            SchemaError, match=r"prediction classes: ids outside the schema: 99 \(2 vo"
        ) as caught:
            by(**choice)
        said.append(str(caught.value))
        assert hidden(predicted) == []
    assert said[0] == said[1]


def test_a_block_that_fails_is_named_and_the_rest_is_kept(predicted, dask_scheduler):
    damaged = predicted.folder / "predictions/p/classes.zarr/s0/c/0/0/1"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    choice = EngineChoice("dask", scheduler=dask_scheduler)
    with pytest.raises(
        IncompleteError, match=r"1 of 6 blocks are missing after 3 attempts each: block 1 "
    ) as caught:
        evaluate_prediction(predicted.folder, "p", "labelled", lambda *a: None, choice)
    assert "Finished blocks are kept" in str(caught.value)
    assert len(Journal(predicted.folder / "predictions/p/.evaluation-labelled/counts").done()) == 5


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_two_evaluations_of_one_prediction_do_not_meet(predicted, engine):
    choice = EngineChoice(engine, scheduler="tcp://127.0.0.1:9" if engine == "dask" else None)
    with Journal(predicted.folder.resolve() / "predictions/p/.evaluation-cells/journal").lock(), pytest.raises(
        IntegrityError, match="another process is working on it"
    ):  # fmt: skip
        evaluate_prediction(predicted.folder, "p", Protocol.CELLS.value, lambda *a: None, choice)


# ---- Slurm -----------------------------------------------------------------------------------


def no_jobs_of(home):
    queue = subprocess.run(["squeue", "-h", "-o", "%j"], capture_output=True, text=True)
    return Jobs(Journal(home.resolve())).name not in queue.stdout.split()


def test_slurm_jobs_write_the_same(here, study, files, slurm):
    (study.folder / "slurm.toml").write_text(slurm + "gpus = 1\n")
    assert bring(study, files, "--engine", "slurm") == 0
    for part in EXPECTED_PARTS:
        assert chunk_files(study.folder / part) == chunk_files(here.folder / part)
    assert hidden(study) == []
    assert no_jobs_of(study.folder / ".import-v/journal")


@pytest.mark.usefixtures("small_blocks")
def test_slurm_jobs_count_the_same_after_a_kill(predicted, slurm):
    """The killed client leaves its jobs; the next one cancels them, goes on, and leaves none."""
    (predicted.folder / "slurm.toml").write_text(slurm + "gpus = 1\n")
    assert evaluate(predicted, "--workers", "1") == 0
    expected = written(predicted)
    arguments = ["evaluate", str(predicted.folder), "--prediction", "p", "--boundaries", "--engine", "slurm"]
    client = subprocess.Popen(
        [sys.executable, "-c", EVALUATION, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    place = predicted.folder / "predictions/p/.evaluation-labelled"
    deadline = time.monotonic() + 120
    while len(Journal(place / "counts").done()) < 5:
        assert time.monotonic() < deadline
        assert client.poll() is None
        time.sleep(0.01)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    assert not no_jobs_of(place / "journal")
    assert run([*arguments]) == 0
    assert written(predicted) == expected
    assert hidden(predicted) == []
    assert no_jobs_of(place / "journal")
