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
    for command in ("new", "import", "info", "train", "predict", "evaluate", "demo", "doctor", "results"):
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


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("densem.study.Study.create", interrupt)
    assert run(["new", str(tmp_path / "mine"), "--classes", "a,b"]) == 130
    assert "densem: interrupted; run the same command again to go on" in capsys.readouterr().err


def test_without_an_answer_nothing_is_removed(tmp_path, monkeypatch, capsys):
    import io

    import numpy as np
    import tifffile

    folder, image = str(tmp_path / "mine"), str(tmp_path / "image.tif")
    tifffile.imwrite(
        image, np.arange(5 * 24 * 32, dtype=np.uint8).reshape(5, 24, 32), photometric="minisblack"
    )
    assert run(["new", folder, "--classes", "a,b"]) == 0
    assert run(["import", folder, "v", "--image", image, "--voxel-size", "40", "10", "10"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["remove", folder, "v"]) == 0
    assert "Nothing was removed." in capsys.readouterr().out
    assert (tmp_path / "mine/volumes/v.zarr").is_dir()


def test_a_study_that_may_not_be_read_is_not_called_missing(tmp_path, monkeypatch, capsys):
    from pathlib import Path

    (tmp_path / "study.toml").touch()
    refusal = PermissionError(13, "Permission denied", str(tmp_path / "study.toml"))

    def refuse(*arguments, **options):
        raise refusal

    monkeypatch.setattr(Path, "read_text", refuse)
    assert run(["info", str(tmp_path)]) == 2
    assert "study.toml: Permission denied" in capsys.readouterr().err
