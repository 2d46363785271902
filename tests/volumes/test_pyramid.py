from collections import Counter

import numpy as np
import pytest
import zarr

from densem.volumes import ome_zarr, open_volume, pyramid


def cells(block, by):
    """Every cell of a block with its last planes repeated, voxel by voxel in C order."""
    padded = np.pad(block, [(0, -s % f) for s, f in zip(block.shape, by, strict=True)], mode="edge")
    for place in np.ndindex(*(s // f for s, f in zip(padded.shape, by, strict=True))):
        at = tuple(slice(p * f, (p + 1) * f) for p, f in zip(place, by, strict=True))
        yield place, padded[at].ravel()


@pytest.mark.parametrize("by", [(1, 2, 2), (2, 2, 2), (2, 1, 2), (1, 1, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_means_as_one_would_by_hand(by, dtype):
    rng = np.random.default_rng(1)
    block = rng.integers(-3000 if dtype in ("int16", "float32") else 0, 250, (5, 7, 6)).astype(dtype)
    if dtype == "uint16":
        block += 65000
    got = pyramid.reduce(block, by, "image")
    assert got.dtype == block.dtype
    for place, cell in cells(block, by):
        mean = cell.astype(np.float64).mean()
        assert got[place] == pytest.approx(mean if dtype == "float32" else np.rint(mean), rel=1e-6)


@pytest.mark.parametrize("by", [(1, 2, 2), (2, 2, 2), (2, 1, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "uint64"])
def test_modes_as_one_would_by_hand(by, dtype):
    block = np.random.default_rng(2).integers(0, 4, (9, 7, 11)).astype(dtype)
    got = pyramid.reduce(block, by, "labels")
    for place, cell in cells(block, by):
        assert got[place] == Counter(cell.tolist()).most_common(1)[0][0]


def test_levels_become_isotropic():
    assert pyramid.factors((40, 10, 12), (9, 90, 90)) == (1, 2, 2)
    assert pyramid.factors((40, 40, 48), (9, 90, 90)) == (2, 2, 2)
    assert pyramid.factors((10, 10, 10), (1, 90, 90)) == (1, 2, 2)


def test_every_level_is_the_reduction_of_the_one_before(tmp_path, monkeypatch):
    monkeypatch.setattr(ome_zarr, "SHARD", (4, 32, 32))
    monkeypatch.setattr(ome_zarr, "CHUNK", (2, 16, 16))
    monkeypatch.setattr(pyramid, "SMALLEST", 16)
    values = np.random.default_rng(3).integers(0, 255, (9, 77, 50), dtype=np.uint8)
    path = tmp_path / "a.zarr"
    ome_zarr.create(path, values.shape, values.dtype)[:] = values
    part = ome_zarr.temporary(path)
    levels = pyramid.build(part, (20.0, 10.0, 12.0), "image")
    assert levels == [
        ("s0", (20.0, 10.0, 12.0)),
        ("s1", (20.0, 20.0, 24.0)),
        ("s2", (40.0, 40.0, 48.0)),
        ("s3", (80.0, 80.0, 96.0)),
    ]
    ome_zarr.describe(part, levels, (0.0, 0.0, 0.0), {})
    ome_zarr.finish(path)
    group = zarr.open_group(path, mode="r")
    for fine, coarse, by in (("s0", "s1", (1, 2, 2)), ("s1", "s2", (2, 2, 2)), ("s2", "s3", (2, 2, 2))):
        np.testing.assert_array_equal(group[coarse][:], pyramid.reduce(group[fine][:], by, "image"))
    second = open_volume(path, level=2)
    assert second.voxel_size_nm == (40, 40, 48)
    assert second.offset_nm == (10, 15, 18)
