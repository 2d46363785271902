import hashlib

import pytest

from densem.datasets.checksum import PIECE, Checksum
from densem.errors import ConfigError


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_of_a_file_as_hashlib_has_it(tmp_path, algorithm):
    data = bytes(range(256)) * 40
    (tmp_path / "file").write_bytes(data)
    found = Checksum.of(tmp_path / "file", algorithm)
    assert found == Checksum(algorithm, hashlib.new(algorithm, data).hexdigest())
    assert Checksum.parse(str(found).replace(found.digest, found.digest.upper())) == found


def test_pieces_are_told(tmp_path):
    (tmp_path / "file").write_bytes(bytes(PIECE + 5))
    told = []
    Checksum.of(tmp_path / "file", progress=lambda done, total: told.append((done, total)))
    assert told == [(PIECE, PIECE + 5), (PIECE + 5, PIECE + 5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("md6:00", r"expected algorithm:digest .* found the algorithm 'md6'. Did you mean 'md5'"),
        ("d41d8cd98f00b204e9800998ecf8427e", "found the algorithm 'd41d"),
        ("md5:d41d8cd98f00b204e9800998ecf8427", "expected 32 hex digits after md5:, found 31 characters"),
        ("sha1:" + "g" * 40, "expected 40 hex digits"),
    ],
)
def test_what_is_no_checksum_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        Checksum.parse(text)
