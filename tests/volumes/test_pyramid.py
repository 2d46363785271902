import itertools
import os
from collections import Counter

import numpy as np
import pytest
import zarr

from densem.blocks import ClusterCrew, LocalCrew, RunOptions
from densem.errors import IncompleteError
from densem.volumes import ome_zarr, open_volume, pyramid, shards


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


@pytest.mark.parametrize("size", [(1, 4, 4), (10, 40, 40), (40, 10, 10), (40, 10, 12), (3, 50, 7), (8, 8, 8)])
@pytest.mark.parametrize(
    "shape", [(1, 2048, 2048), (2, 3000, 700), (3, 1, 5000), (24, 9000, 800), (700, 300, 257), (1, 1, 1)]
)
def test_the_levels_of_any_volume_end(shape, size):
    found = list(itertools.islice(pyramid.coarser_levels(shape, size), 20))
    assert all(max(level.by) == 2 for level in found)
    assert max((found[-1].shape if found else shape)[1:]) <= pyramid.SMALLEST


def test_a_slice_with_the_finest_voxel_across_is_halved_in_plane():
    """One slice of 1 nm, and two of 10 nm, which are one after a level."""
    one = itertools.islice(pyramid.coarser_levels((1, 600, 520), (1.0, 4.0, 5.0)), 20)
    assert [(c.shape, c.voxel_size_nm) for c in one] == [
        ((1, 300, 260), (1.0, 8.0, 10.0)),
        ((1, 150, 130), (1.0, 16.0, 20.0)),
    ]
    two = itertools.islice(pyramid.coarser_levels((2, 600, 520), (10.0, 40.0, 40.0)), 20)
    assert [c.by for c in two] == [(2, 1, 1), (1, 2, 2), (1, 2, 2)]


def test_levels_of_a_stack_stay_as_they_are():
    """Until z, too, is as coarse as the plane."""
    found = [(c.shape, c.by) for c in pyramid.coarser_levels((21, 4000, 3001), (40.0, 10.0, 10.0))]
    assert found == [
        ((21, 2000, 1501), (1, 2, 2)), ((21, 1000, 751), (1, 2, 2)), ((11, 500, 376), (2, 2, 2)),
        ((6, 250, 188), (2, 2, 2)),
    ]  # fmt: skip


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


# ---- crews -----------------------------------------------------------------------------------

SIZE = (40.0, 10.0, 12.0)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(ome_zarr, "SHARD", (4, 32, 32))
    monkeypatch.setattr(ome_zarr, "CHUNK", (2, 16, 16))
    monkeypatch.setattr(pyramid, "SMALLEST", 16)


def begun(path, kind="labels", shape=(9, 149, 110)):
    """A volume whose level 0 is written; 18, 6, 2 and 1 shards at the levels above."""
    values = np.random.default_rng(4).integers(0, 5 if kind == "labels" else 255, shape, dtype=np.uint8)
    ome_zarr.create(path, shape, values.dtype)[:] = values
    return ome_zarr.temporary(path)


def chunk_files(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_any_number_of_workers_gives_the_same_files(tmp_path, small, kind):
    found = []
    for workers in (1, 3):
        folder = begun(tmp_path / f"{workers}.zarr", kind)
        levels = pyramid.build(folder, SIZE, kind, LocalCrew(RunOptions(workers)))
        assert [name for name, _ in levels] == ["s0", "s1", "s2", "s3", "s4"]
        found.append(chunk_files(folder))
    assert len(found[0]) > 60
    assert found[0] == found[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".1.zarr.part", ".3.zarr.part"]


def test_workers_of_a_cluster_give_the_same_files(tmp_path):
    distributed = pytest.importorskip("distributed")
    here, there = (begun(tmp_path / f"{n}.zarr", shape=(35, 1100, 1500)) for n in ("here", "there"))
    pyramid.build(here, SIZE, "labels")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path / "dask")
    ) as cluster, distributed.Client(cluster, set_as_default=False) as client:  # fmt: skip
        pyramid.build(there, SIZE, "labels", ClusterCrew(client, "dask"))
    assert len(chunk_files(here)) > 20
    assert chunk_files(here) == chunk_files(there)


class Breaks:
    """A crew that ends after so many blocks, as a killed process does."""

    def __init__(self, after):
        self.left = after
        self.done = []

    def do(self, task, grid, journal, on_progress=None):
        def broken(index, box):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            record = task(index, box)
            self.done.append((task.target, index))
            return record

        return LocalCrew().do(broken, grid, journal, on_progress)


@pytest.mark.parametrize("after", [0, 7, 18, 25])
def test_what_was_begun_is_gone_on_with(tmp_path, small, after):
    whole, folder = (begun(tmp_path / f"{n}.zarr") for n in ("whole", "broken"))
    pyramid.build(whole, SIZE, "labels")
    first, second = Breaks(after), Breaks(-1)
    with pytest.raises(KeyboardInterrupt):
        pyramid.build(folder, SIZE, "labels", first)
    pyramid.build(folder, SIZE, "labels", second)
    assert not {*first.done} & {*second.done}
    assert len(first.done) == after
    assert chunk_files(folder) == chunk_files(whole)


def test_a_block_that_the_disk_lost_is_made_again(tmp_path, small):
    whole, folder = (begun(tmp_path / f"{n}.zarr") for n in ("whole", "broken"))
    pyramid.build(whole, SIZE, "labels")
    with pytest.raises(KeyboardInterrupt):
        pyramid.build(folder, SIZE, "labels", Breaks(20))
    (folder / "s1/c/1/2/0").unlink()
    crew = Breaks(-1)
    pyramid.build(folder, SIZE, "labels", crew, workers=3)
    assert [i for level, i in crew.done if level == "s1"] == [(1 * 3 + 2) * 2]
    assert sum(level == "s2" for level, _ in crew.done) == 6  # it was made of what is not there any more
    assert chunk_files(folder) == chunk_files(whole)


def test_a_damaged_block_is_made_again(tmp_path, small):
    whole, folder = (begun(tmp_path / f"{n}.zarr") for n in ("whole", "broken"))
    pyramid.build(whole, SIZE, "labels")
    with pytest.raises(KeyboardInterrupt):
        pyramid.build(folder, SIZE, "labels", Breaks(20))
    for place in ("s1/c/1/2/0", "s2/c/0/1/0"):
        data = (folder / place).read_bytes()
        (folder / place).write_bytes(data[: len(data) // 2])
    pyramid.build(folder, SIZE, "labels", Breaks(-1))
    assert chunk_files(folder) == chunk_files(whole)


def test_a_block_is_on_disk_before_it_is_noted(tmp_path, small, monkeypatch):
    folder = begun(tmp_path / "a.zarr")
    synced, original = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino) or original(handle)
    )

    class Looks:
        def do(self, task, grid, journal, on_progress=None):
            def looked_after(index, box):
                record = task(index, box)
                files = {p.stat().st_ino for p in (folder / task.target / "c").rglob("*") if p.is_file()}
                assert len(files) == index + 1
                assert files <= set(synced)
                return record

            return LocalCrew(RunOptions(retries=0)).do(looked_after, grid, journal, on_progress)

    assert len(pyramid.build(folder, SIZE, "labels", Looks())) == 5


def test_what_workers_left_half_written_is_swept_up_from_every_level(tmp_path, small):
    folder = begun(tmp_path / "a.zarr")
    left = []

    class Killed:
        def do(self, task, grid, journal, on_progress=None):
            report = LocalCrew(RunOptions()).do(task, grid, journal, on_progress)
            left.append(folder / task.target / f"c/0/0/0.{'0f' * 16}.partial")
            left[-1].parent.mkdir(parents=True, exist_ok=True)
            left[-1].write_bytes(b"torn")
            return report

    levels = pyramid.build(folder, SIZE, "labels", Killed())
    assert len(left) == len(levels) - 1 > 1
    assert not any(path.exists() for path in left)


def test_a_disk_that_gives_back_something_else_is_noticed(tmp_path, small, monkeypatch):
    folder = begun(tmp_path / "a.zarr")
    made = itertools.count()
    monkeypatch.setattr(shards, "digest_of", lambda block: str(next(made)))
    with pytest.raises(IncompleteError, match=r"s1: the block z .* read back differs from"):
        pyramid.build(folder, SIZE, "labels")
