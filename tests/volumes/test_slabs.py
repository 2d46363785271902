"""Slabs of whole slices cover a volume once, in order, and stay small."""

import numpy as np

from densem.volumes import Volume, slabs


def test_every_slice_comes_once_and_in_order(monkeypatch):
    voxels = np.arange(37 * 5 * 7, dtype=np.uint16).reshape(37, 5, 7)
    volume, told = Volume(voxels, (40.0, 8.0, 10.0)), []
    found = list(slabs.slabs(volume, lambda *counts: told.append(counts)))
    assert [(first, len(slab)) for first, slab in found] == [(0, 16), (16, 16), (32, 5)]
    assert told == [(16, 37), (32, 37), (37, 37)]
    assert np.array_equal(np.concatenate([slab for _, slab in found]), voxels)
    monkeypatch.setattr(slabs, "SLAB_BYTES", 3 * 5 * 7 * 2 + 1)
    assert {len(slab) for _, slab in slabs.slabs(volume)} == {3, 1}
    monkeypatch.setattr(slabs, "SLAB_BYTES", 1)  # a slice is the least
    assert {len(slab) for _, slab in slabs.slabs(volume)} == {1}
