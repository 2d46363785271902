"""Checkpoints: whole or not there, the one before kept."""

import pytest
import torch

from densem.errors import IntegrityError
from densem.training import checkpoint


def test_the_newest_is_read_and_the_one_before_kept(tmp_path):
    assert checkpoint.read(tmp_path) is None
    for step in (1, 2):
        checkpoint.write(tmp_path, {"step": step, "weights": torch.full((2,), step)})
    assert checkpoint.read(tmp_path)["step"] == 2
    assert torch.load(tmp_path / checkpoint.PREVIOUS, weights_only=True)["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [checkpoint.PREVIOUS, checkpoint.LAST]


def test_a_torn_one_gives_way_to_the_one_before(tmp_path):
    for step in (1, 2):
        checkpoint.write(tmp_path, {"step": step})
    last = tmp_path / checkpoint.LAST
    last.write_bytes(last.read_bytes()[:100])
    assert checkpoint.read(tmp_path)["step"] == 1


def test_only_damaged_ones_are_refused(tmp_path):
    (tmp_path / checkpoint.LAST).write_bytes(b"junk")
    with pytest.raises(
        IntegrityError, match=r"expected a checkpoint, but it cannot be read .* remove .* to train"
    ):
        checkpoint.read(tmp_path)
