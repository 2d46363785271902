import subprocess
import sys

import pytest

from densem.cli.app import run


def test_help_loads_neither_torch_nor_zarr():
    code = (
        "import sys\nfrom densem.cli.app import run\nrun(['--help'])\n"
        "print('LOADED', sorted({'torch', 'zarr', 'lightning', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for command in ("new", "import", "info", "train", "predict", "evaluate", "demo"):
        assert command in done.stdout


def test_importing_densem_loads_no_torch():
    code = "import sys, densem; print(densem.__version__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "STUDY"], "give either --schema NAME|FILE.toml or --classes"),
        (["new", "STUDY", "--schema", "platelt"], "Did you mean 'platelet'?"),
        (["new", "STUDY", "--schema", "x/none.toml"], "no schema file there"),
        (["new", "STUDY", "--classes", "a,a"], "class names must differ"),
        (["info", "STUDY/nothing.tif"], "no file, model or study there"),
        (["import", "STUDY", "v", "--role", "trian"], "Did you mean 'train'?"),
        (["import", "STUDY", "v", "--slices", "7"], "expected FIRST:END"),
        (["train", "STUDY", "--max-time", "soon"], "expected a time such as 90s, 10m or 2h"),
        (["predict", "STUDY", "--volume", "v"], "give --model NAME"),
        (["predict", "--model", "m"], "give STUDY and --volume NAME, or --input"),
        (["evaluate", "STUDY", "--prediction", "p"], "no study there"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("densem: error: ")
    assert message in said[0]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_names_the_nearest(capsys):
    assert run(["imprt"]) == 2
    assert "Did you mean 'import'?" in capsys.readouterr().err


def test_new_and_info(tmp_path, capsys):
    folder = str(tmp_path / "mine")
    assert run(["new", folder, "--classes", "inside,membrane,synapse"]) == 0
    assert "Made study mine with the classes inside, membrane, synapse." in capsys.readouterr().out
    assert run(["info", folder, "--json"]) == 0
    assert '"classes": [\n  "inside"' in capsys.readouterr().out
    assert run(["new", folder, "--classes", "a,b"]) == 2
    assert "there is a study already" in capsys.readouterr().err
