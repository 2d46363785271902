import subprocess
import sys

import pytest

from densem.cli.app import run
from densem.datasets.entry import Dataset


def test_the_list_and_the_help_load_no_torch():
    code = (
        "import sys\nfrom densem.cli.app import run\nrun(['datasets'])\nrun(['datasets', 'get', '--help'])\n"
        "print('LOADED', sorted({'torch', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for word in ("platelet-em", "lucchi++", "phantom", "188.7 MB", "--packaging", "--archive"):
        assert word in done.stdout


def test_everything_that_is_known_is_shown(capsys):
    assert run(["datasets", "show", "platelet-em"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for text in (
        "121 x 609 x 400", "cells labelled", "md5:253310093ee2c00304fbabdb0c7e3a4a", "dense_granule_core",
        "none published: shapes and types are compared instead", "doi:10.1038/s41598-021-81590-0",
        "label 0 means unlabelled or background", "Packaging rgba", "train-error-weights.tif", "40 x 10 x 10 nm",
    ):  # fmt: skip
        assert text in said
    assert run(["datasets", "show", "lucchi++"]) == 0
    assert "Licence  not stated" in capsys.readouterr().out


def test_the_file_itself_is_a_start_for_ones_own(capsys):
    assert run(["datasets", "show", "platelet-em", "--toml"]) == 0
    text = capsys.readouterr().out
    assert Dataset.read(text, "printed").name == "platelet-em"


def test_the_questions_of_the_datasheet(capsys):
    assert run(["datasets", "questions"]) == 0
    assert '[motivation]\n# For what was the data set made?\n# purpose = """..."""' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["datasets", "show", "platelet"], "Did you mean 'platelet-em'?"),
        (["datasets", "get", "mine.toml", "DIR"], "mine.toml: no data set file there"),
        (["datasets", "get", "platelet-em", "DIR", "--packaging", "jsn"], "Did you mean 'json'?"),
        (["datasets", "get", "phantom", "-hidden"], "No such option"),
        (["datasets", "get", "phantom", "a b"], "study name 'a b'"),
        (
            ["datasets", "get", "platelet-em", "DIR", "--url", "ftp://x"],
            "expected an address that begins with https",
        ),
        (["datasets", "pack", "DIR", "out.zip", "--title", "t", "--licence", "l"], "no study there"),
        (["datasets", "pack", "DIR", "out.zip", "--title", "t"], "Missing option '--licence'"),
        (["datasets", "shwo"], "Did you mean 'show'?"),
    ],
)
def test_refusals(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []
