"""Label index: counts and positions of classes."""

import numpy as np
import pytest

from densem.errors import SchemaError
from densem.sampling import LabelIndex, label_index
from densem.schema import LabelSchema
from densem.volumes import Volume

SCHEMA = LabelSchema.from_table(
    {
        "a": {"id": 3, "color": "#000000"},
        "b": {"id": 7, "color": "#0000ff"},
        "c": {"id": 9, "color": "#00ff00"},
    },
    "test",
)


def make(shape=(5, 70, 90), seed=0):
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([3, 7, 255], np.uint8), shape, p=[0.9, 0.01, 0.09])


def test_counts_and_positions_name_the_right_voxels(monkeypatch):
    monkeypatch.setattr(label_index, "BLOCK", (2, 32, 40))
    ids = make()
    index = LabelIndex.scan(Volume(ids, (40, 10, 9)), SCHEMA, seed=1)
    assert index.counts.tolist() == [(ids == 3).sum(), (ids == 7).sum(), 0]
    assert index.labelled == (ids != 255).sum()
    for positions, label in zip(index.positions, SCHEMA.ids, strict=True):
        assert (ids[tuple(positions.T)] == label).all()
    assert len(index.positions[1]) == (ids == 7).sum()
    assert len(index.positions[2]) == 0


def test_the_sample_of_positions_is_bounded_distinct_and_spread_over_blocks(monkeypatch):
    monkeypatch.setattr(label_index, "BLOCK", (2, 32, 40))
    monkeypatch.setattr(label_index, "POSITIONS", 500)
    index = LabelIndex.scan(Volume(make(), (40, 10, 9)), SCHEMA, seed=1)
    positions = index.positions[0]
    assert len(np.unique(positions, axis=0)) == 500
    assert np.bincount(positions[:, 0], minlength=5) == pytest.approx(np.full(5, 100), abs=45)


def test_unknown_ids_are_listed_with_counts():
    ids = make()
    ids[0, 0, :4] = 8
    with pytest.raises(SchemaError, match=r"expected ids 3, 7, 9 or 255 .* found 8 \(4 voxels\)"):
        LabelIndex.scan(Volume(ids, (40, 10, 9)), SCHEMA, seed=1)
