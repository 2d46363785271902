"""Patches: pure in (seed, i), in the right place, of one shape per batch."""

import numpy as np
import pytest

from densem.errors import InputError, ShapeError
from densem.sampling import (
    NONE,
    Augmentation,
    ErrorWeights,
    LabelledVolume,
    Patches,
    PatchSampler,
    Piece,
    TrainingSet,
)
from densem.schema import LabelSchema
from densem.volumes import Intensity, Volume

SCHEMA = LabelSchema.from_table(
    {
        "a": {"id": 1, "color": "#000000"},
        "b": {"id": 4, "color": "#0000ff"},
        "c": {"id": 6, "color": "#00ff00"},
    },
    "test",
)
UNIT = Intensity(0.0, 1.0, 0, 1, 0, 1, 1.0)
SMALL = Patches(shapes=((4, 16, 24),), rare=0.5)


def volume(ids, name="v", voxel_nm=(50.0, 4.0, 4.0)):
    """An image whose grey value says where a voxel is: z * 1e6 + y * 1e3 + x."""
    z, y, x = np.indices(ids.shape)
    image = (z * 1_000_000 + y * 1_000 + x).astype(np.float32)
    return LabelledVolume(
        Volume(image, voxel_nm, attributes={"intensity": UNIT.to_dict()}), Volume(ids, voxel_nm), name
    )


def ids_of(shape=(9, 60, 80), seed=0):
    """Class 1 mostly, a little of class 4, class 6 in one corner only, some unlabelled."""
    ids = np.random.default_rng(seed).choice(np.array([1, 4, 255], np.uint8), shape, p=[0.9, 0.05, 0.05])
    ids[0, :2, :3] = 6
    return ids


def sampler(volumes, config=SMALL, augmentation=NONE, seed=5, weights=None, cache=None, memory_gb=2.0):
    data = TrainingSet.prepare(volumes, SCHEMA, weights or ErrorWeights(), cache, memory_gb)
    return PatchSampler(config, data, seed, augmentation)


def with_(**pieces):
    return NONE.model_copy(update=pieces)


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def test_a_sample_depends_on_seed_and_number_alone():
    volumes = [volume(ids_of()), volume(ids_of((5, 40, 50), 1), "w")]
    first, again = (sampler(volumes, augmentation=Augmentation()) for _ in range(2))
    again.sample(99)
    assert all(same(first.sample(i), again.sample(i)) for i in (7, 0, 3))
    other = sampler(volumes, augmentation=Augmentation(), seed=6)
    assert not same(first.sample(0), other.sample(0))


def test_reading_by_boxes_gives_the_same_samples():
    held = sampler([volume(ids_of())], augmentation=Augmentation())
    lazy = sampler([volume(ids_of())], augmentation=Augmentation(), memory_gb=0)
    assert all(same(held.sample(i), lazy.sample(i)) for i in range(6))


def test_a_plain_patch_is_a_box_of_the_volume():
    ids = ids_of()
    drawn = sampler([volume(ids)])
    for i in range(20):
        image, labels, weights = drawn.sample(i)[:3]
        z, y, x = (int(image[0, 0, 0, 0]) // k % 1000 for k in (1_000_000, 1_000, 1))
        box = ids[z : z + 4, y : y + 16, x : x + 24]
        assert labels.shape == weights.shape == image.shape[1:] == (4, 16, 24)
        assert np.array_equal(labels, SCHEMA.channel_of_id[box])
        assert ((weights == 0) == (box == 255)).all()


def test_turned_patches_hold_the_voxels_of_a_box():
    drawn = sampler([volume(ids_of())], augmentation=with_(quarter_turns=1.0, flip_y=0.5))
    shapes = set()
    for i in range(30):
        image = drawn.sample(i).image[0].astype(int)
        y, x = image // 1_000 % 1_000, image % 1_000
        shapes.add((int(np.ptp(y)) + 1, int(np.ptp(x)) + 1))
        assert len(np.unique(image)) == image.size
    assert shapes == {(16, 24), (24, 16)}


def test_weights_are_class_weights_plus_floor_and_never_on_unlabelled_voxels():
    weights = ErrorWeights(balance="inverse", floor=0.25)
    drawn = sampler([volume(ids_of())], weights=weights)
    _, labels, found = drawn.sample(0)[:3]
    counts = np.array([s.index.counts for s in drawn.training_set.sources]).sum(axis=0)
    expected = (counts.min() / counts + 0.25)[np.minimum(labels, 2)]
    assert np.allclose(found, np.where(labels == 255, 0, expected), rtol=1e-5)


def test_boundary_weights_raise_the_edges(tmp_path):
    ids = np.ones((4, 40, 60), np.uint8)
    ids[:, :, 30:] = 4
    weights = ErrorWeights(balance="none", boundary=25)
    drawn = sampler([volume(ids)], Patches(shapes=((2, 40, 60),)), weights=weights, cache=tmp_path)
    row = drawn.sample(0).weights[0, 20]
    assert row[28:32] == pytest.approx([1 + 6.5, 26, 26, 1 + 6.5], rel=0.02)
    assert row[0] == 1


def test_rare_classes_are_met_often():
    volumes = [volume(ids_of((9, 200, 200)))]
    share = {}
    for rare in (0.0, 0.9):
        drawn = sampler(volumes, Patches(shapes=((4, 16, 24),), rare=rare))
        share[rare] = np.mean([(drawn.sample(i).labels == 2).any() for i in range(150)])
    assert share[0.0] < 0.03
    assert share[0.9] > 0.2


def test_mostly_unlabelled_volumes_still_give_labels():
    ids = np.full((9, 60, 80), 255, np.uint8)
    ids[4, 50:52, 60:63] = 4
    drawn = sampler([volume(ids)], Patches(shapes=((4, 16, 24),), rare=0.0, least_labelled=0.001))
    assert all((drawn.sample(i).labels == 1).any() for i in range(20))


def test_a_batch_has_one_shape_although_depths_differ():
    volumes = [volume(ids_of()), volume(ids_of((2, 60, 80), 1), "thin")]
    drawn = sampler(volumes, Patches(shapes=((6, 16, 24), (1, 32, 32)), batch=3))
    shapes = [drawn.batch(n).labels.shape for n in range(40)]
    assert set(shapes) == {(3, 6, 16, 24), (3, 2, 16, 24), (3, 1, 32, 32)}
    assert all(shape[1:] == drawn.shape_of_step(n) for n, shape in enumerate(shapes))


def test_volumes_smaller_than_a_patch_in_plane_are_mirrored():
    ids = ids_of((5, 20, 12))
    image, labels, _ = sampler([volume(ids)], Patches(shapes=((4, 32, 24),))).sample(1)[:3]
    y, x = image[0].astype(int) // 1_000 % 1_000, image[0].astype(int) % 1_000
    z = image[0].astype(int) // 1_000_000
    assert labels.shape == (4, 32, 24)
    assert np.array_equal(labels, SCHEMA.channel_of_id[ids[z, y, x]])
    assert set(np.unique(np.abs(np.diff(x, axis=-1)))) == {1}


def test_rotated_patches_read_real_neighbours():
    turned = Piece(probability=1, strength=30)
    drawn = sampler([volume(ids_of((5, 300, 300)))], Patches(shapes=((2, 64, 64),)), with_(rotation=turned))
    steps = np.diff(drawn.sample(3).image[0, 0], axis=1)
    assert abs(steps.mean()) > 5
    assert np.abs(steps - steps.mean()).max() < 1


def test_shapes_must_agree():
    with pytest.raises(
        ShapeError, match=r"w: image and labels .* one shape, found \(2, 3, 4\) and \(2, 3, 5\)"
    ):
        LabelledVolume(Volume(np.zeros((2, 3, 4)), (1, 1, 1)), Volume(np.zeros((2, 3, 5)), (1, 1, 1)), "w")


def test_nothing_labelled_is_refused():
    with pytest.raises(InputError, match="at least one labelled voxel, found none in: v"):
        sampler([volume(np.full((3, 20, 20), 255, np.uint8))])


def test_images_without_statistics_are_refused():
    image, labels = np.zeros((2, 20, 30), np.uint8), np.ones((2, 20, 30), np.uint8)
    bare = LabelledVolume(Volume(image, (9, 4, 4)), Volume(labels, (9, 4, 4)), "x")
    with pytest.raises(InputError, match="x: the image holds no intensity statistics"):
        sampler([bare]).sample(0)
