"""Augmentation: labels follow exactly, grey values change, all of it seeded."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from densem.sampling import NONE, Augmentation, Piece
from densem.sampling import augmentation as changes

ISOTROPIC, OBLONG = (50.0, 4.0, 4.0), (50.0, 4.0, 6.0)
ALWAYS = Augmentation(
    elastic=Piece(probability=1, strength=8),
    rotation=Piece(probability=1, strength=40),
    scale=Piece(probability=1, strength=0.2),
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_resampling_equals_scipy():
    array = rng().random((3, 20, 30)).astype(np.float32)
    places = rng(1).uniform([[[0]], [[0]]], [[[19]], [[29]]], (2, 12, 17)).astype(np.float32)
    found = changes.resample(array, places, "linear")
    for section, expected in zip(found, array, strict=True):
        assert np.allclose(section, map_coordinates(expected, places, order=1), atol=1e-4)


def test_labels_keep_their_ids_under_all_movement():
    ids = np.array([2, 5, 254, 255], np.uint8)[rng().integers(0, 4, (3, 40, 50))]
    places = changes.displacement(ALWAYS, ids.shape, rng(3))
    moved = changes.resample(ids, places, "nearest")
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) <= {2, 5, 254, 255}


def test_image_and_labels_stay_together():
    labels = np.zeros((2, 60, 70), np.uint8)
    labels[:, 20:45, 25:50] = 1
    places = changes.displacement(ALWAYS, labels.shape, rng(4))
    image = changes.resample(labels.astype(np.float32), places, "linear")
    moved = changes.resample(labels, places, "nearest")
    assert ((image > 0.5) == (moved == 1)).mean() > 0.99


def test_no_movement_is_none_and_elastic_stays_within_its_strength():
    assert changes.displacement(NONE, (4, 30, 40), rng()) is None
    config = NONE.model_copy(update={"elastic": Piece(probability=1, strength=5)})
    places = changes.displacement(config, (4, 90, 121), rng())
    still = np.stack(np.meshgrid(np.arange(90), np.arange(121), indexing="ij"))
    assert 0 < np.abs(places - still).max() < 5 * 1.6


def test_a_shifted_section_moves_with_its_labels():
    image = rng().random((4, 30, 40)).astype(np.float32)
    labels = (image > 0.5).astype(np.uint8)
    config = Piece(probability=0.5, strength=6)
    before = image.copy()
    image, labels = changes.shift_sections([image, labels], config, rng(8))
    assert np.array_equal(labels, image > 0.5)
    moved = [not np.array_equal(a, b) for a, b in zip(image, before, strict=True)]
    assert any(moved)
    assert not all(moved)


def test_mirrored_indices_do_not_repeat_the_end():
    assert changes.mirrored(np.arange(-3, 8), 5).tolist() == [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]
    assert changes.mirrored(np.arange(-2, 3), 1).tolist() == [0, 0, 0, 0, 0]


def test_grey_values_change_only_where_asked():
    image = rng().random((5, 20, 30)).astype(np.float32)
    same = changes.damage_sections(changes.change_grey(image.copy(), NONE, rng()), NONE, rng())
    assert np.array_equal(same, image)
    missing = NONE.model_copy(update={"missing_section": Piece(probability=0.5, strength=1)})
    damaged = changes.damage_sections(image.copy(), missing, rng(5))
    constant = [len(np.unique(section)) == 1 for section in damaged]
    assert any(constant)
    assert all(c or np.array_equal(a, b) for c, a, b in zip(constant, damaged, image, strict=True))


def test_thin_stacks_lose_no_section():
    image = rng().random((2, 20, 30)).astype(np.float32)
    always = NONE.model_copy(update={"missing_section": Piece(probability=1, strength=1)})
    assert np.array_equal(changes.damage_sections(image.copy(), always, rng()), image)


@pytest.mark.parametrize("kind", ["brightness", "contrast", "gamma", "section_jitter", "noise", "blur"])
def test_every_kind_of_grey_change_does_something_finite(kind):
    image = rng().standard_normal((4, 20, 30)).astype(np.float32)
    config = NONE.model_copy(update={kind: Piece(probability=1, strength=2 if kind == "blur" else 0.5)})
    changed = changes.change_grey(image.copy(), config, rng(2))
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert not np.allclose(changed, image)


def test_turns_of_oblong_voxels_are_half_turns():
    turns = {changes.draw_turn(Augmentation(), OBLONG, rng(s)) for s in range(40)}
    assert turns == {0, 2}
    assert {changes.draw_turn(Augmentation(), ISOTROPIC, rng(s)) for s in range(40)} == {0, 1, 2, 3}


def test_turn_and_flip_literal():
    array = np.arange(6).reshape(1, 2, 3)
    assert changes.turn_and_flip(array, 1, ()).tolist() == [[[2, 5], [1, 4], [0, 3]]]
    assert changes.turn_and_flip(array, 0, (1, 2)).tolist() == [[[5, 4, 3], [2, 1, 0]]]
    assert changes.turn_and_flip(np.stack([array[0], -array[0]]), 0, (0,))[0].max() == 0


def test_flips_happen_on_each_axis():
    drawn = [changes.draw_flips(Augmentation(), rng(s)) for s in range(60)]
    assert {0, 1, 2} == {axis for axes in drawn for axis in axes}
    assert () in drawn
