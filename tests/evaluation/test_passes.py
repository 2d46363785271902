"""Passes by a crew: what threads find to the last bit, kept as JSON, resumable."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densem.blocks import Grid, Journal, LocalCrew, Report, RunOptions
from densem.errors import IncompleteError, ResourceError, SchemaError
from densem.evaluation import Protocol, block_tables, boundaries, calibration, passes
from densem.evaluation.calibration import LevelTask
from densem.evaluation.counting import CountTask
from densem.evaluation.passes import CrewPasses, ThreadPasses, block_for
from densem.evaluation.surfaces import Surface, packed, unpacked
from densem.schema import LabelSchema
from densem.volumes import Volume
from densem.volumes.shared import Shared

SHAPE, VOXELS, BLOCK = (5, 40, 61), (40.0, 10.0, 8.0), (2, 16, 32)  # 18 blocks
SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 3, "color": "#000000", "background": True},
        "cell": {"id": 40, "color": "#0000ff"},
        "granule": {"id": 254, "color": "#00ff00", "parent": "cell", "organelle": True},
    },
    "test",
)
Pair = tuple[Volume, Volume]


def volume(array: np.ndarray, name: str) -> Volume:
    return Volume(array, VOXELS, attributes={"id": name})


@pytest.fixture
def pair() -> Pair:
    rng = np.random.default_rng(4)
    ids = np.array([3, 40, 254, 255], np.uint8)
    return volume(ids[rng.integers(0, 4, SHAPE)], "t"), volume(ids[rng.integers(0, 4, SHAPE)], "p")


@pytest.fixture
def sure() -> Volume:
    return volume(np.random.default_rng(5).integers(60, 256, SHAPE, dtype=np.uint8), "c")


class Watched:
    """A local crew that tells what it was left to do."""

    def __init__(self, workers: int = 1) -> None:
        self.crew, self.reports = LocalCrew(RunOptions(workers)), list[Report]()

    def do(self, *arguments: Any) -> Report:
        self.reports.append(self.crew.do(*arguments))
        return self.reports[-1]


# ---- the same --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("workers", [1, 3])
def test_a_crew_finds_what_threads_find(
    tmp_path: Path, pair: Pair, sure: Volume, protocol: Protocol, workers: int
) -> None:
    by = CrewPasses(LocalCrew(RunOptions(workers)), tmp_path)
    told: list[tuple[int, int]] = []
    tables = block_tables(
        *pair, SCHEMA, protocol, 150.0, read=BLOCK, passes=by, progress=lambda *now: told.append(now)
    )
    expected = block_tables(*pair, SCHEMA, protocol, 150.0)
    np.testing.assert_array_equal(tables.counts, expected.counts)
    assert tables.counts.dtype == expected.counts.dtype
    assert told[-1] == (12200, 12200)
    found = calibration(*pair, sure, SCHEMA, protocol, block=BLOCK, passes=by)
    assert found == calibration(*pair, sure, SCHEMA, protocol)
    distances = boundaries(*pair, SCHEMA, protocol, block=BLOCK, passes=by)
    assert distances == boundaries(*pair, SCHEMA, protocol)
    assert distances.classes[2].truth_um2 > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["boundaries", "calibration", "counts"]
    assert not by.resumable


def test_counts_survive_json() -> None:
    """Ids that are none, numbers beyond 32 bits, cells that are cut by a block."""
    truth = np.full((2, 3, 4), 300, np.int32)
    truth[0], truth[1, 0] = 40, -1
    prediction = np.full((2, 3, 4), 255, np.uint8)
    prediction[0, 1] = 254
    cells = Grid((4, 3, 4), (1, 3, 4))
    task = CountTask(Shared(volume(truth, "t")), Shared(volume(prediction, "p")), cells, SCHEMA)
    result = task(Grid((2, 3, 4), (2, 3, 4)).box(0))
    result.joint[255, 255] += 2**40
    again = task.decode(json.loads(json.dumps(task.encode(result))))
    assert [number for number, _ in again.pieces] == [0, 1]
    for (_, one), (_, other) in zip(result.pieces, again.pieces, strict=True):
        np.testing.assert_array_equal(one, other)
        assert other.dtype == np.int64
    np.testing.assert_array_equal(again.pieces[0][1], [[0, 0, 0, 0], [0, 0, 4, 8], [0, 0, 0, 0]])
    np.testing.assert_array_equal(again.joint, result.joint)
    assert again.strays == (Counter({-1: 4, 300: 8}), Counter())


def test_levels_survive_json(pair: Pair, sure: Volume) -> None:
    task = LevelTask(*(Shared(v) for v in (*pair, sure)), background=3)
    result = task(Grid(SHAPE, SHAPE).box(0))
    again = task.decode(json.loads(json.dumps(task.encode(result))))
    np.testing.assert_array_equal(again, result)
    assert (again.shape, again.dtype) == ((2, 256), np.int64)


def test_surfaces_survive_json_in_few_bytes() -> None:
    rng = np.random.default_rng(0)
    places = np.sort(rng.choice(10**5, 2 * 10**4, replace=False)).astype(np.int64) + 2**40
    full = Surface(places, rng.integers(1, 255, places.size).astype(np.uint8))
    empty = Surface(places[:0], full.codes[:0])
    one = Surface(places[-1:], full.codes[:1])
    text = json.dumps(packed([[full, empty], [empty, one]]))
    assert len(text) < 4 * len(full)
    again = unpacked(json.loads(text))
    for side, expected in zip(again, [[full, empty], [empty, one]], strict=True):
        for surface, wanted in zip(side, expected, strict=True):
            np.testing.assert_array_equal(surface.places, wanted.places)
            np.testing.assert_array_equal(surface.codes, wanted.codes)
            assert (surface.places.dtype, surface.codes.dtype) == (np.int64, np.uint8)


# ---- stopped ---------------------------------------------------------------------------------


def interrupted(pair: Pair, folder: Path, after: int) -> int:
    journal, by = Journal(folder / "counts"), CrewPasses(LocalCrew(), folder)

    def stop(done: int, total: int) -> None:
        if len(journal.done()) >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block_tables(*pair, SCHEMA, read=BLOCK, passes=by, progress=stop)
    assert by.resumable
    return len(journal.done())


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, pair: Pair) -> None:
    done, crew = interrupted(pair, tmp_path, 7), Watched(3)
    tables = block_tables(*pair, SCHEMA, read=BLOCK, passes=CrewPasses(crew, tmp_path))
    assert [(r.resumed, r.done) for r in crew.reports] == [(done, 18 - done)]
    np.testing.assert_array_equal(tables.counts, block_tables(*pair, SCHEMA).counts)


@pytest.mark.parametrize("change", ["prediction", "blocks", "side", "torn plan"])
def test_what_was_found_otherwise_is_forgotten(tmp_path: Path, pair: Pair, change: str) -> None:
    interrupted(pair, tmp_path, 7)
    truth, prediction = pair
    read, side = BLOCK, None
    if change == "torn plan":
        (tmp_path / "counts/plan.json").write_text('{"truth": ')
    elif change == "prediction":
        prediction = volume(np.full(SHAPE, 40, np.uint8), "q")
    elif change == "blocks":
        read = (5, 16, 32)
    else:
        side = 300.0
    crew = Watched()
    tables = block_tables(
        truth, prediction, SCHEMA, side_nm=side, read=read, passes=CrewPasses(crew, tmp_path)
    )
    assert [r.resumed for r in crew.reports] == [0]
    np.testing.assert_array_equal(tables.counts, block_tables(truth, prediction, SCHEMA, side_nm=side).counts)


def test_ids_that_are_no_class_are_refused_as_by_threads(tmp_path: Path, pair: Pair) -> None:
    wrong = pair[1].read().astype(np.int32)
    wrong[4, 30:33, 60], wrong[0, 0, 0], wrong[2, 2, 2:4] = 7000, -1, 41
    said, by = [], CrewPasses(LocalCrew(), tmp_path)
    for who in (by, None):
        with pytest.raises(SchemaError) as caught:
            block_tables(pair[0], volume(wrong, "w"), SCHEMA, read=BLOCK, passes=who)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "-1 (1 voxel), 41 (2 voxels), 7000 (3 voxels)" in said[0]
    assert not by.resumable


def test_surfaces_of_too_many_points_are_refused(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[boundaries.__module__], "MOST_POINTS", 500)
    with pytest.raises(ResourceError, match="has more than 500 points"):
        boundaries(*pair, SCHEMA, block=BLOCK, passes=CrewPasses(LocalCrew(), tmp_path))


def test_a_block_that_cannot_be_read_is_named(tmp_path: Path, pair: Pair) -> None:
    class Broken:
        shape, dtype = SHAPE, np.dtype(np.uint8)

        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            if key[0].start == 2:
                raise OSError("the disk is away")
            return np.full(SHAPE, 3, np.uint8)[key]

    broken = Volume(Broken(), VOXELS, attributes={"id": "b"})
    by = CrewPasses(LocalCrew(RunOptions(retries=0)), tmp_path)
    with pytest.raises(IncompleteError, match=r"6 of 18 blocks are missing.*the disk is away"):
        block_tables(pair[0], broken, SCHEMA, read=BLOCK, passes=by)
    assert by.resumable
    assert len(Journal(tmp_path / "counts").done()) == 12


# ---- blocks ----------------------------------------------------------------------------------


def test_threads_give_results_in_order() -> None:
    class Start:
        name = "start"

        def __call__(self, box: Any) -> Any:
            return box.start

    grid = Grid(SHAPE, BLOCK)
    for workers in (1, 3):
        assert list(ThreadPasses(workers).over(Start(), grid)) == [box.start for box in grid]  # type: ignore[arg-type, type-var]


def test_blocks_grow_where_there_are_many() -> None:
    assert block_for((24, 1024, 900)) == passes.BLOCK
    assert block_for((10_000, 10_000, 10_000)) == (32, 1024, 1024)
    assert block_for((100_000, 100_000, 100_000)) == (32, 2048, 2048)
