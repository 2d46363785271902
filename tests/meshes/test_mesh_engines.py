"""Meshes made by other processes, some of them killed: the same files, byte by byte."""

import os
import shutil
import signal
import subprocess

import pytest

from densem.blocks import EngineChoice, Journal
from densem.blocks.slurm import Jobs
from densem.meshes.making import MeshOptions, make_meshes

FORMATS, BLOCK = ("stl", "precomputed"), (4, 12, 13)  # 27 blocks


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def make(objects, schema, engine=None, progress=None):
    """Meshes by an engine; one thread makes them where none is given."""
    options = MeshOptions(formats=FORMATS, block=BLOCK, engine=engine or EngineChoice(), overwrite=True)
    return contents(make_meshes(objects, schema, options, progress).folder)


@pytest.fixture(scope="module")
def here(made, schema, tmp_path_factory):
    """What one thread makes of the objects."""
    folder = tmp_path_factory.mktemp("here") / "first"
    shutil.copytree(made.folder, folder)
    found = make(folder, schema)
    assert len(found) > 20
    return found


def test_dask_workers_make_the_same_though_one_is_killed(objects, schema, here, dask_scheduler, once):
    from distributed import Client

    def kill():
        with Client(dask_scheduler) as client:
            pids = client.run(os.getpid, on_error="ignore")
        os.kill(next(iter(pids.values())), signal.SIGKILL)

    progress, did = once(0.3, kill)
    assert make(objects, schema, EngineChoice("dask", scheduler=dask_scheduler), progress) == here
    assert did


def test_slurm_jobs_make_the_same_though_one_is_cancelled(objects, schema, here, slurm, tmp_path, once):
    (tmp_path / "slurm.toml").write_text(slurm)
    name = Jobs(Journal(objects.resolve() / "meshes/work/journal")).name
    queue = ["squeue", "-h", f"--name={name}", "-o", "%A"]

    def jobs():
        return subprocess.run(queue, capture_output=True, text=True, check=True).stdout.split()

    progress, did = once(0.3, lambda: subprocess.run(["scancel", "--signal=KILL", *jobs()[:1]], check=True))
    assert make(objects, schema, EngineChoice("slurm", settings=tmp_path), progress) == here
    assert did
    assert jobs() == []
