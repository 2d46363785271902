import re
from pathlib import Path

import pytest
import tomli_w

from densem.datasets.catalogue import find, names
from densem.datasets.checksum import DIGITS
from densem.datasets.entry import Dataset
from densem.errors import ConfigError, NotFoundError, SchemaError

CLASSES = {
    "outside": {"id": 0, "color": "#000000", "background": True},
    "mito": {"id": 1, "color": "#ffffff", "organelle": True},
}


def table(**changes):
    """A small valid entry, with changes by path such as volumes__train__role."""
    made = {
        "format": 1,
        "name": "mine",
        "title": "My data",
        "voxel_size_nm": [40.0, 10.0, 5.0],
        "classes": {k: dict(v) for k, v in CLASSES.items()},
        "volumes": {"train": {"role": "train", "shape": [3, 4, 5]}},
        "packagings": {
            "zip": {
                "title": "a zip",
                "archives": [{"file": "mine.zip", "urls": ["mine.zip"]}],
                "volumes": {"train": {"image": {"member": "a.tif"}, "labels": {"member": "b.tif"}}},
            }
        },
    }
    for path, value in changes.items():
        *folders, key = path.split("__")
        place = made
        for folder in folders:
            place = place[int(folder)] if isinstance(place, list) else place[folder]
        if value is None:
            del place[key]
        else:
            place[key] = value
    return made


def read(made):
    return Dataset.read(tomli_w.dumps(made), "mine.toml")


def test_an_entry_of_ones_own():
    dataset = read(table())
    assert dataset.schema_.names == ("outside", "mito")
    assert dataset.voxel_size("train") == (40.0, 10.0, 5.0)
    assert dataset.packaging(None)[0] == "zip"
    assert dataset.packagings["zip"].size == "size not published"
    assert dataset.licence is None
    other = read(table(volumes__train__voxel_size_nm=[1.0, 2.0, 3.0]))
    assert other.voxel_size("train") == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "mine.toml: expected format = 1, found 2"),
        ({"licens": "x"}, "entry licens: no entry is called 'licens'"),
        ({"name": "../x"}, "entry name: String should match"),
        ({"voxel_size_nm": [40.0, 0.0, 5.0]}, "voxel_size_nm: expected three sides above 0"),
        ({"voxel_size_nm": None}, "entry voxel_size_nm: Field required"),
        ({"schema": "platelet"}, r"expected either schema = .NAME. or a \[classes\] table"),
        ({"classes": None}, r"expected either schema = .NAME. or a \[classes\] table"),
        ({"classes": None, "schema": "platelt"}, "found 'platelt'. Did you mean 'platelet'?"),
        ({"volumes__train__role": "training"}, "volumes.train.role: Input should be 'train', 'eval'"),
        (
            {"volumes__train__protocols": ["cels"]},
            "volumes.train.protocols.0: Input should be 'labelled' or 'cells'",
        ),
        ({"volumes": {}}, "entry volumes: Dictionary should have at least 1 item"),
        (
            {"packagings__zip__volumes__trian": {"image": {"member": "x"}}},
            "no volume 'trian' .*Did you mean 'train'",
        ),
        ({"packagings__zip__archives": []}, "packagings.zip: expected at least one archive"),
        (
            {"packagings__zip__archives__0__file": "a/b.zip"},
            "expected a plain file name without folders, found 'a/b.zip'",
        ),
        (
            {"packagings__zip__archives__0__urls": ["ftp://x/y"]},
            "expected an address that begins with https, http, file",
        ),
        ({"packagings__zip__archives__0__checksum": "md5:12"}, "expected 32 hex digits after md5:, found 2"),
        (
            {"packagings__zip__volumes__train__image": {"member": "../a"}},
            "expected a path inside the archive",
        ),
        ({"packagings__zip__volumes__train__image": {"member": "/a"}}, "expected a path inside the archive"),
        (
            {"packagings__zip__volumes__train__image": {"member": "a", "archive": "other.zip"}},
            r"no archive other.zip; there are \['mine.zip'\]",
        ),
        (
            {"packagings__zip__archives": [{"file": "a.zip"}, {"file": "b.zip"}]},
            "volume train: a.tif: say which archive it is in",
        ),
        (
            {"packagings__zip__archives": [{"file": "a.zip"}, {"file": "a.zip"}]},
            "two archives have one file name",
        ),
        (
            {"packagings__zip__volumes__train__labels": {"member": "b", "encoding": "colours"}},
            "palette is needed with encoding 'colours', and only there",
        ),
        (
            {
                "packagings__zip__volumes__train__labels": {
                    "member": "b",
                    "encoding": "colours",
                    "palette": "x",
                }
            },
            "--palette x: neither a built-in palette",
        ),
        (
            {"packagings__zip__volumes__train__labels": {"member": "b", "palette": "schema"}},
            "palette is needed with encoding 'colours', and only there",
        ),
        (
            {
                "packagings__zip__volumes__train__labels": {
                    "member": "b",
                    "encoding": "mask",
                    "foreground": "mitos",
                }
            },
            "no class 'mitos' in the schema. Did you mean 'mito'?",
        ),
        (
            {"packagings__zip__volumes__train__labels": {"member": "b.tif", "encoding": "run-length"}},
            "encoding 'run-length' is read from a .json member",
        ),
        (
            {"packagings__zip__volumes__train__labels": {"member": "b.tif", "values": {"one": "mito"}}},
            "values: expected whole numbers as keys, found one",
        ),
        ({"packagings__zip__phantoms": {"train": {}}}, "expected either volumes with archives, or phantoms"),
        (
            {"packagings": {"made": {"title": "x", "phantoms": {"train": {"sead": 1}}}}},
            "packaging made, volume train: no entry is called 'sead'. Did you mean 'seed'?",
        ),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        read(table(**changes))


def test_the_cells_protocol_needs_its_classes():
    made = table(volumes__train__protocols=["cells"], classes__mito__organelle=False)
    with pytest.raises(
        ConfigError, match="volume train: protocol cells needs a class with background = true"
    ):
        read(made)


def test_a_mask_needs_a_background():
    labels = {"member": "b", "encoding": "mask", "foreground": "mito"}
    made = table(classes__outside__background=False, packagings__zip__volumes__train__labels=labels)
    with pytest.raises(ConfigError, match="a mask needs a class with background = true"):
        read(made)


def test_wrong_classes_are_told_by_the_schema():
    with pytest.raises(SchemaError, match=r"mine.toml: schema entry .*color"):
        read(table(classes__mito__color="white"))


def test_what_is_no_toml_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"mine.toml: not a TOML file"):
        Dataset.read("name = ", "mine.toml")
    with pytest.raises(NotFoundError, match="no data set file there"):
        find(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="expected the TOML file of a data set"):
        find(str(tmp_path / "binary.toml"))


def test_a_packaging_that_is_none():
    with pytest.raises(ConfigError, match=r"--packaging zap: data set mine has zip. Did you mean 'zip'?"):
        read(table()).packaging("zap")


def test_addresses_that_are_paths_lie_beside_the_file(tmp_path):
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(table()))
    found = find(str(tmp_path / "mine.toml"))
    assert found.address("mine.zip") == tmp_path / "mine.zip"
    assert found.address("file:///data/a%20b.zip").as_posix() == "/data/a b.zip"
    assert found.address("https://host/a.zip") == "https://host/a.zip"


# ---- the registry ----------------------------------------------------------------------------


def test_the_registry_holds_what_is_promised():
    assert names() == ["lucchi++", "phantom", "platelet-em"]
    with pytest.raises(NotFoundError, match=r"Did you mean 'platelet-em'?"):
        find("platelet_em")


@pytest.mark.parametrize("name", ["lucchi++", "phantom", "platelet-em"])
def test_every_entry_says_what_one_needs(name):
    dataset = find(name).dataset
    assert dataset.name == name
    assert dataset.homepage
    assert dataset.citation
    assert dataset.licence or any("licence" in sentence for sentence in dataset.unknown)
    for packaging in dataset.packagings.values():
        for archive in packaging.archives:
            assert archive.urls
            assert (archive.checksum is None) == (archive.source is None)
        for volume in (*packaging.volumes, *packaging.phantoms):
            assert dataset.volumes[volume].shape
    for facts in dataset.volumes.values():
        assert facts.dtype in ("uint8", "uint16")
    made = dataset.packagings["generated"].phantoms if name == "phantom" else {}
    assert {n: tuple(table["shape"]) for n, table in made.items()} == {
        n: facts.shape for n, facts in dataset.volumes.items() if made
    }


def test_the_published_facts_of_platelet_em():
    """Shapes, sizes and md5s as its publishers give them; typed a second time."""
    dataset = find("platelet-em").dataset
    assert list(dataset.packagings) == ["tiff-1219", "rgba", "json"]
    assert {n: (v.role, v.shape) for n, v in dataset.volumes.items()} == {
        "train": ("train", (50, 800, 800)),
        "eval": ("eval", (24, 800, 800)),
        "test": ("test", (121, 609, 400)),
    }
    assert dataset.volumes["eval"].protocols == ("labelled",)
    assert dataset.volumes["test"].protocols == ("cells", "labelled")
    packaging = dataset.packagings["tiff-1219"]
    archive = packaging.archives[0]
    assert (archive.bytes, archive.checksum) == (188671885, "md5:253310093ee2c00304fbabdb0c7e3a4a")
    sums = {m.member: m.checksum for files in packaging.volumes.values() for m in files.members}
    assert sums["test-labels.tif"] == "md5:dd21ca5031d74b6f8be9f954e8fe7eac"
    assert sums["train-images.tif"] == "md5:940ffa25038e9e9ca0ae86bc7e75553c"
    assert len(sums) == 6
    assert packaging.volumes["test"].labels.unlabelled_value == 0
    assert packaging.volumes["train"].labels.unlabelled_value is None
    assert dataset.packagings["rgba"].archives[0].checksum is None
    assert dataset.packagings["json"].archives[0].checksum == "md5:23891d451dffb8709c4cf719c1a389d4"
    digits = [re.fullmatch(r"(\w+):([0-9a-f]+)", s) for s in sums.values()]
    assert all(len(d[2]) == DIGITS[d[1]] for d in digits)


def test_the_example_of_the_documentation():
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text()
    text = page.split("```toml\n")[1].split("```")[0]
    dataset = Dataset.read(text.replace("<64 digits>", "0" * 64), "docs/datasets.md")
    assert dataset.packagings["zip"].volumes["test"].labels.values == {"0": "inside", "255": "membrane"}
    with pytest.raises(ConfigError, match="expected 64 hex digits"):
        Dataset.read(text, "docs/datasets.md")
