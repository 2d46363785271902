import io
import stat
import tarfile
import zipfile

import pytest

from densem.datasets import archive as module
from densem.datasets.archive import Wanted, is_archive, unpack
from densem.errors import FormatError, IntegrityError, ResourceError


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members.items():
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def tarred(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


MEMBERS = {"top/a.tif": b"first" * 100, "top/sub/b.tif": b"second", "top/slices/10.png": b"x", "top/slices/9.png": b"y",
           "top/slices/.hidden": b"z", "top/slices/": b""}  # fmt: skip


@pytest.fixture(params=["one.zip", "one.tar", "one.tar.gz", "one.tgz", "one.tar.bz2", "one.tar.xz"])
def packed(request, tmp_path):
    path = tmp_path / request.param
    if path.suffix == ".zip":
        return zipped(path, MEMBERS)
    modes = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}
    folder = tarfile.TarInfo("top/slices")
    folder.type = tarfile.DIRTYPE
    members = {k: v for k, v in MEMBERS.items() if not k.endswith("/")}
    return tarred(path, {folder: b"", **members}, modes.get(path.suffix, "w"))


def test_what_is_wanted_is_taken_and_nothing_else(packed, tmp_path):
    out, told = tmp_path / "out", []
    wanted = [
        Wanted("a.tif", out / "0.tif"),
        Wanted("sub/b.tif", out / "1.tif", 100),
        Wanted("slices/", out / "two"),
    ]
    unpack(packed, wanted, lambda *t: told.append(t))
    assert (out / "0.tif").read_bytes() == MEMBERS["top/a.tif"]
    assert (out / "1.tif").read_bytes() == b"second"
    assert sorted(p.name for p in (out / "two").iterdir()) == ["10.png", "9.png"]
    assert told[-1] == (508, 508)


def test_what_is_missing_is_told_with_what_there_is(packed, tmp_path):
    with pytest.raises(
        FormatError, match=r"expected a member 'top/a.tiff', found none; it holds .*Did you mean 'top/a"
    ):
        unpack(packed, [Wanted("top/a.tiff", tmp_path / "out")])
    with pytest.raises(FormatError, match=r"expected a member 'labels/', found none"):
        unpack(packed, [Wanted("labels/", tmp_path / "out")])


def test_what_is_there_twice_must_be_named_with_its_folder(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a/one.tif": b"1", "b/one.tif": b"2"})
    with pytest.raises(
        FormatError, match=r"expected one member 'one.tif', found 2: a/one.tif, b/one.tif; name it"
    ):
        unpack(path, [Wanted("one.tif", tmp_path / "out")])
    unpack(path, [Wanted("b/one.tif", tmp_path / "out")])
    assert (tmp_path / "out").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../evil.txt", "leads out of the folder"),
        ("top/../../evil.txt", "leads out of the folder"),
        ("top\\..\\..\\evil.txt", "leads out of the folder"),
        ("/etc/evil", "has an absolute path"),
        ("\\\\host\\evil", "has an absolute path"),
        ("C:/evil.txt", "has an absolute path"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_hostile_path_condemns_the_archive(tmp_path, name, why, kind):
    make = zipped if kind == "zip" else tarred
    path = make(tmp_path / "deep" / f"x.{kind}" if (tmp_path / "deep").mkdir() is None else None,
                {"good.tif": b"1", name: b"evil"})  # fmt: skip
    with pytest.raises(IntegrityError, match=rf"refused: its member .*{why}.*; nothing of it is kept"):
        unpack(path, [Wanted("good.tif", tmp_path / "deep" / "out")])
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", f"x.{kind}"]


def test_a_name_with_a_zero_byte_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", {"good.tif": b"1", "evil_.tif": b"2"})
    path.write_bytes(path.read_bytes().replace(b"evil_", b"evil\0"))
    with pytest.raises((IntegrityError, FormatError), match=r"no name that a file can have|damaged"):
        unpack(path, [Wanted("good.tif", tmp_path / "out")])


@pytest.mark.parametrize(("mode", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device")])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, mode, what):
    info = zipfile.ZipInfo("good.tif")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    path = zipped(tmp_path / "x.zip", {info: b"/etc/passwd"})
    with pytest.raises(IntegrityError, match=f"refused: its member 'good.tif' is {what}"):
        unpack(path, [Wanted("good.tif", tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind, what):
    info = tarfile.TarInfo("evil")
    info.type, info.linkname = kind, "/etc/passwd"
    path = tarred(tmp_path / "x.tar", {"good.tif": b"1", info: b""})
    with pytest.raises(IntegrityError, match=f"refused: its member 'evil' is {what}"):
        unpack(path, [Wanted("good.tif", tmp_path / "out")])


def test_a_bomb_is_refused_by_its_list(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLACK", 2**16)
    monkeypatch.setattr(module, "MOST_RATIO", 100)
    path = zipped(tmp_path / "x.zip", {"bomb.tif": bytes(2**22)})
    with pytest.raises(
        IntegrityError, match=r"with its member 'bomb.tif' it would unpack to more than 100 times"
    ):
        unpack(path, [Wanted("bomb.tif", tmp_path / "out")])
    path = tarred(tmp_path / "x.tar.gz", {"bomb.tif": bytes(2**22), "after": b"1"}, "w:gz")
    with pytest.raises(IntegrityError, match=r"it would unpack to more than 100 times"):
        unpack(path, [Wanted("after", tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("most", [1000, None])
def test_a_member_ends_where_its_shape_does(tmp_path, most, monkeypatch):
    monkeypatch.setattr(module, "SLACK", 2**10)
    monkeypatch.setattr(module, "MOST_RATIO", 10**6)
    path = zipped(tmp_path / "x.zip", {"bomb.tif": bytes(2**23)})
    with pytest.raises(
        IntegrityError, match=r"'bomb.tif' unpacks to more than .* MB, which its shape or packed size"
    ):
        unpack(path, [Wanted("bomb.tif", tmp_path / "out", most)])
    assert (tmp_path / "out").stat().st_size <= 2**22


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_MEMBERS", 3)
    path = zipped(tmp_path / "x.zip", {f"{i}": b"1" for i in range(5)})
    with pytest.raises(IntegrityError, match="refused"):
        unpack(path, [Wanted("1", tmp_path / "out")])


def test_what_is_no_archive_is_told(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"  <!DOCTYPE html><html>sign in</html>")
    with pytest.raises(
        FormatError, match=r"x.zip: expected a zip archive, but it cannot be read \(it is a web page\)"
    ):
        unpack(path, [])
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"nothing")
    with pytest.raises(FormatError, match="expected a tar archive, but it cannot be"):
        unpack(path, [])
    with pytest.raises(FormatError, match="expected an archive"):
        unpack(tmp_path / "x.rar", [])


def test_a_damaged_archive_is_told(tmp_path):
    data = bytes(range(256)) * 64
    path = zipped(tmp_path / "x.zip", {"a.tif": data, "b.tif": data})
    raw = bytearray(path.read_bytes())
    raw[60] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(
        FormatError, match=r"its member 'a.tif' cannot be unpacked \(.*\); the archive is damaged"
    ):
        unpack(path, [Wanted("a.tif", tmp_path / "out")])
    cut = tarred(tmp_path / "x.tar.gz", {"a.tif": data * 20}, "w:gz")
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(FormatError, match="damaged"):
        unpack(cut, [Wanted("a.tif", tmp_path / "out")])


def test_an_encrypted_zip_is_told(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.tif": b"1"})
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\x01\x02")
    raw[place + 8] |= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(FormatError, match=r"its member 'a.tif' is encrypted; unpack it by hand"):
        unpack(path, [Wanted("a.tif", tmp_path / "out")])


def test_disk_is_looked_at_before(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip", {"a.tif": b"1"})
    monkeypatch.setattr(module, "SPARE", 10**18)
    with pytest.raises(ResourceError, match="MB of free disk to unpack it in"):
        unpack(path, [Wanted("a.tif", tmp_path / "out" / "a")])
    assert not (tmp_path / "out").exists()


def test_names_of_archives():
    assert [is_archive(n) for n in ("A.ZIP", "a.tar.gz", "a.tif", "zip")] == [True, True, False, False]
