"""One pass over two label volumes: literals, equality with the whole, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from densem.blocks import Box
from densem.errors import ConfigError, InputError, SchemaError, ShapeError, VoxelSizeError
from densem.evaluation import Protocol, contingency
from densem.schema import LabelSchema
from densem.volumes import Volume

SHAPE, VOXELS = (5, 7, 11), (40.0, 10.0, 8.0)
SPARSE = LabelSchema.from_table(
    {
        "outside": {"id": 3, "color": "#000000", "background": True},
        "cell": {"id": 40, "color": "#0000ff"},
        "granule": {"id": 254, "color": "#00ff00", "parent": "cell", "organelle": True},
    },
    "test",
)


def volume(array: np.ndarray, voxels: tuple[float, float, float] = VOXELS) -> Volume:
    return Volume(array, voxels)


def line(*ids: int, dtype: str = "uint8") -> Volume:
    return volume(np.array(ids, dtype).reshape(1, 1, -1))


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    rng = np.random.default_rng(4)
    ids = np.array([3, 40, 254, 255], np.uint8)
    return volume(ids[rng.integers(0, 4, SHAPE)]), volume(ids[rng.integers(0, 4, SHAPE)])


def test_a_table_counted_by_hand() -> None:
    truth = line(3, 3, 3, 40, 40, 254, 255, 255)
    prediction = line(3, 3, 40, 40, 255, 3, 40, 255)
    table = contingency(truth, prediction, SPARSE)
    assert table.counts.tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    assert table.counts.dtype == np.int64
    assert (table.voxels, table.left_out) == (6, 2)


def test_inside_cells_background_and_unlabelled_are_left_out() -> None:
    truth = line(3, 3, 40, 40, 254, 254, 255)
    prediction = line(3, 254, 3, 254, 254, 40, 254)
    table = contingency(truth, prediction, SPARSE, Protocol.CELLS)
    assert table.counts.tolist() == [[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0]]
    assert (table.voxels, table.left_out) == (4, 3)


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("block", [(1, 1, 4), (2, 3, 5), (5, 7, 11), (64, 64, 64)])
@pytest.mark.parametrize("workers", [1, 3])
def test_blockwise_equals_whole(
    pair: tuple[Volume, Volume], protocol: Protocol, block: tuple[int, int, int], workers: int
) -> None:
    truth, prediction = (v.read() for v in pair)
    inside = truth != 255 if protocol is Protocol.LABELLED else (truth == 40) | (truth == 254)
    expected = [
        [np.sum(inside & (truth == t) & (prediction == p)) for p in (*SPARSE.ids, 255)] for t in SPARSE.ids
    ]
    table = contingency(*pair, SPARSE, protocol, block, workers)
    np.testing.assert_array_equal(table.counts, expected)
    assert table.voxels + table.left_out == truth.size


@pytest.mark.parametrize("dtype", ["uint16", "int64"])
def test_wider_label_types_count_the_same(pair: tuple[Volume, Volume], dtype: str) -> None:
    wide = [volume(v.read().astype(dtype)) for v in pair]
    np.testing.assert_array_equal(contingency(*wide, SPARSE).counts, contingency(*pair, SPARSE).counts)


def test_only_blocks_are_read() -> None:
    class Watched:
        shape, dtype, largest = (6, 20, 30), np.dtype("uint8"), 0

        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            out = np.full(self.shape, 3, np.uint8)[key]
            self.largest = max(self.largest, out.size)
            return out

    array = Watched()
    both = Volume(array, VOXELS)
    assert contingency(both, both, SPARSE, block=(2, 5, 7)).counts[0, 0] == 3600
    assert array.largest == Box.of_shape((2, 5, 7)).size


def test_tables_add_up_as_one_volume(pair: tuple[Volume, Volume]) -> None:
    upper, lower = Box((0, 0, 0), (2, 7, 11)), Box((2, 0, 0), (5, 7, 11))
    halves = [contingency(*(volume(v.read(box)) for v in pair), SPARSE) for box in (upper, lower)]
    whole, added = contingency(*pair, SPARSE), halves[0] + halves[1]
    np.testing.assert_array_equal(added.counts, whole.counts)
    assert added.left_out == whole.left_out


def test_tables_of_two_protocols_are_not_added(pair: tuple[Volume, Volume]) -> None:
    with pytest.raises(SchemaError, match=r"tables are added only if schema and protocol agree.*\(cells\)"):
        _ = contingency(*pair, SPARSE) + contingency(*pair, SPARSE, Protocol.CELLS)


# ---- refusals --------------------------------------------------------------------------------


def test_shapes_that_differ_are_refused_with_both() -> None:
    with pytest.raises(ShapeError) as caught:
        contingency(line(3, 3), line(3, 3, 3), SPARSE)
    assert str(caught.value) == (
        "annotation volume has shape (1, 1, 2) and prediction volume has (1, 1, 3) (z, y, x); "
        "both must lie on one grid: evaluate the prediction of the annotated volume"
    )


def test_voxel_sizes_that_differ_are_refused_with_both() -> None:
    other = volume(np.full((1, 1, 2), 3, np.uint8), (40.0, 8.0, 10.0))
    with pytest.raises(VoxelSizeError) as caught:
        contingency(line(3, 3), other, SPARSE)
    assert str(caught.value) == (
        "annotation volume has voxels of 40 10 8 nm and prediction volume of 40 8 10 nm (z, y, x); "
        "both must lie on one grid: correct the voxel size that is wrong, or predict again"
    )


def test_ids_outside_the_schema_are_refused_with_counts() -> None:
    with pytest.raises(SchemaError) as caught:
        contingency(line(3, 0, 0, 41), line(3, 3, 3, 3), SPARSE)
    assert str(caught.value) == (
        "annotation volume: ids outside the schema: 0 (2 voxels), 41 (1 voxel); "
        "expected 3, 40, 254 or 255 (unlabelled)"
    )


def test_ids_beyond_a_byte_are_refused_with_counts_even_where_the_truth_is_unlabelled() -> None:
    with pytest.raises(
        SchemaError, match=r"^prediction volume: ids outside the schema: -1 \(1 voxel\), 300 \(2 "
    ):
        contingency(line(255, 3, 3), line(300, 300, -1, dtype="int16"), SPARSE)


def test_a_long_list_of_foreign_ids_is_cut() -> None:
    ids = range(50, 62)
    with pytest.raises(SchemaError, match=r"57 \(1 voxel\), and 4 more; expected"):
        contingency(line(*ids), line(*[3] * 12), SPARSE)


def test_images_are_no_labels() -> None:
    with pytest.raises(InputError) as caught:
        contingency(line(3), volume(np.zeros((1, 1, 1), np.float32)), SPARSE)
    assert str(caught.value) == "prediction volume: expected whole numbers (class ids), found float32"


def test_nothing_labelled_is_refused() -> None:
    with pytest.raises(InputError, match=r"^volume: there is no labelled voxel to score; give an annotated"):
        contingency(line(255, 255), line(3, 3), SPARSE)
    with pytest.raises(InputError, match="there is no voxel inside a labelled cell to score"):
        contingency(line(255, 3), line(3, 3), SPARSE, Protocol.CELLS)


def test_the_protocol_cells_needs_a_background_and_organelles() -> None:
    with pytest.raises(SchemaError, match="expected a schema with a background class, found none among a, b"):
        contingency(line(0), line(0), LabelSchema.from_names(["a", "b"]), Protocol.CELLS)
    with pytest.raises(SchemaError, match=r"no class of the schema is one \(found inside, membrane\)"):
        contingency(line(0), line(0), LabelSchema.resolve("membrane"), Protocol.CELLS)


def test_protocols_by_name() -> None:
    assert Protocol.named("cells") is Protocol.CELLS
    with pytest.raises(ConfigError) as caught:
        Protocol.named("cell")
    assert (
        str(caught.value) == "protocol: expected one of labelled, cells, found 'cell'. Did you mean 'cells'?"
    )


def test_workers_read_a_few_blocks_ahead_and_no_more(pair: tuple[Volume, Volume]) -> None:
    asked: list[int] = []
    ahead: list[int] = []

    class Counted:
        shape, dtype = SHAPE, np.dtype(np.uint8)

        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            asked.append(1)
            return np.asarray(pair[0].array[key])

    told = contingency(
        Volume(Counted(), VOXELS), pair[1], SPARSE, block=(1, 2, 2), workers=2,
        progress=lambda done, total: ahead.append(len(asked) - done),
    )  # fmt: skip
    assert (told.counts == contingency(*pair, SPARSE).counts).all()
    assert len(asked) == 5 * 4 * 6
    assert max(ahead) <= 2 * 2


def test_progress_counts_blocks(pair: tuple[Volume, Volume]) -> None:
    told: list[tuple[int, int]] = []
    contingency(*pair, SPARSE, block=(2, 3, 5), workers=2, progress=lambda *now: told.append(now))
    assert told == [(n, 27) for n in range(1, 28)]
