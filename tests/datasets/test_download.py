import errno
import hashlib
import json

import numpy as np
import pytest

from densem.datasets import download as module
from densem.datasets.checksum import Checksum
from densem.datasets.download import Expected, download, verify
from densem.errors import DownloadError, InputError, IntegrityError, ResourceError

BODY = np.random.default_rng(0).bytes(700_001)
MD5 = Checksum("md5", hashlib.md5(BODY).hexdigest())
KNOWN = Expected(len(BODY), MD5)


@pytest.fixture
def target(tmp_path, web):
    web.files["data.zip"] = BODY
    return tmp_path / "new" / "data.zip"


def left(target):
    return sorted(p.name for p in target.parent.iterdir())


def test_a_whole_file(web, target):
    told = []
    assert download(web.url("data.zip"), target, KNOWN, lambda *t: told.append(t)) == target
    assert target.read_bytes() == BODY
    assert left(target) == ["data.zip"]
    assert told[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert web.asked[0]["Accept-Encoding"] == "identity"
    assert web.asked[0]["User-Agent"].startswith("densem/")
    assert "Range" not in web.asked[0]


def test_a_broken_connection_goes_on_where_it_stopped(web, target):
    web.cuts = [300_000, 200_000]
    download(web.url("data.zip"), target, KNOWN)
    assert target.read_bytes() == BODY
    assert [a.get("Range") for a in web.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert [a.get("If-Range") for a in web.asked] == [None, '"v1"', '"v1"']


def test_a_later_call_goes_on_too(web, target):
    web.cuts = [300_000, 0, 0, 0]
    with pytest.raises(
        DownloadError, match=r"gave up after several tries.*broke after 300000 of 700001.*300000 "
    ):
        download(web.url("data.zip"), target, Expected())
    assert left(target) == ["data.zip.part", "data.zip.part.json"]
    download(web.url("data.zip"), target, Expected())
    assert target.read_bytes() == BODY
    assert web.asked[-1]["Range"] == "bytes=300000-"
    assert left(target) == ["data.zip"]


def test_ctrl_c_keeps_what_has_come(web, target):
    def interrupt(done, total):
        if done > 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(web.url("data.zip"), target, KNOWN, interrupt)
    kept = (target.parent / "data.zip.part").stat().st_size
    assert 300_000 < kept < len(BODY)
    download(web.url("data.zip"), target, KNOWN)
    assert web.asked[-1]["Range"] == f"bytes={kept}-"
    assert target.read_bytes() == BODY


def test_a_server_without_ranges_sends_everything_again(web, target):
    web.ranges, web.cuts = False, [300_000]
    download(web.url("data.zip"), target, KNOWN)
    assert target.read_bytes() == BODY
    assert web.asked[1]["Range"] == "bytes=300000-"


def test_a_changed_file_is_not_put_together_from_two(web, target):
    web.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        download(web.url("data.zip"), target)
    other = BODY[::-1]
    web.files["data.zip"], web.tag = other, '"v2"'
    download(web.url("data.zip"), target)
    assert target.read_bytes() == other


def test_without_a_mark_or_checksum_it_begins_anew(web, target):
    web.tag, web.cuts = 'W/"weak"', [300_000]
    download(web.url("data.zip"), target)
    assert target.read_bytes() == BODY
    assert "Range" not in web.asked[1]


def test_a_part_of_something_else_is_noticed_by_its_checksum(web, target):
    web.tag = None
    target.parent.mkdir()
    (target.parent / "data.zip.part").write_bytes(bytes(1000))
    download(web.url("data.zip"), target, KNOWN)
    assert target.read_bytes() == BODY
    assert [a.get("Range") for a in web.asked] == ["bytes=1000-", None]
    assert left(target) == ["data.zip"]


def test_an_answer_that_begins_earlier_is_fitted_in(web, target):
    web.cuts, web.shift = [300_000], 4096
    download(web.url("data.zip"), target, KNOWN)
    assert target.read_bytes() == BODY


def test_more_than_there_is_begins_anew(web, target):
    target.parent.mkdir()
    (target.parent / "data.zip.part").write_bytes(bytes(len(BODY) + 5))
    download(web.url("data.zip"), target, Expected(None, MD5))
    assert target.read_bytes() == BODY


def test_a_whole_part_is_verified_without_asking(web, target):
    target.parent.mkdir()
    (target.parent / "data.zip.part").write_bytes(BODY)
    download(web.url("data.zip"), target, KNOWN)
    assert web.asked == []
    assert target.read_bytes() == BODY


def test_a_wrong_checksum_says_which_and_what_to_do(web, target):
    web.files["data.zip"] = bytes(len(BODY))
    found = hashlib.md5(bytes(len(BODY))).hexdigest()
    with pytest.raises(
        IntegrityError,
        match=rf"data.zip: expected md5 {MD5.digest}, found {found}; .*damaged.*show NAME --toml.*data.zip.rejected",
    ):
        download(web.url("data.zip"), target, KNOWN)
    assert left(target) == ["data.zip.rejected"]


def test_another_size_is_refused_before_it_is_fetched(web, target):
    web.files["data.zip"], web.headers = b"<html>", {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(
        IntegrityError, match=r"expected 700001 bytes, the server offers a web page of 6 bytes; .*--url"
    ):
        download(web.url("data.zip"), target, KNOWN)
    assert left(target) == []


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "is not there"), (410, "is no longer there"), (403, "is not allowed"), (451, "is not given out")],
)
def test_a_refusal_is_final(web, target, status, text):
    web.answers = [(status, {})]
    with pytest.raises(DownloadError, match=rf"the file {text} \(HTTP {status}\).*--url.*--archive"):
        download(web.url("data.zip"), target, KNOWN)
    assert len(web.asked) == 1


def test_a_busy_server_is_asked_again(web, target, monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    web.answers = [(503, {"Retry-After": "7"}), (429, {"Retry-After": "86400"})]
    download(web.url("data.zip"), target, KNOWN)
    assert target.read_bytes() == BODY
    assert slept == [7.0, module.LONGEST_WAIT_S]


def test_tries_are_bounded(web, target):
    web.answers = [(500, {})] * 20
    with pytest.raises(
        DownloadError, match="gave up after several tries, the last one: the server answered 500"
    ):
        download(web.url("data.zip"), target, KNOWN)
    assert len(web.asked) == 3


def test_no_network(target):
    with pytest.raises(DownloadError, match=r"gave up.*cannot be reached \(.*is there a network"):
        download("http://127.0.0.1:9/data.zip", target, KNOWN)


def test_redirections_stay_on_the_web(web, target):
    web.answers = [(302, {"Location": web.url("data.zip")})]
    download(web.url("short"), target, KNOWN)
    assert target.read_bytes() == BODY
    for place in ("file:///etc/hostname", "ftp://host/data.zip"):
        web.answers = [(302, {"Location": place})]
        with pytest.raises(DownloadError, match=f"points to {place}, which is not on the web"):
            download(web.url("short"), target.with_name("other"))


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/x", "data:,x", "nothing"])
def test_other_addresses_are_refused(target, url):
    with pytest.raises(InputError, match="expected an address that begins with https:// or http://"):
        download(url, target)


def test_a_coded_body_is_refused(web, target):
    web.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(DownloadError, match="sends it with Content-Encoding gzip"):
        download(web.url("data.zip"), target, KNOWN)


def test_more_than_was_promised_is_refused(web, target):
    class Endless:
        headers, status = {}, 200

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, n):
            return bytes(n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Job, "_open", lambda *_: Endless())
        with pytest.raises(IntegrityError, match="expected 1000 bytes, the server sends more"):
            download(web.url("data.zip"), target, Expected(1000))
    assert (target.parent / "data.zip.part").stat().st_size <= 1000


def test_a_disk_that_is_too_small_is_told_before(web, target, monkeypatch):
    monkeypatch.setattr(module, "SPARE", 10**18)
    with pytest.raises(ResourceError, match="MB of free disk for what is still to come"):
        download(web.url("data.zip"), target, KNOWN)


def test_a_disk_that_fills_up_keeps_what_has_come(web, target, monkeypatch):
    class Full:
        def write(self, piece):
            raise OSError(errno.ENOSPC, "No space left on device")

    real = module._Job._write
    calls = []

    def write(self, file, piece):
        calls.append(1)
        real(self, file if len(calls) < 2 else Full(), piece)

    monkeypatch.setattr(module._Job, "_write", write)
    with pytest.raises(ResourceError, match="the disk is full; free some and give the same command again"):
        download(web.url("data.zip"), target, KNOWN)
    monkeypatch.setattr(module._Job, "_write", real)
    download(web.url("data.zip"), target, KNOWN)
    assert web.asked[-1]["Range"] == f"bytes={module.PIECE}-"
    assert target.read_bytes() == BODY


def test_verify_tells_a_size(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    with pytest.raises(IntegrityError, match="here: expected 4 bytes, found 3; the file is incomplete"):
        verify(tmp_path / "file", Expected(4), "here")


def test_notes_that_cannot_be_read_are_none(web, target):
    target.parent.mkdir()
    (target.parent / "data.zip.part").write_bytes(BODY[:5])
    (target.parent / "data.zip.part.json").write_text(
        json.dumps({"url": "http://elsewhere", "mark": '"v1"'})[:-4]
    )
    download(web.url("data.zip"), target)
    assert target.read_bytes() == BODY
