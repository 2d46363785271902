"""Tables by evaluation block: they sum to the whole, each block is itself, files come back or are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from densem.blocks import Grid
from densem.errors import ConfigError, FormatError, InputError, NotFoundError, SchemaError, ShapeError
from densem.evaluation import BlockTables, Protocol, block_tables, contingency, scores
from densem.evaluation.block_tables import block_shape, check_comparable
from densem.schema import LabelSchema
from densem.volumes import Volume

VOXELS = (40.0, 10.0, 8.0)
SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 3, "color": "#000000", "background": True},
        "cell": {"id": 40, "color": "#0000ff"},
        "granule": {"id": 254, "color": "#00ff00", "parent": "cell", "organelle": True},
    },
    "test",
)


def pair(shape: tuple[int, int, int] = (7, 23, 31), seed: int = 4) -> tuple[Volume, Volume]:
    rng = np.random.default_rng(seed)
    ids = np.array([3, 40, 254, 255], np.uint8)
    return tuple(Volume(ids[rng.integers(0, 4, shape)], VOXELS) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("side", [None, 45.0, 100.0, 1e6])
@pytest.mark.parametrize(("read", "workers"), [((32, 512, 512), 1), ((3, 7, 5), 3)])
def test_blocks_sum_to_the_whole_and_each_is_the_table_of_its_box(
    protocol: Protocol, side: float | None, read: tuple[int, int, int], workers: int
) -> None:
    truth, prediction = pair()
    tables = block_tables(truth, prediction, SCHEMA, protocol, side, read=read, workers=workers)
    whole = contingency(truth, prediction, SCHEMA, protocol)
    assert np.array_equal(tables.counts.sum(axis=0), whole.counts)
    assert tables.counts.dtype == np.int64
    assert tables.whole().left_out == whole.left_out
    assert scores(tables.whole()) == scores(whole)
    grid = Grid(truth.shape, tables.block)
    assert len(tables) == len(grid)
    for box, counts in zip(grid, tables.counts, strict=True):
        part = contingency(truth.part(box), prediction.part(box), SCHEMA, protocol)
        assert np.array_equal(counts, part.counts)


def test_blocks_without_labels_stay_in_their_place_and_are_not_scored() -> None:
    truth = np.full((1, 4, 40), 255, np.uint8)
    truth[:, :, 10:20] = 3
    volumes = Volume(truth, (10.0, 10.0, 10.0)), Volume(np.full_like(truth, 40), (10.0, 10.0, 10.0))
    tables = block_tables(*volumes, SCHEMA, side_nm=100)
    assert (tables.block, len(tables), tables.scored) == ((1, 4, 10), 4, 1)
    assert tables.counts.sum(axis=(1, 2)).tolist() == [0, 40, 0, 0]


@pytest.mark.parametrize(
    ("shape", "voxels", "side", "expected"),
    [
        # 3 sections of 50 nm, 4.7 µm wide: 2 µm would leave 4 blocks, 1.28 µm makes 16
        ((3, 1024, 1024), (50.0, 4.6, 4.6), None, (3, 256, 256)),
        # a block of 2 µm is what fits best
        ((100, 1000, 800), (40.0, 10.0, 10.0), None, (50, 200, 200)),
        # asymmetric sides, as asked
        ((10, 100, 90), (40.0, 10.0, 5.0), 200.0, (5, 20, 45)),
        # a part is never longer than the axis nor shorter than a voxel
        ((1, 2, 3), (40.0, 10.0, 5.0), 1.0, (1, 1, 1)),
    ],
)
def test_block_shapes(shape, voxels, side, expected) -> None:  # type: ignore[no-untyped-def]
    assert block_shape(shape, voxels, side) == expected


def test_the_default_makes_between_12_and_1000_blocks_of_a_volume_of_any_size() -> None:
    for shape in ((16, 128, 128), (3, 1024, 1024), (121, 609, 400), (500, 4000, 4000), (9000, 60000, 50000)):
        count = len(Grid(shape, block_shape(shape, (40.0, 10.0, 10.0))))
        assert 12 <= count <= 1000, shape


@pytest.mark.parametrize("side", [0.0, -5.0, float("nan"), float("inf")])
def test_a_side_must_be_above_zero(side: float) -> None:
    with pytest.raises(ConfigError, match="side of an evaluation block: expected nm above zero, found"):
        block_tables(*pair(), SCHEMA, side_nm=side)


def test_refusals_are_those_of_the_whole_table() -> None:
    truth, prediction = pair()
    with pytest.raises(ShapeError, match="both must lie on one grid"):
        block_tables(truth, Volume(prediction.read()[:5], VOXELS), SCHEMA)
    empty = Volume(np.full(truth.shape, 255, np.uint8), VOXELS)
    with pytest.raises(InputError, match="there is no labelled voxel to score"):
        block_tables(empty, prediction, SCHEMA)
    strange = truth.read().copy()
    strange[0, 0, :2] = 7
    with pytest.raises(SchemaError, match=r"annotation volume: ids outside the schema: 7 \(2 voxels\)"):
        block_tables(Volume(strange, VOXELS), prediction, SCHEMA, side_nm=50)


# ---- files -----------------------------------------------------------------------------------


def test_a_file_comes_back(tmp_path: Path) -> None:
    tables = block_tables(*pair(), SCHEMA, Protocol.CELLS, 100)
    again = BlockTables.load(tables.save(tmp_path / "blocks.npz"))
    assert np.array_equal(again.counts, tables.counts)
    kept = ("schema", "protocol", "shape", "block", "voxel_size_nm", "truth_id")
    assert all(getattr(again, key) == getattr(tables, key) for key in kept)
    assert again.truth_id == pair()[0].id
    assert [p.name for p in tmp_path.iterdir()] == ["blocks.npz"]


def test_files_that_are_wrong_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "blocks.npz"
    with pytest.raises(NotFoundError, match=r"blocks\.npz: no block tables there; evaluate again"):
        BlockTables.load(path)
    tables = block_tables(*pair(), SCHEMA, side_nm=100)
    whole = tables.save(path).read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="expected the block tables of an evaluation"):
            BlockTables.load(path)
    with np.load(tables.save(path)) as data:
        record = json.loads(str(data["record"]))
    for counts in (tables.counts[1:], tables.counts.astype(np.int32), -tables.counts):
        np.savez(path, counts=counts, record=np.array(json.dumps(record)))
        with pytest.raises(FormatError, match="expected counts int64"):
            BlockTables.load(path)
    np.savez(path, counts=tables.counts, record=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FormatError, match="expected the block tables"):  # would need pickle
        BlockTables.load(path)


def test_only_tables_of_one_annotation_in_the_same_blocks_are_compared() -> None:
    truth, prediction = pair()
    tables = block_tables(truth, prediction, SCHEMA, side_nm=100)
    check_comparable(tables, block_tables(truth, pair(seed=9)[1], SCHEMA, side_nm=100))
    with pytest.raises(SchemaError, match=r"compared only if schema and protocol agree.*\(cells\)"):
        check_comparable(tables, block_tables(truth, prediction, SCHEMA, Protocol.CELLS, 100))
    with pytest.raises(FormatError, match="only on one volume in the same blocks: found blocks of"):
        check_comparable(tables, block_tables(truth, prediction, SCHEMA, side_nm=50))
    with pytest.raises(FormatError, match="the true voxels of the blocks differ"):
        check_comparable(tables, block_tables(pair(seed=9)[0], prediction, SCHEMA, side_nm=100))
