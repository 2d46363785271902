import numpy as np
import pytest

from densem.errors import FormatError
from densem.volumes.raw import RawArray


@pytest.mark.parametrize("order", "<>")
def test_equals_a_memory_map(tmp_path, voxels, order):
    path = tmp_path / "a.raw"
    path.write_bytes(b"headr" + voxels.astype(f"{order}u2").tobytes())
    raw = RawArray(path, 5, voxels.shape, np.dtype(f"{order}u2"))
    assert raw.dtype == np.uint16
    rng = np.random.default_rng(0)
    for _ in range(20):
        spans = [sorted(rng.integers(0, n + 1, 2)) for n in voxels.shape]
        key = tuple(slice(int(a), int(b)) for a, b in spans)
        np.testing.assert_array_equal(raw[key], voxels[key])


def test_too_short(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(99))
    with pytest.raises(
        FormatError, match="expected 100 bytes for 2 x 5 x 9 voxels of uint8, found 99; the file is tr"
    ):
        RawArray(path, 10, (2, 5, 9), np.dtype(np.uint8))


def test_cut_while_it_is_read(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(100))
    raw = RawArray(path, 10, (2, 5, 9), np.dtype(np.uint8))
    path.write_bytes(bytes(60))
    with pytest.raises(FormatError, match="ended while it was read"):
        raw[0:2, 0:5, 0:9]
