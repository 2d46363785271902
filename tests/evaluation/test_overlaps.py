"""The table of overlaps: literals, blockwise equals whole, what touches what, refusals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from densem.errors import ConfigError, InputError, SchemaError, ShapeError, VoxelSizeError
from densem.evaluation import ObjectVolumes, Overlaps, overlaps
from densem.evaluation import overlaps as module_function
from densem.volumes import Volume

SHAPE, VOXELS = (5, 7, 11), (40.0, 10.0, 8.0)
HUGE = 2**64 - 1


def volume(array, voxels=VOXELS):
    return Volume(np.asarray(array), voxels)


def line(*ids, dtype="uint16"):
    return volume(np.array(ids, dtype).reshape(1, 1, -1))


def rows(table: Overlaps):
    columns = table.true_classes, table.true_ids, table.predicted_classes, table.predicted_ids, table.voxels
    return [tuple(map(int, row)) for row in zip(*columns, strict=True)]


@pytest.fixture(scope="module")
def quartet():
    """True and predicted objects with classes; smooth enough for runs, with ids across 64 bits."""
    rng = np.random.default_rng(7)
    ids = np.array([0, 1, 2**32 + 1, HUGE], np.uint64)
    truth, prediction = (ids[np.sort(rng.integers(0, 4, SHAPE), axis=a)] for a in (2, 1))
    classes = np.array([0, 3, 255], np.uint8)
    return ObjectVolumes(
        volume(truth),
        volume(prediction),
        volume(classes[rng.integers(0, 3, SHAPE)]),
        volume(classes[rng.integers(0, 3, SHAPE)]),
    )


def test_a_table_counted_by_hand():
    volumes = ObjectVolumes(
        line(1, 1, 0, 0, 1, 9), line(5, 5, 0, 5, 6, 6), line(2, 2, 0, 255, 2, 2, dtype="uint8"), None, 9
    )
    assert rows(overlaps(volumes)) == [(0, 0, 0, 0, 1), (255, 0, 0, 5, 1), (255, 0, 0, 6, 1),
                                       (2, 1, 0, 5, 2), (2, 1, 0, 6, 1)]  # fmt: skip
    pairs = [tuple(map(int, row)) for row in zip(*overlaps(volumes).pairs(), strict=True)]
    assert pairs == [(0, 0, 1), (1, 5, 2), (1, 6, 1)]


@pytest.mark.parametrize("block", [(1, 1, 4), (2, 3, 5), (5, 7, 11), (64, 64, 64)])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ignored", [None, 1, HUGE])
def test_blockwise_equals_whole(quartet, block, workers, ignored):
    volumes = ObjectVolumes(quartet.truth, quartet.prediction, quartet.true_classes,
                            quartet.predicted_classes, ignored)  # fmt: skip
    expected: Counter = Counter()
    arrays = [v.read().ravel().tolist() for v in (volumes.true_classes, volumes.truth,
                                                  volumes.predicted_classes, volumes.prediction)]  # fmt: skip
    for c, t, d, p in zip(*arrays, strict=True):
        c = 255 if t == ignored else c
        expected[c, 0 if c == 255 else t, d, p] += 1
    found = rows(overlaps(volumes, block=block, workers=workers))
    assert {row[:4]: row[4] for row in found} == dict(expected)
    assert len(found) == len(expected)
    assert [(r[1], r[3]) for r in found] == sorted((r[1], r[3]) for r in found)


def test_many_small_tables_are_added_up_in_between(quartet, monkeypatch):
    import importlib

    monkeypatch.setattr(importlib.import_module(module_function.__module__), "_FEW", 3)
    assert rows(overlaps(quartet, block=(1, 2, 3))) == rows(overlaps(quartet))


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">u2", "uint32", "int64", "uint64"])
def test_the_type_of_the_ids_does_not_matter(dtype):
    rng = np.random.default_rng(1)
    truth, prediction = rng.integers(0, 5, (2, *SHAPE))
    plain = overlaps(ObjectVolumes(volume(truth), volume(prediction)), True)
    other = overlaps(ObjectVolumes(volume(truth.astype(dtype)), volume(prediction)), True)
    assert rows(other) == rows(plain)
    assert np.array_equal(other.true_touching, plain.true_touching)


def test_only_blocks_are_read():
    class Watched:
        shape, dtype, largest = (6, 20, 30), np.dtype("uint32"), 0

        def __getitem__(self, key):
            out = np.ones(self.shape, np.uint32)[key]
            self.largest = max(self.largest, out.size)
            return out

    array = Watched()
    both = ObjectVolumes(Volume(array, VOXELS), Volume(array, VOXELS))
    told = []
    table = overlaps(both, True, block=(2, 5, 7), progress=lambda done, of: told.append((done, of)))
    assert rows(table) == [(0, 1, 0, 1, 3600)]
    assert array.largest == 3 * 6 * 8
    assert told[-1] == (60, 60)


# ---- what touches ----------------------------------------------------------------------------


def test_objects_that_touch_the_border_or_ignored_voxels_by_hand():
    truth = np.zeros((5, 7, 11), np.uint16)
    truth[2, 3, 5] = 1  # free
    truth[2, 1, 9] = 2  # beside an ignored voxel, in x
    truth[1, 5, 2] = 3  # an ignored voxel lies at its corner only
    truth[0, 3, 2] = 4  # in the first slice
    truth[2, 6, 8] = 5  # in the last row
    classes = np.zeros(truth.shape, np.uint8)
    classes[2, 1, 8] = classes[2, 4, 2] = 255
    volumes = ObjectVolumes(volume(truth), volume(truth[..., ::-1]), volume(classes))
    for block in ((1, 1, 1), (2, 2, 9), (5, 7, 11)):
        table = overlaps(volumes, True, block=block, workers=2)
        assert table.true_touching.tolist() == [2, 4, 5]
        assert table.predicted_touching.tolist() == [4, 5]  # mirrored, 2 lies elsewhere
    assert overlaps(volumes).true_touching is None


def test_an_axis_of_one_voxel_has_no_border():
    slice_ = np.zeros((1, 5, 6), np.uint8)
    slice_[0, 2, 2], slice_[0, 4, 3] = 1, 2
    table = overlaps(ObjectVolumes(volume(slice_), volume(slice_)), True)
    assert table.true_touching.tolist() == [2]


def test_touching_is_the_same_for_any_block(quartet):
    whole = overlaps(quartet, True)
    cut = overlaps(quartet, True, block=(2, 3, 4), workers=3)
    assert np.array_equal(whole.true_touching, cut.true_touching)
    assert np.array_equal(whole.predicted_touching, cut.predicted_touching)


# ---- refusals --------------------------------------------------------------------------------


def refusal(kind, volumes):
    with pytest.raises(kind) as caught:
        overlaps(volumes)
    return str(caught.value)


def test_volumes_that_cannot_be_compared_are_refused():
    ids = line(1, 2)
    assert "has shape (1, 1, 2) and prediction volume has (1, 1, 1)" in refusal(
        ShapeError, ObjectVolumes(ids, line(1))
    )
    assert "voxels of 40 10 8 nm" in refusal(
        VoxelSizeError, ObjectVolumes(ids, volume(np.ones((1, 1, 2), np.uint8), (40.0, 10.0, 9.0)))
    )
    assert "has shape (1, 1, 3)" in refusal(ShapeError, ObjectVolumes(ids, ids, line(0, 0, 0)))
    assert refusal(InputError, ObjectVolumes(ids, line(0.5, 1, dtype="float32"))) == (
        "predicted objects volume: expected whole numbers (object ids), found float32"
    )


def test_ids_below_zero_are_refused():
    assert refusal(InputError, ObjectVolumes(line(1, -3, dtype="int32"), line(1, 1))) == (
        "volume: expected object ids from 0 up, found -3 in box z 0:1, y 0:1, x 0:2; 0 is no object"
    )


def test_class_ids_that_cannot_be_are_refused():
    assert "expected class ids from 0 to 255, found 300" in refusal(
        SchemaError, ObjectVolumes(line(1, 1), line(1, 1), line(0, 300))
    )


@pytest.mark.parametrize("ignored", [0, -1, 2**64])
def test_an_ignored_id_that_is_no_object_is_refused(ignored):
    assert refusal(ConfigError, ObjectVolumes(line(1), line(1), None, None, ignored)) == (
        f"ignored id: expected an object id from 1 to 2^64 - 1, found {ignored}; "
        "0 is no object and always counts"
    )
