import json
import os
import signal
import subprocess
import sys
import time

import pytest

from densem.blocks import Grid, Journal, RunOptions, run
from densem.cli.app import run as densem
from densem.errors import IncompleteError

GRID = Grid((5, 9, 14), (2, 4, 5))  # 27 blocks


def unfinished(folder, failing=4):
    """A prediction's journal with 26 blocks done and one put aside."""
    journal = Journal(folder / "journal")
    journal.begin({"shape": list(GRID.shape), "block": list(GRID.cell)})

    def task(index, box):
        if index == failing:
            raise ValueError("no luck")
        return {}

    with pytest.raises(IncompleteError):
        run(task, GRID, journal, RunOptions(retries=0))
    return journal


def test_a_prediction(tmp_path, capsys):
    unfinished(tmp_path / "p")
    assert densem(["status", str(tmp_path / "p")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{tmp_path / 'p'}: incomplete"
    assert said[1] == "  blocks   26 of 27 done (96.3 %), 1 left"
    assert "  engine   local" in said
    assert any(line.startswith("  worker   worker-0: 26 blocks, last ") for line in said)
    assert said[-1] == "  put aside block 4 (z 0:2, y 4:8, x 5:10), attempt 1: ValueError: no luck"


def test_a_study_shows_what_is_unfinished(tmp_path, capsys):
    study = tmp_path / "s"
    assert densem(["new", str(study), "--classes", "a,b"]) == 0
    assert densem(["status", str(study)]) == 0
    assert capsys.readouterr().out.endswith("Nothing is unfinished.\n")
    unfinished(study / "predictions/one")
    unfinished(study / "predictions/two/at-model-size")
    done = unfinished(study / "predictions/three")
    (done.folder / "run.json").write_text('{"state": "finished"}')
    assert densem(["status", str(study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f["folder"].split("predictions/")[1] for f in found] == ["one", "two/at-model-size"]
    assert [f["left"] for f in found] == [1, 1]
    assert found[0]["failures"][0]["message"] == "ValueError: no luck"


def test_a_folder_that_is_neither_is_refused(tmp_path, capsys):
    assert densem(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err.strip() == (
        f"densem: error: {tmp_path}: expected a study, a prediction that was begun (with journal/plan.json), "
        "objects, or meshes, found none of them"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "dask"], "--engine dask: expected --engine dask with --scheduler ADDRESS"),
        (["--scheduler", "tcp://1.2.3.4:5"], "--engine local --scheduler tcp://1.2.3.4:5: expected"),
        (["--engine", "sge"], "--engine sge: expected one of local, slurm, dask"),
    ],
)
def test_engines_that_do_not_fit_are_refused(tmp_path, capsys, arguments, message):
    from densem.study.prediction import PredictRequest, _options

    facts = dict(zip([a.strip("-") for a in arguments[::2]], arguments[1::2], strict=True))
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        _options(PredictRequest(models=("m",), **facts), None)


def test_help_loads_no_dask():
    code = (
        "import sys\nfrom densem.cli.app import run\nrun(['predict', '--help'])\nimport densem.inference\n"
        "print('LOADED', sorted({'dask', 'distributed', 'dask_jobqueue'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    assert "--engine" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_ends_a_command_as_ctrl_c_does(tmp_path, number):
    code = (
        "import sys, time\nimport densem.study.progress as p\n"
        "def wait(folder):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "p.statuses = wait\nsys.argv = ['densem', 'status', '.']\nfrom densem.cli import main\nmain()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # also where the tests run under nohup
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "densem: interrupted; run the same command again to go on" in said
