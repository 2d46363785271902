"""Getting data sets from a server on loopback, in every packaging that the registry knows."""

import io
import json
import stat
import tomllib
import zipfile

import numpy as np
import published
import pytest
import tomli_w

from densem.cli.app import run
from densem.errors import (
    DownloadError,
    ExistsError,
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    ShapeError,
)
from densem.evaluation import Protocol, contingency, scores
from densem.schema import UNLABELLED
from densem.study import Study
from densem.study.dataset import GetRequest, get_dataset
from densem.volumes import Volume

SHAPES = {name: table["shape"] for name, table in published.CONFIGS.items()}


@pytest.fixture(scope="session")
def blocks():
    return published.make_blocks()


@pytest.fixture(scope="session")
def packed(blocks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    return {
        "tiff-1219": published.tiff_1219(blocks),
        "rgba": published.rgba(blocks, folder),
        "json": published.run_lengths(blocks, folder),
    }


@pytest.fixture
def serve(web, packed, tmp_path):
    """Write the entry of a packaging and put its archive on the server; gives the entry's path."""

    def put(packaging, members=None, **archive):
        text, data = published.entry(
            "platelet-em", packaging, members or packed[packaging], web.url("data.zip"), SHAPES, **archive
        )
        web.files["data.zip"] = data
        path = tmp_path / "entry.toml"
        path.write_text(text)
        return path

    return put


def get(entry, folder, **options):
    """Get it; returns the lines that were said."""
    from contextlib import nullcontext

    said = []
    request = GetRequest(str(entry), folder, **options)
    get_dataset(request, lambda title: nullcontext(lambda done, total: None), said.append)
    return said


def there(folder):
    return sorted(p.name for p in folder.iterdir())


def same_objects(found, expected):
    """Whether two volumes of ids cut the same objects, whatever their numbers."""
    pairs = set(zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and (0, 0) in pairs


# ---- the published packagings ------------------------------------------------------------------


def test_the_packaging_of_the_published_scores(serve, blocks, tmp_path):
    said = get(serve("tiff-1219"), tmp_path / "mine")
    study = Study.open(tmp_path / "mine")
    assert {n: e.role for n, e in study.manifest.volumes.items()} == {
        "train": "train",
        "eval": "eval",
        "test": "test",
    }
    for name, block in blocks.items():
        image = study.image(name)
        assert image.voxel_size_nm == (40.0, 10.0, 10.0)
        assert image.dtype == np.uint16
        assert np.array_equal(image.read(), block.image)
    for name in ("train", "eval"):
        assert np.array_equal(study.labels(name).read(), blocks[name].semantic)
    assert any("platelet_data_1219.zip" in line and "md5 as published" in line for line in said)
    assert "Scored by: test, protocol cells and labelled." in said
    assert any(line.startswith("Please cite: Guay") for line in said)
    assert there(tmp_path) == ["entry.toml", "mine"]
    assert there(tmp_path / "mine") == ["annotations", "dataset.toml", "study.toml", "volumes"]


def test_nothing_outside_the_labelled_cell_is_called_background(serve, blocks, tmp_path):
    get(serve("tiff-1219"), tmp_path / "mine")
    study = Study.open(tmp_path / "mine")
    truth, published_labels = study.labels("test"), blocks["test"].semantic
    expected = np.where(published_labels == 0, UNLABELLED, published_labels)
    assert 0.1 < (expected == UNLABELLED).mean() < 0.95
    assert np.array_equal(truth.read(), expected)
    assert study.entry("test").protocols == ["cells", "labelled"]
    assert study.entry("eval").protocols == ["labelled"]
    everything_cell = Volume(np.ones(truth.shape, np.uint8), truth.voxel_size_nm)
    by_protocol = {p: contingency(truth, everything_cell, study.schema, p) for p in Protocol}
    inside = int((published_labels > 0).sum())
    assert {t.voxels for t in by_protocol.values()} == {inside}
    found = scores(by_protocol[Protocol.LABELLED])
    assert found.accuracy == pytest.approx((published_labels == 1).sum() / inside)


def test_the_packaging_in_colours(serve, blocks, tmp_path):
    said = get(serve("rgba"), tmp_path / "mine", packaging="rgba")
    study = Study.open(tmp_path / "mine")
    assert list(study.manifest.volumes) == ["train", "eval"]
    for name in ("train", "eval"):
        assert np.array_equal(study.image(name).read(), blocks[name].image)
        assert np.array_equal(study.labels(name).read(), blocks[name].semantic)
        assert same_objects(study.objects(name).read(), blocks[name].cells)
    assert any("no published checksum, so shapes and types are compared instead" in line for line in said)
    assert "Packaging rgba has no volume test." in said
    record = tomllib.loads((tmp_path / "mine/dataset.toml").read_text())
    assert record["archives"][0]["published_checksum"] is False
    assert record["archives"][0]["checksum"].startswith("sha256:")


def test_the_packaging_in_run_lengths(serve, blocks, tmp_path):
    get(serve("json"), tmp_path / "mine", packaging="json")
    study = Study.open(tmp_path / "mine")
    for name in ("train", "eval"):
        assert np.array_equal(study.image(name).read(), blocks[name].image)
        assert np.array_equal(study.labels(name).read(), blocks[name].semantic)
        assert np.array_equal(study.objects(name).read(), blocks[name].cells)


def test_lucchi_plus_plus(web, tmp_path):
    members, truth = published.lucchi()
    shapes = dict.fromkeys(("train", "test"), (12, 20, 28))
    text, web.files["data.zip"] = published.entry("lucchi++", "png", members, web.url("data.zip"), shapes)
    (tmp_path / "entry.toml").write_text(text)
    get(tmp_path / "entry.toml", tmp_path / "mine")
    study = Study.open(tmp_path / "mine")
    assert study.schema.names == ("background", "mitochondrion")
    for name, (images, masks) in truth.items():
        assert np.array_equal(study.image(name).read(), images)
        assert np.array_equal(study.labels(name).read(), masks)
        assert study.image(name).voxel_size_nm == (5.0, 5.0, 5.0)


def test_the_phantom_is_made_here(tmp_path, capsys):
    entry = tmp_path / "entry.toml"
    entry.write_text(
        tomli_w.dumps(
            {
                "format": 1, "name": "small", "title": "Small", "schema": "platelet", "voxel_size_nm": [40, 10, 10],
                "volumes": {"one": {"role": "test", "shape": [3, 24, 28], "protocols": ["cells"]}},
                "packagings": {"made": {"title": "made", "phantoms": {"one": {"shape": [3, 24, 28], "labelled_cells": 1}}}},
            }
        )
    )  # fmt: skip
    assert run(["datasets", "get", str(entry), str(tmp_path / "mine")]) == 0
    assert "Volume one (test): 3 x 24 x 28 voxels" in capsys.readouterr().out
    image = Study.open(tmp_path / "mine").image("one")
    assert image.provenance["command"] == "densem datasets get"
    assert image.provenance["phantom"]["labelled_cells"] == 1
    assert there(tmp_path) == ["entry.toml", "mine"]


def test_what_it_was_made_from_is_kept(serve, tmp_path):
    get(serve("tiff-1219"), tmp_path / "mine")
    facts = Study.open(tmp_path / "mine").labels("train").provenance
    assert facts["command"] == "densem datasets get"
    assert (facts["dataset"], facts["packaging"]) == ("platelet-em", "tiff-1219")
    assert facts["source"] == "platelet_data_1219.zip: train-labels.tif"
    record = tomllib.loads((tmp_path / "mine/dataset.toml").read_text())
    assert record["citation"][0].startswith("Guay")
    assert str(tmp_path) not in (tmp_path / "mine/dataset.toml").read_text() + json.dumps(facts)


# ---- interrupted, broken, hostile ----------------------------------------------------------------


def test_cut_off_midway_it_goes_on_with_the_same_command(serve, web, blocks, tmp_path, capsys):
    entry = serve("tiff-1219")
    half = len(web.files["data.zip"]) // 2
    web.cuts = [half, 0, 0, 0]
    assert run(["datasets", "get", str(entry), str(tmp_path / "mine")]) == 2
    said = capsys.readouterr().err
    assert f"{half} bytes are kept" in said
    assert "the same command goes on from there" in said
    assert not (tmp_path / "mine").exists()
    assert there(tmp_path / "mine.download") == [
        "platelet_data_1219.zip.part",
        "platelet_data_1219.zip.part.json",
    ]
    assert run(["datasets", "get", str(entry), str(tmp_path / "mine")]) == 0
    assert web.asked[-1]["Range"] == f"bytes={half}-"
    assert np.array_equal(Study.open(tmp_path / "mine").image("test").read(), blocks["test"].image)
    assert there(tmp_path) == ["entry.toml", "mine"]


def test_a_corrupted_archive_is_refused_with_both_checksums(serve, web, tmp_path):
    entry = serve("tiff-1219")
    body = bytearray(web.files["data.zip"])
    body[len(body) // 2] ^= 1
    web.files["data.zip"] = bytes(body)
    with pytest.raises(
        IntegrityError, match=r"data.zip: expected md5 \w{32}, found \w{32}; the file is damaged"
    ):
        get(entry, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    assert there(tmp_path / "mine.download") == ["platelet_data_1219.zip.rejected"]


def test_a_corrupted_member_is_found_without_a_checksum_of_the_archive(serve, web, packed, tmp_path):
    entry = serve("tiff-1219")
    table = tomllib.loads(entry.read_text())
    for key in ("checksum", "bytes"):
        del table["packagings"]["tiff-1219"]["archives"][0][key]
    entry.write_text(tomli_w.dumps(table))
    members = {
        **packed["tiff-1219"],
        "platelet_data/eval-labels.tif": packed["tiff-1219"]["platelet_data/train-labels.tif"],
    }
    web.files["data.zip"] = published.zip_of(members)
    with pytest.raises(
        IntegrityError, match=r"member eval-labels.tif of platelet_data_1219.zip: expected md5 .* found"
    ):
        get(entry, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def hostile(members, name, mode=0, data=b"evil"):
    target = io.BytesIO(published.zip_of(members))
    with zipfile.ZipFile(target, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return target.getvalue()


@pytest.mark.parametrize(
    ("name", "mode", "data", "why"),
    [
        ("../../evil.txt", 0, b"evil", "leads out of the folder"),
        ("/tmp/evil.txt", 0, b"evil", "has an absolute path"),
        ("platelet-em/link", stat.S_IFLNK | 0o777, b"/etc/passwd", "is a link"),
        ("platelet-em/bomb", 0, bytes(60_000_000), "would unpack to more than"),
    ],
)
def test_a_hostile_archive_leaves_nothing(serve, web, packed, tmp_path, monkeypatch, name, mode, data, why):
    monkeypatch.setattr("densem.datasets.archive.MOST_RATIO", 100)
    entry = serve("rgba")
    web.files["data.zip"] = hostile(packed["rgba"], name, mode, data)
    with pytest.raises(IntegrityError, match=rf"images_and_labels_rgba.zip: refused: .*{why}"):
        get(entry, tmp_path / "mine", packaging="rgba")
    assert there(tmp_path) == ["entry.toml", "mine.download"]
    assert there(tmp_path / "mine.download") == ["images_and_labels_rgba.zip"]


def test_a_member_that_is_a_bomb_ends_where_its_shape_does(serve, web, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("densem.study.dataset.SLACK_BYTES", 2**16)
    entry = serve("rgba")
    members = {**packed["rgba"], "platelet-em/images/50-images.tif": bytes(3_000_000)}
    web.files["data.zip"] = published.zip_of(members)
    with pytest.raises(IntegrityError, match=r"50-images.tif' unpacks to more than 0 MB, which its shape"):
        get(entry, tmp_path / "mine", packaging="rgba")
    assert not (tmp_path / "mine").exists()


def test_a_server_without_ranges(serve, web, tmp_path):
    entry, web.ranges, web.cuts = serve("tiff-1219"), False, [5000]
    get(entry, tmp_path / "mine")
    assert web.asked[1]["Range"] == "bytes=5000-"
    assert (tmp_path / "mine/study.toml").exists()


def test_an_archive_that_has_moved(serve, web, tmp_path, capsys):
    entry = serve("tiff-1219")
    web.files["new.zip"] = web.files.pop("data.zip")
    assert run(["datasets", "get", str(entry), str(tmp_path / "mine")]) == 2
    assert "the file is not there (HTTP 404)" in capsys.readouterr().err
    assert there(tmp_path) == ["entry.toml"]
    assert run(["datasets", "get", str(entry), str(tmp_path / "mine"), "--url", web.url("new.zip")]) == 0


def test_a_web_page_instead_of_an_archive(serve, web, tmp_path):
    entry = serve("rgba")
    web.files["data.zip"] = b"<!DOCTYPE html><html>Please sign in</html>"
    with pytest.raises(FormatError, match=r"expected a zip archive, but it cannot be read .it is a web page"):
        get(entry, tmp_path / "mine", packaging="rgba")
    assert there(tmp_path / "mine.download") == ["images_and_labels_rgba.zip.rejected"]


def test_a_missing_member_is_named(serve, packed, tmp_path):
    members = {k: v for k, v in packed["json"].items() if not k.endswith("24-semantic.json")}
    with pytest.raises(
        FormatError, match=r"expected a member '24-semantic.json', found none; it holds platelet-em/"
    ):
        get(serve("json", members), tmp_path / "mine", packaging="json")
    assert there(tmp_path) == ["entry.toml", "mine.download"]


def test_another_shape_or_type_than_described(serve, packed, tmp_path):
    entry = serve("rgba")
    table = tomllib.loads(entry.read_text())
    table["volumes"]["eval"]["shape"] = [24, 800, 800]
    entry.write_text(tomli_w.dumps(table))
    with pytest.raises(
        ShapeError, match=r"volume eval, 24-images.tif: expected 24 x 800 x 800 .* found 3 x 40 x 48"
    ):
        get(entry, tmp_path / "mine", packaging="rgba")
    assert there(tmp_path / "mine.download") == ["images_and_labels_rgba.zip"]
    table["volumes"]["eval"].update(shape=[3, 40, 48], dtype="uint8")
    entry.write_text(tomli_w.dumps(table))
    with pytest.raises(
        FormatError, match=r"volume eval, 24-images.tif: expected voxels of uint8 .* found uint16"
    ):
        get(entry, tmp_path / "mine", packaging="rgba")


def test_a_verified_archive_serves_the_next_try(serve, web, tmp_path, monkeypatch):
    entry = serve("tiff-1219")

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("densem.study.dataset.import_volume", stop)
        with pytest.raises(KeyboardInterrupt):
            get(entry, tmp_path / "mine")
    assert there(tmp_path) == ["entry.toml", "mine.download"]
    assert there(tmp_path / "mine.download") == ["platelet_data_1219.zip"]
    said = get(entry, tmp_path / "mine")
    assert "platelet_data_1219.zip: here from an earlier try." in said
    assert len(web.asked) == 1


def test_an_archive_from_an_earlier_try_is_verified_again(serve, web, tmp_path):
    entry = serve("tiff-1219")
    (tmp_path / "mine.download").mkdir()
    (tmp_path / "mine.download/platelet_data_1219.zip").write_bytes(b"rotten")
    get(entry, tmp_path / "mine")
    assert len(web.asked) == 1


# ---- other ways in -------------------------------------------------------------------------------


def test_an_archive_that_is_here_already(serve, web, tmp_path):
    entry = serve("tiff-1219")
    (tmp_path / "old.zip").write_bytes(web.files["data.zip"])
    get(entry, tmp_path / "mine", archives=(tmp_path / "old.zip",))
    assert web.asked == []
    assert there(tmp_path) == ["entry.toml", "mine", "old.zip"]
    (tmp_path / "old.zip").write_bytes(web.files["data.zip"][:-1])
    with pytest.raises(
        IntegrityError, match=r"old.zip: expected \d+ bytes, found \d+; the file is incomplete"
    ):
        get(entry, tmp_path / "other", archives=(tmp_path / "old.zip",))
    assert (tmp_path / "old.zip").exists()
    with pytest.raises(NotFoundError, match=r"no such file; expected the archive platelet_data_1219.zip"):
        get(entry, tmp_path / "other", archives=(tmp_path / "none.zip",))
    (tmp_path / "old").write_bytes(web.files["data.zip"])
    with pytest.raises(FormatError, match=r"expected a name like platelet_data_1219.zip"):
        get(entry, tmp_path / "other", archives=(tmp_path / "old",))
    assert not (tmp_path / "other").exists()


def test_downloads_can_be_kept(serve, tmp_path):
    get(serve("tiff-1219"), tmp_path / "mine", keep=True)
    assert there(tmp_path / "mine.download") == ["platelet_data_1219.zip"]


def test_what_is_there_is_not_got_again_and_not_written_over(serve, web, tmp_path):
    entry = serve("tiff-1219")
    get(entry, tmp_path / "mine")
    asked = len(web.asked)
    said = get(entry, tmp_path / "mine")
    assert said == [f"{tmp_path / 'mine'} is data set platelet-em (tiff-1219) already; nothing to do."]
    assert len(web.asked) == asked
    with pytest.raises(ExistsError, match="there is a study already"):
        get(entry, tmp_path / "mine", packaging="json")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(ExistsError, match="exists and is not an empty folder"):
        get(entry, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    get(entry, tmp_path / "empty")
    assert (tmp_path / "empty/study.toml").exists()


PLAIN = {
    "format": 1, "name": "plain", "title": "Plain files", "voxel_size_nm": [30.0, 4.0, 5.0],
    "classes": {"inside": {"id": 3, "color": "#000000"}, "membrane": {"id": 7, "color": "#ffffff"}},
    "volumes": {"a": {"role": "train", "offset_nm": [60.0, 0.0, 5.0]}},
    "packagings": {"tiff": {"title": "two files", "archives": [
        {"file": "image.tif", "urls": ["files/image.tif"]}, {"file": "labels.tif", "urls": ["nowhere.tif", "files/labels.tif"]}],
        "volumes": {"a": {"image": {"member": "image.tif", "archive": "image.tif"},
                          "labels": {"member": "labels.tif", "archive": "labels.tif", "unlabelled_value": 9,
                                     "values": {"0": "inside", "255": "membrane"}}}}}},
}  # fmt: skip


def plain_files(folder, labels):
    (folder / "files").mkdir()
    image = np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8)
    (folder / "files/image.tif").write_bytes(published.tiff(image))
    (folder / "files/labels.tif").write_bytes(published.tiff(labels))
    (folder / "plain.toml").write_text(tomli_w.dumps(PLAIN))
    return image


def test_files_beside_a_toml_of_ones_own_with_other_numbers(tmp_path):
    labels = np.random.default_rng(1).choice(np.array([0, 255, 9], np.uint8), (3, 17, 22))
    image = plain_files(tmp_path, labels)
    said = get(tmp_path / "plain.toml", tmp_path / "mine")
    study = Study.open(tmp_path / "mine")
    expected = np.select([labels == 0, labels == 255], [3, 7], 255)
    assert np.array_equal(study.labels("a").read(), expected)
    assert np.array_equal(study.image("a").read(), image)
    assert study.image("a").voxel_size_nm == (30.0, 4.0, 5.0)
    assert study.image("a").offset_nm == study.labels("a").offset_nm == (60.0, 0.0, 5.0)
    assert any("nowhere.tif: no such file" in line and "Trying the next address" in line for line in said)


def test_values_that_are_not_in_the_table_are_counted(tmp_path, capsys):
    labels = np.zeros((3, 17, 22), np.uint8)
    labels[1, 2:4] = 5
    plain_files(tmp_path, labels)
    assert run(["datasets", "get", str(tmp_path / "plain.toml"), str(tmp_path / "mine")]) == 2
    said = capsys.readouterr().err
    assert "expected the values 0, 255, found 5 (44 voxels); add the others to the table of values" in said
    assert there(tmp_path) == ["files", "plain.toml"]


def test_options_that_do_not_fit(tmp_path, serve):
    plain_files(tmp_path, np.zeros((3, 17, 22), np.uint8))
    with pytest.raises(InputError, match="--url: packaging tiff of plain has 2 archives"):
        get(tmp_path / "plain.toml", tmp_path / "mine", url="http://127.0.0.1/x")
    with pytest.raises(
        InputError, match=r"--archive .*other.tif: packaging tiff of plain is of image.tif, labels.tif"
    ):
        get(tmp_path / "plain.toml", tmp_path / "mine", archives=(tmp_path / "other.tif",))
    table = json.loads(json.dumps(PLAIN))
    table["packagings"]["tiff"]["archives"][0]["urls"] = []
    (tmp_path / "plain.toml").write_text(tomli_w.dumps(table))
    with pytest.raises(
        DownloadError, match=r"image.tif: no address is known for it; get it from its publisher"
    ):
        get(tmp_path / "plain.toml", tmp_path / "mine")
    assert there(tmp_path) == ["files", "plain.toml"]
