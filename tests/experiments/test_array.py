"""Slurm arrays: what is asked of Slurm, with commands that write it down, and whole runs where a real one answers."""

import os
import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from densem.blocks.slurm import SlurmSettings
from densem.errors import NotFoundError, ResourceError
from densem.experiments import array
from densem.experiments.benchmark import BenchmarkRequest, pending, plan
from densem.experiments.setting import Setting

SMALL = 'time = "10:00"\nmemory = "1500MB"\ncores = 1\njobs = 2\n'


@pytest.fixture
def setting(study, suite_file):
    (study.folder / "slurm.toml").write_text(SMALL)
    made = plan(study, BenchmarkRequest(str(suite_file)))
    made.write()
    return made


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """sbatch keeps its scripts and numbers jobs from 101; squeue shows a file; scancel empties it."""
    tools = tmp_path / "bin"
    tools.mkdir()
    bodies = {
        "sbatch": 'case "$1" in --test-only) cat > /dev/null;; *) n=$(ls HOME/job-* 2>/dev/null | wc -l); '
        "cat > HOME/job-$((101 + n)); echo $((101 + n));; esac",
        "squeue": "cat HOME/queue 2>/dev/null || true",
        "scancel": 'echo "$@" >> HOME/cancelled; : > HOME/queue',
    }
    for name, body in bodies.items():
        (tools / name).write_text(f"#!/bin/sh\n{body.replace('HOME', str(tmp_path))}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(array, "POLL_SECONDS", 0.05)
    return tmp_path


# ---- what is asked for -------------------------------------------------------------------------


def test_the_script(setting, tmp_path):
    settings = SlurmSettings(
        memory="16GB", cores=4, time="4:00:00", jobs=8, partition="gpu", account="em", gpus=1,
        directives=["--constraint=a100"], prologue=["module load python"], python="/opt/py thon",
    )  # fmt: skip
    lines = array.job_script(setting, settings, "densem-0", tmp_path / "runs 0.txt", 5, "77").splitlines()
    assert lines[0] == "#!/bin/bash"
    for option in (
        "--job-name=densem-0", "--array=0-4%8", "--time=4:00:00", "--mem=15259M", "--cpus-per-task=4",
        "--partition=gpu", "--account=em", "--gres=gpu:1", "--dependency=afterany:77", "--constraint=a100",
        "--signal=B:TERM@120", "--open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH {option}" in lines
    assert "module load python" in lines
    assert shlex.split(lines[-1])[:8] == [
        "exec", "/opt/py thon", "-m", "densem", "benchmark", str(setting.study.folder.resolve()), "--name", "tiny",
    ]  # fmt: skip
    assert lines[-1].endswith(' --run "$RUN"')


def test_a_task_finds_its_run(setting, tmp_path):
    listed = tmp_path / "runs 0.txt"
    listed.write_text("mixed/s1\nflat/s1\nmixed/s2\n")
    settings = SlurmSettings(memory="1GB", cores=1, time="5:00", python="echo")
    script = array.job_script(setting, settings, "n", listed, 3)
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-2:] == ["--run", "flat/s1"]


def test_networks_first_then_ensembles(setting, fake_slurm):
    said = []
    array.run_on_slurm(setting, lambda: pending(setting), True, said.append)
    folder = setting.folder.path / "slurm"
    assert (folder / "runs-0.txt").read_text() == "mixed/s1\nflat/s1\nmixed/s2\nflat/s2\n"
    assert (folder / "runs-1.txt").read_text() == "pair\n"
    assert "--array=0-3%2" in (fake_slurm / "job-101").read_text()
    assert "dependency" not in (fake_slurm / "job-101").read_text()
    assert "--dependency=afterany:101" in (fake_slurm / "job-102").read_text()
    assert said == [
        "Submitted 4 runs as Slurm job array 101.",
        "Submitted 1 run as Slurm job array 102.",
        "Detached; the same command without --detach waits for the jobs.",
    ]


def test_jobs_in_the_queue_are_not_submitted_twice(setting, fake_slurm):
    array.run_on_slurm(setting, lambda: pending(setting), True, lambda line: None)
    (fake_slurm / "queue").write_text("101\n101\n102\n")
    said = []
    array.run_on_slurm(setting, lambda: pending(setting), True, said.append)
    assert said[0].startswith("The Slurm jobs 101, ")
    assert not (fake_slurm / "job-103").exists()
    with pytest.raises(
        ResourceError, match=r"benchmark tiny: its Slurm jobs 101, .* are in the queue; wait for them with"
    ):
        array.refuse_queued(setting)


def test_runs_that_get_no_further_fail(setting, fake_slurm):
    """The jobs vanish at once and leave nothing."""
    said = []
    array.run_on_slurm(setting, lambda: pending(setting, ("flat",)), False, said.append)
    record = setting.record(setting.run("flat/s1"))
    assert record.status == "failed"
    assert record.error.startswith("its Slurm job ended without a record; its last words are in ")
    assert not (fake_slurm / "job-102").exists()


def test_runs_that_got_further_are_submitted_again(setting, fake_slurm, monkeypatch):
    checkpoint = setting.place(setting.run("flat/s1")) / "training/checkpoint.pt"
    real = array._wait
    rounds = []

    def wait(*words):
        rounds.append(len(list(fake_slurm.glob("job-*"))))
        if len(rounds) < 3:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text("")
            os.utime(checkpoint, (len(rounds), len(rounds)))
        real(*words)

    monkeypatch.setattr(array, "_wait", wait)
    run = setting.run("flat/s1")
    array.run_on_slurm(
        setting, lambda: [run] if setting.record(run) is None else [], False, lambda line: None
    )
    assert rounds == [1, 2, 3]
    assert setting.record(run).status == "failed"


def test_ctrl_c_cancels_the_jobs(setting, fake_slurm, monkeypatch):
    (fake_slurm / "queue").write_text("101\n102\n")

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(array, "time", SimpleNamespace(sleep=stop))
    said = []
    with pytest.raises(KeyboardInterrupt):
        array.run_on_slurm(setting, lambda: pending(setting), False, said.append)
    assert set((fake_slurm / "cancelled").read_text().split()) == {"101", "102"}
    assert said[-1].startswith("Cancelled the Slurm jobs ")


def test_without_settings_or_slurm_it_is_refused(setting, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="no sbatch and squeue here"):
        array.run_on_slurm(setting, lambda: pending(setting), False, lambda line: None)
    (setting.study.folder / "slurm.toml").unlink()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(NotFoundError, match="--engine slurm: expected this cluster's settings in"):
        array.run_on_slurm(setting, lambda: pending(setting), False, lambda line: None)


# ---- a real Slurm ------------------------------------------------------------------------------


@pytest.mark.usefixtures("slurm")
def test_a_benchmark_on_slurm(study, suite_file):
    (study.folder / "slurm.toml").write_text(SMALL)
    words = [sys.executable, "-m", "densem", "benchmark", str(study.folder), "--suite", str(suite_file)]
    done = subprocess.run([*words, "--engine", "slurm"], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Submitted 4 runs as Slurm job array" in done.stdout
    assert "[4/5]" in done.stdout
    found = Setting.open(study, "tiny").folder.records()
    assert sorted(r.name for r in found if r.done) == ["flat/s1", "flat/s2", "mixed/s1", "mixed/s2", "pair"]
    assert _queue(study) == []


@pytest.mark.usefixtures("slurm")
def test_interrupted_it_leaves_no_job(study, suite_file):
    (study.folder / "slurm.toml").write_text(SMALL)
    suite_file.write_text(suite_file.read_text().replace("steps = 6", "steps = 100000"))
    words = [sys.executable, "-m", "densem", "benchmark", str(study.folder), "--suite", str(suite_file)]
    process = subprocess.Popen(
        [*words, "--rows", "flat", "--engine", "slurm"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 200
    while not (study.folder / "benchmarks/tiny/runs/flat/s1/training/run.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130
    assert "Cancelled the Slurm jobs" in said
    assert _queue(study) == []
    assert not (study.folder / "benchmarks/tiny/runs/flat/s1/run.json").exists()


def _queue(study):
    """Jobs of this benchmark that are in the queue; others may use the same Slurm."""
    return array.jobs_of(Setting.open(study, "tiny")).queued()
