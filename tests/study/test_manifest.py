import tomllib

import pytest

from densem.errors import ConfigError, InputError, NotFoundError
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import Manifest, VolumeEntry, check_name, check_role, locked


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
