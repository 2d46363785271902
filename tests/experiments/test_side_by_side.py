"""Several runs of a benchmark at a time: their order, their share of the cores, and what ends them."""

import itertools
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from tiny_suite import RECORDING

from densem.experiments import child, side_by_side
from densem.experiments.benchmark import BenchmarkRequest, pending, plan
from densem.experiments.side_by_side import run_side_by_side
from densem.inference.machine import Cores

PUPIL = """
[[rows]]
slug = "pupil"
title = "Distilled"
kind = "distilled"
of = "pair"
"""


@pytest.fixture
def setting(study, suite_file):
    suite_file.write_text(suite_file.read_text() + PUPIL)
    setting = plan(study, BenchmarkRequest(str(suite_file)))
    setting.write()
    return setting


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """Processes that only write down when they begin and end; what they have written, in order."""
    path = tmp_path / "journal.txt"
    monkeypatch.setattr(
        child, "command", lambda setting, name: [sys.executable, "-c", RECORDING, str(path), name]
    )
    return lambda: [line.split() for line in path.read_text().splitlines()]


def test_as_many_at_a_time_as_asked_and_each_after_what_it_is_made_of(setting, journal, monkeypatch):
    monkeypatch.setattr(side_by_side.Cores, "look", lambda: Cores(7, 8))
    said = []
    records = run_side_by_side(setting, pending(setting), 3, said.append)
    lines = journal()
    assert len(records) == 6
    now = itertools.accumulate(1 if what == "begin" else -1 for what, *_ in lines)
    assert max(now) == 3
    places = {(what, name): i for i, (what, name, _) in enumerate(lines)}
    for before, after in (("mixed/s1", "pair"), ("mixed/s2", "pair"), ("pair", "pupil/s1")):
        assert places["end", before] < places["begin", after]
    assert {threads for *_, threads in lines} == {"2"}
    assert said[0].startswith("[1/6] Mixed (mixed/s1)")
    assert "    flat/s2: heard of flat/s2" in said
    assert any(
        line.startswith("    pair: failed: its process ended with exit code 0 and no") for line in said
    )


def test_rows_are_measured_before_any_is_trained(study, suite_file, journal):
    setting = plan(study, BenchmarkRequest(str(suite_file), max_time="1m"))
    setting.write()
    said = []
    run_side_by_side(setting, pending(setting, ("flat", "mixed")), 2, said.append)
    lines = [(what, name) for what, name, _ in journal()]
    measured = [("begin", "mixed/plan"), ("end", "mixed/plan"), ("begin", "flat/plan"), ("end", "flat/plan")]
    assert lines[:4] == measured
    assert not any(name.endswith("/plan") for _, name in lines[4:])
    assert journal()[0][2] == os.environ.get("OMP_NUM_THREADS", "none")
    assert said[0] == "Measuring how many steps of Mixed fit (mixed)."


def test_a_row_that_cannot_be_measured_does_not_end_the_others(study, suite_file, monkeypatch):
    setting = plan(study, BenchmarkRequest(str(suite_file), max_time="1m"))
    setting.write()
    monkeypatch.setattr(child, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(1)"])
    said = []
    records = run_side_by_side(setting, pending(setting, ("flat",)), 2, said.append)
    assert "    flat could not be measured; its runs will say why" in said
    assert [r.status for r in records] == ["failed", "failed"]


def test_ctrl_c_ends_all_of_them(study, suite_file):
    """Through the command line: both runs stop, nothing is recorded, and no process is left."""
    suite_file.write_text(suite_file.read_text().replace("steps = 6", "steps = 4000"))
    words = [
        sys.executable, "-m", "densem", "benchmark", str(study.folder), "--suite", str(suite_file),
        "--rows", "flat", "--workers", "2",
    ]  # fmt: skip
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where tests run in the background
    )  # fmt: skip
    places = [study.folder / f"benchmarks/tiny/runs/flat/s{seed}" for seed in (1, 2)]
    end = time.monotonic() + 120
    while not all((p / "training").exists() for p in places):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    children = [c.pid for c in psutil.Process(process.pid).children()]
    assert len(children) == 2
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "run the same command again to go on" in said
    assert not any((p / "run.json").exists() for p in places)
    assert not any(psutil.pid_exists(pid) for pid in children)
