"""Settings of a site, and, where a Slurm on this machine answers, jobs of it.

The tests that need Slurm want nodes on this host's loopback interface; they take a few seconds each and
leave no job behind. On a very busy machine a job may start later than is waited for.
"""

import math
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from densem.blocks import Grid, Journal, RunOptions, coordinate, slurm
from densem.blocks.cluster import Cluster, threads
from densem.blocks.early_ends import EarlyEnds
from densem.blocks.slurm import Jobs, SlurmSettings, clear_left_jobs, config_folder, slurm_client
from densem.errors import ConfigError, NotFoundError, ResourceError

WHOLE = """
partition = "main"
account = "em"
time = "2-12:00:00"
memory = "16GB"
cores = 4
gpus = 1
jobs = 8
directives = ["--constraint=icelake"]
prologue = ["module load python"]
interface = "ib0"
lifetime = "55m"
"""
SMALL = 'time = "5:00"\nmemory = "500MB"\ncores = 1\n'
GRID = Grid((5, 9, 14), (2, 4, 5))  # 27 blocks


# ---- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("3h50m", 13800), ("1.5h", 5400), ("2d1s", 172801), (None, math.inf)]
)
def test_lifetimes(text, seconds):
    settings = SlurmSettings(memory="2GB", cores=1, time="5:00", lifetime=text)
    assert settings.lifetime_seconds == seconds


def test_a_lifetime_that_is_none_is_refused(tmp_path):
    (tmp_path / "slurm.toml").write_text(SMALL + 'lifetime = "soon"\n')
    with pytest.raises(ConfigError, match=r"wrong entry lifetime = 'soon'.*3h50m"):
        SlurmSettings.read(tmp_path / "slurm.toml")


def test_a_whole_file(tmp_path):
    (tmp_path / "slurm.toml").write_text(WHOLE)
    found = SlurmSettings.read(tmp_path / "slurm.toml")
    assert (found.partition, found.cores, found.gpus, found.jobs) == ("main", 4, 1, 8)
    assert found.directives == ["--constraint=icelake"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "patition = 'x'\n", "unknown entry 'patition'. Did you mean 'partition'?"),
        (
            SMALL + "jobs = '4'\n",
            "wrong entry jobs = '4': Input should be a valid integer (jobs at the same time)",
        ),
        (SMALL + "directives = '--x'\n", "wrong entry directives = '--x': Input should be a valid list"),
        (SMALL + "gpus = 2\n", "wrong entry gpus = 2: Input should be less than or equal to 1"),
        (SMALL.replace("500MB", "500"), "wrong entry memory = '500': String should match pattern"),
        (SMALL.replace("5:00", "soon"), "wrong entry time = 'soon'"),
        (SMALL.replace("cores = 1\n", ""), "entry 'cores' is missing (processor cores of a job)"),
        ("partition = main", "not a TOML file: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    path = tmp_path / "slurm.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        SlurmSettings.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("directive", ["--job-name=mine", "-J mine", "--clusters=b", "-M b"])
def test_directives_that_would_hide_a_job_are_refused(tmp_path, directive):
    (tmp_path / "slurm.toml").write_text(SMALL + f'directives = ["{directive}"]\n')
    with pytest.raises(ConfigError, match="densem names its jobs itself and looks for them on this cluster"):
        SlurmSettings.read(tmp_path / "slurm.toml")


def test_the_study_goes_before_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config/densem").mkdir(parents=True)
    (tmp_path / "config/densem/slurm.toml").write_text(SMALL + "jobs = 2\n")
    study = tmp_path / "study"
    study.mkdir()
    assert SlurmSettings.find(study).jobs == SlurmSettings.find(None).jobs == 2
    (study / "slurm.toml").write_text(SMALL + "jobs = 3\n")
    assert SlurmSettings.find(study).jobs == 3


def test_a_missing_file_gives_an_example_that_works(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    study = tmp_path / "study"
    with pytest.raises(NotFoundError) as caught:
        SlurmSettings.find(study)
    text = str(caught.value)
    user = tmp_path / "config/densem/slurm.toml"
    assert text.startswith(
        f"--engine slurm: expected this cluster's settings in {study / 'slurm.toml'} or {user}, found no such "
        "file; for example:  "
    )
    subprocess.run(text.split("for example:  ")[1], shell=True, check=True)
    assert SlurmSettings.find(study).partition == "main"


def test_the_folder_of_settings(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_folder() == tmp_path / ".config/densem"


def test_the_job_script_asks_for_what_the_settings_say(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    settings = SlurmSettings.model_validate({**_parsed(WHOLE), "interface": "lo"})
    with slurm._cluster(settings, Jobs(Journal(tmp_path / "journal"))) as cluster:
        script = cluster.job_script().splitlines()
    for line in (
        "-p main", "-A em", "-t 2-12:00:00", "--mem=15G", "--cpus-per-task=4", "--gres=gpu:1", "-n 1",
        "--constraint=icelake", "--open-mode=append", "--no-requeue",
    ):  # fmt: skip
        assert f"#SBATCH {line}" in script
    assert "module load python" in script
    command = shlex.split(script[-1])
    assert command[:2] == ["exec", sys.executable]
    assert command[command.index("--nthreads") + 1] == "1"
    assert command[command.index("--lifetime") + 1] == "3300s"


def _parsed(text):
    import tomllib

    return tomllib.loads(text)


def test_an_interface_that_is_not_there_is_named():
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(ConfigError, match=r"slurm.toml: interface = 'ib77': 'ib77' is not a valid network"):
        slurm._addresses("ib77")


def test_without_slurm_it_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = SlurmSettings.model_validate(_parsed(SMALL))
    with pytest.raises(ResourceError, match="no sbatch and squeue here; run it on a login node"), slurm_client(
        settings, Journal(tmp_path / "journal"), 1
    ):  # fmt: skip
        pass


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """squeue and scancel that look into and write into a file."""
    queue = tmp_path / "queue"
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in {
        "squeue": f'echo "$@" >> {tmp_path}/asked; cat {queue}',
        "scancel": f'echo "$@" >> {tmp_path}/cancelled; : > {queue}',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tmp_path


def test_only_noted_jobs_are_cancelled(fake_slurm):
    journal = Journal(fake_slurm / "p/journal")
    jobs = Jobs(journal)
    jobs.note("17")
    jobs.note("18")
    (fake_slurm / "queue").write_text("16\n18\n")
    clear_left_jobs(journal)
    assert (fake_slurm / "cancelled").read_text() == "18\n"
    asked = (fake_slurm / "asked").read_text()
    assert f"--name={jobs.name} --user=" in asked
    clear_left_jobs(journal)  # nothing is noted any more: Slurm is not asked
    assert (fake_slurm / "asked").read_text() == asked


def test_jobs_that_stay_are_named(fake_slurm, monkeypatch):
    journal = Journal(fake_slurm / "p/journal")
    Jobs(journal).note("18")
    (fake_slurm / "queue").write_text("18\n")
    (fake_slurm / "bin/scancel").write_text("#!/bin/sh\n")
    monkeypatch.setattr(slurm, "GONE_SECONDS", 0.5)
    with pytest.raises(ResourceError, match=r"the Slurm jobs 18 of .* do not leave the queue; .*scancel 18"):
        clear_left_jobs(journal)


# ---- a real Slurm ----------------------------------------------------------------------------


HERE = {**_parsed(SMALL), "interface": "lo", "jobs": 2}


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "p" / "journal")
    journal.begin({"shape": list(GRID.shape), "block": list(GRID.cell)})
    return journal


def _queue(journal):
    name = Jobs(journal).name
    asked = ["squeue", "-h", f"--name={name}", "-o", "%A"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def slow(index, box):
    time.sleep(0.15)
    return {"size": box.size}


@pytest.mark.usefixtures("slurm")
def test_jobs_do_the_blocks_one_is_cancelled_and_all_are_gone(journal):
    pytest.importorskip("dask_jobqueue")
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cancelled = []

    def cancel_one(done, total):
        if done and not cancelled:
            cancelled.extend(_queue(journal)[:1])
            subprocess.run(["scancel", *cancelled], check=True)

    with slurm_client(SlurmSettings.model_validate(HERE), journal, len(GRID)) as client:
        report = coordinate(Cluster(client, slow, journal, "slurm"), GRID, journal, on_progress=cancel_one)
    assert report.done == 27
    assert cancelled
    assert sum(r["size"] for r in journal.records().values()) == 5 * 9 * 14
    assert _queue(journal) == []
    assert list(journal.logs.glob(f"{Jobs(journal).name}-*.err"))
    assert not (journal.folder / slurm.JOBS).exists()


@pytest.mark.usefixtures("slurm")
def test_a_job_that_ends_before_its_worker_comes_is_replaced(journal, tmp_path, monkeypatch, caplog):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(EarlyEnds.__init__, "__defaults__", (1.0,))
    first = f"if mkdir {tmp_path}/tried; then echo module torch is missing >&2; exit 3; fi"
    settings = SlurmSettings.model_validate({**HERE, "jobs": 1, "prologue": [first]})
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with slurm_client(settings, journal, 1) as client:
        report = coordinate(
            Cluster(client, slow, journal, "slurm"), GRID, journal, RunOptions(order=[5], stall_minutes=1)
        )
    assert report.done == 1
    (said,) = [r.getMessage() for r in caplog.records if "ended before its worker came" in r.getMessage()]
    assert "module torch is missing" in said
    assert _queue(journal) == []


KILLED = """
import sys
from pathlib import Path
from densem.blocks import Journal
from densem.blocks.cluster import threads
from densem.blocks.slurm import SlurmSettings, slurm_client
with slurm_client(SlurmSettings.model_validate({here!r}), Journal(Path({folder!r})), 2) as client:
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_client_leaves_no_jobs(journal, number):
    pytest.importorskip("dask_jobqueue")
    code = KILLED.format(here=HERE, folder=str(journal.folder))
    client = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert client.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 30
    while len(_queue(journal)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    client.send_signal(number)
    client.communicate()
    if number == signal.SIGKILL:
        assert (journal.folder / slurm.JOBS).is_file()
        clear_left_jobs(journal)
    assert _queue(journal) == []


@pytest.mark.usefixtures("slurm")
def test_a_partition_that_is_not_there_is_a_quick_refusal(journal):
    pytest.importorskip("dask_jobqueue")
    settings = SlurmSettings.model_validate({**HERE, "partition": "nowhere"})
    with pytest.raises(ResourceError, match=r"sbatch: .*invalid partition.*; correct slurm.toml"), slurm_client(
        settings, journal, 1
    ) as client:  # fmt: skip
        threads(client)
    assert _queue(journal) == []


def test_ctrl_c_stays_what_it_is():
    """In a process of its own, which has not imported it yet."""
    pytest.importorskip("dask_jobqueue")
    code = (
        "import signal\nfrom densem.blocks import slurm\nknown = signal.getsignal(signal.SIGINT)\n"
        "with slurm._own_interrupt():\n    import dask_jobqueue\n"
        "assert signal.getsignal(signal.SIGINT) is known\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
