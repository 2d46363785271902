"""The command `densem benchmark`, as it is typed."""

import subprocess
import sys

import pytest

from densem.cli.app import run
from densem.experiments.benchmark import BenchmarkRequest, plan
from densem.experiments.record import RunRecord


def test_a_dry_run_lists_and_writes_nothing(study, suite_file, capsys):
    words = ["benchmark", str(study.folder), "--suite", str(suite_file), "--max-time", "10m", "--dry-run"]
    assert run(words) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert ["mixed/s1", "Mixed", "not", "begun", "12", "min"] in lines
    assert ["pair", "Ens.", "Mixed", "(2)", "not", "begun", "unknown"] in lines
    assert "5 of 5 runs are to be done, about 58 min one after another. Nothing was done." in said
    assert not (study.folder / "benchmarks").exists()


def test_rows_are_named_with_commas_or_one_by_one(study, suite_file, capsys):
    words = ["benchmark", str(study.folder), "--suite", str(suite_file), "--dry-run", "--rows"]
    said = []
    for more in (["flat, mixed"], ["flat", "--rows", "mixed"], ["flat"]):
        assert run([*words, *more]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "mixed/s1" in said[0]
    assert "mixed/s1" not in said[2]


def test_suites_are_listed_and_printed(capsys):
    assert run(["suites"]) == 0
    assert "poster" in capsys.readouterr().out
    assert run(["suites", "poster"]) == 0
    assert 'slug = "2d-3d+3x3x3"' in capsys.readouterr().out
    assert run(["suites", "postr"]) == 2
    assert "Did you mean 'poster'?" in capsys.readouterr().err


def test_one_run(study, suite_file, capsys):
    words = ["benchmark", str(study.folder), "--name", "tiny", "--run"]
    assert run([*words, "flat/s1"]) == 2
    assert "no benchmark 'tiny'. Begin one with densem benchmark" in capsys.readouterr().err
    plan(study, BenchmarkRequest(str(suite_file))).write()
    assert run([*words, "flat/s1"]) == 0
    assert capsys.readouterr().out.startswith("flat/s1: eval MIoU 0.")
    assert RunRecord.read(study.folder / "benchmarks/tiny/runs/flat/s1").done
    assert run([*words, "pair"]) == 1
    assert (
        "failed: an ensemble of 2 needs as many finished runs of row 'mixed', found 0"
        in capsys.readouterr().out
    )
    assert run([*words, "flta/s1"]) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--engine", "slrum"], "--engine slrum: expected local or slurm. Did you mean 'slurm'?"),
        (["--detach"], "--detach leaves Slurm jobs running: give it with --engine slurm"),
        (
            ["--workers", "2", "--engine", "slurm"],
            "--workers is for --engine local; with slurm, slurm.toml says how many at once",
        ),
        (["--rows", "flta", "--dry-run"], "the suite has no row 'flta'. Did you mean 'flat'?"),
        (["--rows", ",", "--dry-run"], "--rows nothing: expected names, such as a or a,b"),
        (["--max-time", "soon"], "--max-time soon: expected a time such as 90s, 10m or 2h"),
    ],
)
def test_what_cannot_be_is_refused(study, suite_file, capsys, more, message):
    assert run(["benchmark", str(study.folder), "--suite", str(suite_file), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (study.folder / "benchmarks").exists()


def test_help_never_loads_torch():
    code = "import sys; from densem.cli.app import run; run(['benchmark', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
