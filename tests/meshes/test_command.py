"""`densem mesh` as it is typed."""

import shlex
import shutil

import numpy as np
import pytest

from densem.cli.app import run
from densem.cli.meshes import parse_ids
from densem.errors import ConfigError
from densem.study import Study
from densem.study.manifest import ObjectsEntry, locked
from densem.study.meshes import mesh_command


@pytest.fixture
def study(tmp_path, schema, made):
    found = Study.create(tmp_path / "st", schema)
    shutil.copytree(made.folder, found.folder / "objects/first")
    with locked(found.path) as manifest:
        manifest.objects["first"] = ObjectsEntry(source="labels", name="v", volume="v", classes_id="x")
    return found


def test_command(study, capsys):
    command = ["mesh", str(study.folder), "--objects", "first"]
    assert run([*command, "--class", "mitochondrion", "--ids", "1", "--format", "stl"]) == 0
    said = capsys.readouterr().out
    count = len(list((study.folder / "objects/first/meshes").glob("*.stl")))
    assert f"{count} meshes, " in said
    assert "objects/first/meshes" in said
    assert run(command) == 2
    assert "meshes lie there already; give --overwrite" in capsys.readouterr().err


def test_the_command_for_another_format_keeps_those_that_are_there(study):
    place = study.folder / "objects/first/meshes"
    for wanted, there in (("stl", {"stl"}), ("obj", {"stl", "obj"})):
        command = shlex.split(mesh_command(study, "first", wanted))
        assert run(command[1:]) == 0
        names = {path.suffix[1:] for path in place.iterdir()} - {"json"}
        assert names == there


def test_what_is_refused(study, capsys):
    def refused(*words):
        assert run(["mesh", str(study.folder), *words]) == 2
        return capsys.readouterr().err

    assert "no objects 'frist'. Did you mean 'first'?" in refused("--objects", "frist")
    assert "no class 'cel' in the schema. Did you mean 'cell'" in refused(
        "--objects", "first", "--class", "cel"
    )
    assert "no such format. Did you mean 'glb'" in refused("--objects", "first", "--format", "gltb")
    assert "--block 0 4 4: expected three voxel counts" in refused(
        "--objects", "first", "--block", "0", "4", "4"
    )
    assert "expected ids and spans of ids" in refused("--objects", "first", "--ids", "one")
    shutil.rmtree(study.folder / "objects/first")
    assert "is gone; was the study moved without it?" in refused("--objects", "first")
    with locked(study.path) as manifest:
        manifest.objects.clear()
    assert "It has none yet: make some with densem objects" in refused("--objects", "first")


def test_spans_of_ids():
    assert parse_ids(None) == ()
    assert parse_ids("3, 17-19,18") == (3, 17, 18, 19)
    for wrong in ("", "3,", "5-3", "-2", "1-x"):
        with pytest.raises(ConfigError, match="expected ids and spans of ids"):
            parse_ids(wrong)
    with pytest.raises(ConfigError, match="more than ten million ids; use --class"):
        parse_ids("1-99999999")
    assert np.all(np.diff(parse_ids("1-9")) == 1)
