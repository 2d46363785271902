import json
import subprocess
import sys

import pytest

from densem.cli.app import run
from densem.inference import doctor
from densem.inference.doctor import Diagnosis, Finding

WELL = {
    "Python": Finding("3.12.1"),
    "OpenVINO": Finding(
        "not installed", "note", "for predicting with it: pip install 'densem[openvino]'"
    ),
}  # fmt: skip
ADVICE = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
AMISS = {
    **WELL,
    "CUDA": Finding("NVIDIA H100, not usable: torch 2.13.0+cpu is a build without CUDA", "problem", ADVICE),
}


@pytest.fixture
def findings(monkeypatch):
    """What the doctor finds; the folders that were given are returned."""
    asked = []

    def be(found):
        monkeypatch.setattr(doctor, "examine", lambda folder: asked.append(folder) or Diagnosis(found))
        return asked

    return be


def test_exit_code_0_without_a_problem(findings, capsys):
    findings(WELL)
    assert run(["doctor"]) == 0
    assert "2 checks: 1 note." in capsys.readouterr().out


def test_exit_code_1_with_a_problem(findings, capsys, tmp_path):
    asked = findings(AMISS)
    assert run(["doctor", str(tmp_path)]) == 1
    assert asked == [tmp_path]
    assert "3 checks: 1 problem, 1 note." in capsys.readouterr().out


def test_json_is_all_that_is_printed(findings, capsys):
    findings(AMISS)
    assert run(["doctor", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] is False
    assert said["checks"][2] == {
        "check": "CUDA", "found": AMISS["CUDA"].found, "state": "problem", "advice": ADVICE
    }  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_word_is_cut_in_a_narrow_terminal(findings, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    findings(AMISS)
    run(["doctor"])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= columns
    words = [word for f in AMISS.values() for word in f"{f.found} {f.advice} {f.state}".split()]
    assert [word for word in [*AMISS, *words] if word not in said] == []


def test_a_part_that_cannot_be_loaded_is_said_in_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "densem.inference.doctor", None)
    assert run(["doctor"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("densem: error: a part that densem needs cannot be loaded (")
    assert said.endswith("install densem again: pip install --force-reinstall densem\n")


def test_a_file_for_a_folder_is_a_row_and_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "file"
    path.touch()
    code = "import sys; from densem.cli.app import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", str(path), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == ""
    rows = {row["check"]: row for row in json.loads(done.stdout)["checks"]}
    assert rows["disk"]["found"] == f"{path}: expected a folder, a file"
