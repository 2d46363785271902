"""Packing a study and getting it back."""

import hashlib
import shutil
import subprocess
import tomllib
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest
import tifffile

from densem.cli.app import run
from densem.datasets.phantom import PhantomConfig, write_phantom
from densem.errors import ConfigError, ExistsError, InputError, NotFoundError, ResourceError
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.dataset import GetRequest, get_dataset
from densem.study.datasheet import QUESTIONS, answers_template, read_answers
from densem.study.intake import ImportRequest, import_volume
from densem.study.pack import PackRequest, pack_study
from densem.volumes import ome_zarr

ODD = (40.7, 9.6, 10.3)
"""A voxel size that a TIFF's fractions cannot hold exactly."""


def phase(title):
    return nullcontext(lambda done, total: None)


def pack(study, out, **options):
    return pack_study(
        PackRequest(study=study, out=out, **{"title": "Bench", "licence": "CC-BY-4.0", **options}), phase
    )


def get(entry, folder, **options):
    get_dataset(GetRequest(str(entry), folder, **options), phase, lambda line: None)
    return Study.open(folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Train of uint16 with an offset and objects, eval of int16 without labels' background, test of float32."""
    root = tmp_path_factory.mktemp("pack")
    made = Study.create(root / "mine", LabelSchema.resolve("platelet"))
    config = PhantomConfig(shape=(5, 40, 52), seed=3, packing=1.3, dense_granules=10.0, labelled_cells=1)
    files = write_phantom(config, root / "files", "tiff")
    image, labels = tifffile.imread(files.image), tifffile.imread(files.semantic)
    parts = {
        "train": (image, labels, slice(1, 4), ODD, "train"),
        "eval": (image[:2, :31, :37].astype(np.int16) - 9000, labels[:2, :31, :37], None, ODD, "eval"),
        "hidden-1": (image[2:, 3:].astype(np.float32) / 7, labels[2:, 3:], None, (50.0, 4.6, 4.6), "test"),
    }
    for name, (grey, ids, slices, size, role) in parts.items():
        for kind, values in (("image", grey), ("labels", ids), ("objects", (ids < 255) * np.uint32(70_000))):
            tifffile.imwrite(root / f"{kind}.tif", values, photometric="minisblack")
        request = ImportRequest(
            image=root / "image.tif", labels=root / "labels.tif", role=role, voxel_size_nm=size, slices=slices,
            instances=None if name == "eval" else root / "objects.tif",
            protocols=("cells", "labelled") if role == "test" else None,
        )  # fmt: skip
        import_volume(made, name, request, lambda done, total: None)
    return made


def equal(found, expected):
    assert found.schema == expected.schema
    assert list(found.manifest.volumes) == list(expected.manifest.volumes)
    for name, entry in expected.manifest.volumes.items():
        for kind in ("image", "labels", "objects"):
            one, two = getattr(found, kind)(name), getattr(expected, kind)(name)
            assert (one is None) == (two is None)
            if one is None or two is None:
                continue
            assert one.id == two.id
            assert (one.dtype, one.voxel_size_nm, one.offset_nm) == (
                two.dtype,
                two.voxel_size_nm,
                two.offset_nm,
            )
            assert np.array_equal(one.read(), two.read())
        assert found.entry(name).role == entry.role
        assert found.entry(name).protocols == (entry.protocols or ["labelled"])


def test_there_and_back(study, tmp_path):
    said = pack(study.folder, tmp_path / "out/bench.zip", description="What it is.", citation=("Us, 2026",))
    assert "densem datasets get" in " ".join(said)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["bench.toml", "bench.zip"]
    back = get(tmp_path / "out/bench.toml", tmp_path / "back")
    assert back.image("train").offset_nm == (pytest.approx(40.7), 0.0, 0.0)
    equal(back, study)
    record = tomllib.loads((tmp_path / "back/dataset.toml").read_text())
    assert (record["name"], record["licence"], record["citation"]) == ("bench", "CC-BY-4.0", ["Us, 2026"])
    again = pack(back.folder, tmp_path / "again/bench.zip", description="What it is.", citation=("Us, 2026",))
    assert again
    with zipfile.ZipFile(tmp_path / "again/bench.zip") as archive:
        assert "Made from the data set bench (Bench)" in archive.read("bench/DATASHEET.md").decode()
    shutil.rmtree(tmp_path / "back")
    equal(get(tmp_path / "again/bench.toml", tmp_path / "back"), study)


def test_labels_of_further_annotators_are_said_to_be_left_out(study, tmp_path):
    shutil.copytree(study.folder, tmp_path / "mine")
    labels = tmp_path / "mine/annotations/eval/semantic.zarr"
    request = ImportRequest(labels=labels, annotator="second")
    import_volume(Study.open(tmp_path / "mine"), "eval", request, lambda done, total: None)
    assert "Not packed: what further annotators labelled in eval." in pack(
        tmp_path / "mine", tmp_path / "b.zip"
    )


def test_the_same_study_is_the_same_archive(study, tmp_path):
    digests = set()
    for name in ("a", "b"):
        pack(study.folder, tmp_path / name / "bench.zip")
        digests.add(hashlib.sha256((tmp_path / name / "bench.zip").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_what_is_in_it(study, tmp_path):
    pack(study.folder, tmp_path / "bench.zip", name="other-name", urls=("https://example.org/bench.zip",))
    with zipfile.ZipFile(tmp_path / "bench.zip") as archive:
        archive.extractall(tmp_path / "open")
    top = tmp_path / "open/other-name"
    assert (
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=top, check=False).returncode
        == 0
    )
    listed = {line.split("  ")[1] for line in (top / "SHA256SUMS").read_text().splitlines()}
    present = {p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file()}
    assert present == listed | {"SHA256SUMS"}
    grey = tifffile.imread(top / "images/hidden-1.tif")
    assert grey.dtype == np.float32
    assert np.array_equal(grey, study.image("hidden-1").read())
    inside, beside = (tomllib.loads(p.read_text()) for p in (top / "dataset.toml", tmp_path / "bench.toml"))
    facts = beside["packagings"]["tiff"]["archives"][0]
    assert facts["bytes"] == (tmp_path / "bench.zip").stat().st_size
    assert facts["checksum"] == "sha256:" + hashlib.sha256((tmp_path / "bench.zip").read_bytes()).hexdigest()
    assert facts["urls"] == ["bench.zip", "https://example.org/bench.zip"]
    del facts["bytes"], facts["checksum"]
    assert inside == beside
    equal(get(top / "dataset.toml", tmp_path / "back", archives=(tmp_path / "bench.zip",)), study)


def test_the_datasheet_says_what_is_not_stated(study, tmp_path):
    (tmp_path / "answers.toml").write_text('[uses]\nunsuitable = "Diagnosis."\n')
    pack(study.folder, tmp_path / "bench.zip", answers=tmp_path / "answers.toml", description="A | B")
    with zipfile.ZipFile(tmp_path / "bench.zip") as archive:
        page = archive.read("bench/DATASHEET.md").decode()
    assert "**What should it not be used for?** Diagnosis." in page
    assert page.count("*not stated*") == sum(map(len, QUESTIONS.values())) - 1 + 2  # and citation, pages
    assert "| description | A \\| B |" in page
    assert (
        f"| train | train | 3 x 40 x 52 | 40.7 x 9.6 x 10.3 | uint16 | {shares(study, 'train')} | 1 | - |"
        in page
    )
    assert "| 6 | dense_granule_core | #f500cb | dense_granule | organelle |" in page
    for section in QUESTIONS:
        assert f"\n## {section.capitalize()}\n" in page


def shares(study, name):
    from densem.study.lineage import label_shares

    return label_shares(study, study.labels(name))


def test_labels_of_the_test_volume_are_kept_back(study, tmp_path):
    pack(study.folder, tmp_path / "bench.zip", without_test_labels=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench-test-labels.zip", "bench.toml", "bench.zip"]
    secret = study.labels("hidden-1")
    with zipfile.ZipFile(tmp_path / "bench.zip") as archive:
        names = [n.removeprefix("bench/") for n in archive.namelist()]
        page = archive.read("bench/DATASHEET.md").decode()
        howto = archive.read("bench/EVALUATE.md").decode()
    assert "images/hidden-1.tif" in names
    assert not {"labels/hidden-1.tif", "objects/hidden-1.tif"} & set(names)
    assert {"labels/train.tif", "labels/eval.tif"} <= set(names)
    assert shares(study, "hidden-1") not in page
    assert secret.id not in page
    assert "kept back" in page
    assert "The labels of hidden-1 are kept back." in howto
    assert "evaluate study --prediction mine-hidden-1" not in howto
    public = get(tmp_path / "bench.toml", tmp_path / "public")
    assert public.labels("hidden-1") is None
    assert public.objects("hidden-1") is None
    assert public.entry("hidden-1").protocols == ["cells", "labelled"]


def test_the_organiser_scores_what_is_sent(study, tmp_path, monkeypatch, capsys):
    """The commands of the organiser's EVALUATE.md, as they stand there."""
    pack(study.folder, tmp_path / "bench.zip", without_test_labels=True)
    with zipfile.ZipFile(tmp_path / "bench-test-labels.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "bench-test-labels"
    assert subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    for name in ("bench.toml", "bench.zip"):
        shutil.copy(tmp_path / name, folder)
    monkeypatch.chdir(folder)
    once, each = (p.split("```")[0] for p in (folder / "EVALUATE.md").read_text().split("```\n")[1::2])
    for line in once.strip().splitlines():
        assert run(line.split()[1:]) == 0
    sent_in(study, folder / "organiser/predictions/NAME")
    capsys.readouterr()
    lines = each.strip().splitlines()
    assert [line.split()[-1] for line in lines] == ["cells", "labelled"]
    assert run([*lines[0].split()[1:], "--json"]) == 0
    assert '"miou_organelles": 1.0' in capsys.readouterr().out


def sent_in(study, folder):
    """A prediction that is right everywhere, as densem predict would have left it."""
    truth, image = study.labels("hidden-1"), study.image("hidden-1")
    parts = {
        "classes": np.where(truth.read() == 255, 1, truth.read()),
        "confidence": np.full(truth.shape, 200),
    }
    facts = {"provenance": {"input": image.id, "model": [], "model_id": "theirs"}, "id": "theirs"}
    for name, values in parts.items():
        path = folder / f"{name}.zarr"
        ome_zarr.create(path, truth.shape, np.uint8)[:] = values
        ome_zarr.describe(ome_zarr.temporary(path), [("s0", truth.voxel_size_nm)], truth.offset_nm, facts)
        ome_zarr.finish(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"out": "bench.tar"}, InputError, "expected a name that ends in .zip"),
        ({"out": "-bench.zip"}, InputError, "archive name '-bench'"),
        ({"title": " "}, InputError, "--title: expected some text"),
        ({"licence": ""}, InputError, "--licence: expected some text"),
        ({"name": "a/b"}, InputError, "data set name 'a/b'"),
        ({"answers": "none.toml"}, NotFoundError, "no file of answers there"),
    ],
)
def test_what_cannot_be_packed(study, tmp_path, options, error, message):
    options = {k: tmp_path / v if k in ("out", "answers") else v for k, v in options.items()}
    with pytest.raises(error, match=message):
        pack(study.folder, **{"out": tmp_path / "bench.zip", **options})
    assert list(tmp_path.iterdir()) == []


def test_an_empty_study_and_one_without_test_labels(study, tmp_path):
    empty = Study.create(tmp_path / "empty", study.schema)
    with pytest.raises(InputError, match="study empty: it has no volume to pack"):
        pack(empty.folder, tmp_path / "bench.zip")
    with pytest.raises(
        InputError, match="--without-test-labels: no volume of role test has labels to keep back"
    ):
        pack(empty_of_test(study, tmp_path), tmp_path / "bench.zip", without_test_labels=True)


def empty_of_test(study, folder):
    shutil.copytree(study.folder, folder / "mine")
    Study.open(folder / "mine").set_role("hidden-1", "eval")
    return folder / "mine"


def test_what_is_there_stays(study, tmp_path, monkeypatch):
    (tmp_path / "bench.toml").write_text("mine")
    with pytest.raises(ExistsError, match=r"bench.toml: exists already; give another name, or --overwrite"):
        pack(study.folder, tmp_path / "bench.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["bench.toml"]
    monkeypatch.setattr("densem.study.pack._zip", fail)
    with pytest.raises(ResourceError):
        pack(study.folder, tmp_path / "bench.zip", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["bench.toml"]
    assert (tmp_path / "bench.toml").read_text() == "mine"


def fail(*arguments):
    raise ResourceError("full")


def test_disk_is_looked_at_before(study, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(ResourceError, match=r"GB of free disk .the data twice, uncompressed., found 0 GB"):
        pack(study.folder, tmp_path / "bench.zip")


def test_answers(tmp_path):
    template = answers_template()
    filled = "\n".join(line.removeprefix("# ") if "= " in line else line for line in template.splitlines())
    (tmp_path / "all.toml").write_text(filled)
    answers = read_answers(tmp_path / "all.toml")
    assert {s: set(rows) for s, rows in answers.items()} == {s: set(rows) for s, rows in QUESTIONS.items()}
    for text, message in [
        ("[usage]", "no section is called 'usage'. Did you mean 'uses'?"),
        ("[uses]\nunsuited = 'x'", r"\[uses\] has no question 'unsuited'. Did you mean 'unsuitable'?"),
        ("uses = 3", r"\[uses\]: expected lines such as  used = "),
        ("[uses", "not a TOML file"),
    ]:
        (tmp_path / "wrong.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_answers(tmp_path / "wrong.toml")
