import errno
import fcntl
import os
import tomllib

import pytest

from densem.errors import ConfigError, InputError, NotFoundError, ResourceError
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import Manifest, VolumeEntry, check_name, check_role, claimed, locked


def manifest():
    return Manifest(
        name="m",
        schema_=LabelSchema.from_names(["inside", "membrane"]),
        volumes={
            "a": VolumeEntry(role="train", image="volumes/a.zarr", semantic="annotations/a/semantic.zarr")
        },
    )


def test_manifest_round_trips_as_plain_toml(tmp_path):
    path = tmp_path / "study.toml"
    manifest().write(path)
    assert Manifest.read(path) == manifest()
    plain = tomllib.loads(path.read_text())
    assert plain["volumes"]["a"]["role"] == "train"
    assert plain["classes"]["membrane"]["id"] == 1


def test_a_role_with_a_typo_names_the_nearest(tmp_path):
    path = tmp_path / "study.toml"
    manifest().write(path)
    path.write_text(path.read_text().replace('role = "train"', 'role = "trian"'))
    with pytest.raises(
        ConfigError, match=r"entry volumes\.a\.role: .*found 'trian'\. Did you mean 'train'\?"
    ):
        Manifest.read(path)
    with pytest.raises(
        ConfigError, match=r"--role evl: expected one of train, eval, .* Did you mean 'eval'\?"
    ):
        check_role("evl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = 1\nname = [", "not a TOML file"),
        ('format = 7\nname = "x"', "expected format = 1"),
        ('format = 1\nname = "x"', r"expected a \[classes\] table"),
    ],
)
def test_a_broken_manifest_says_what_is_wrong(tmp_path, text, message):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(Exception, match=message):
        Manifest.read(tmp_path / "study.toml")


def test_no_study_says_how_to_make_one(tmp_path):
    with pytest.raises(NotFoundError, match=r"no study there .* densem new"):
        Study.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a b", "x" * 101, "/etc"])
def test_names_that_could_leave_the_study_are_refused(name):
    with pytest.raises(InputError, match=r"volume name .*expected letters, digits"):
        check_name(name, "volume")


def test_an_error_inside_a_change_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "study.toml"
    manifest().write(path)
    before = path.read_bytes()

    def change():
        with locked(path) as changed:
            changed.volumes.clear()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert path.read_bytes() == before


def test_a_disk_without_locks_is_told_of_and_worked_on(tmp_path, monkeypatch, caplog):
    def flock(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "study.toml"
    manifest().write(path)
    with claimed(tmp_path / "runs", "training it"), locked(path) as changed:
        changed.volumes.clear()
    assert Manifest.read(path).volumes == {}
    assert [m.split(": ")[0] for m in caplog.messages] == [
        str(tmp_path / "runs/.lock"), str(tmp_path / ".study.lock")
    ]  # fmt: skip


def test_a_folder_in_use_is_refused(tmp_path):
    refused = pytest.raises(
        ResourceError, match=r"another densem process is training it; wait for it, or give"
    )
    with claimed(tmp_path / "runs", "training it"), refused, claimed(tmp_path / "runs", "training it"):
        pass
