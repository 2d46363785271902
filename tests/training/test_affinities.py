"""Affinities: literals by hand, turns and flips, what is unknown, the loss against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from densem.errors import ConfigError, InputError
from densem.sampling import NONE, Augmentation, LabelledVolume, Patches, PatchSampler, TrainingSet
from densem.sampling.error_weights import ErrorWeights
from densem.sampling.object_labels import annotated_things, local_ids
from densem.schema import LabelSchema
from densem.training import Recipe
from densem.training.affinities import affinity_loss, affinity_targets, default_offsets
from densem.training.losses import Batch, loss_of, loss_with_affinities
from densem.volumes import Intensity, Volume

X, U = 255, -1


def targets(ids, *offsets):
    return affinity_targets(torch.tensor(ids)[None], offsets)[0].numpy()


def test_a_row_by_hand():
    ids = [[[4, 4, 7, 0, 0, 7, U, 7]]]
    found = targets(ids, (0, 0, 1), (0, 0, 2), (0, 0, -1))
    assert found[0].tolist() == [[[1, 0, 0, X, 0, X, X, X]]]
    assert found[1].tolist() == [[[0, 0, 0, 0, X, 1, X, X]]]
    assert found[2].tolist() == [[[X, 1, 0, 0, X, 0, X, X]]]


def test_a_small_volume_by_hand():
    ids = [[[1, 2], [1, 1]], [[1, 2], [3, 2]]]
    found = targets(ids, (1, 0, 0), (0, 1, 0), (1, 1, -1))
    assert found[0].tolist() == [[[1, 1], [0, 0]], [[X, X], [X, X]]]
    assert found[1].tolist() == [[[1, 0], [X, X]], [[0, 1], [X, X]]]
    assert found[2].tolist() == [[[X, 0], [X, X]], [[X, X], [X, X]]]  # 2 at (0, 0, 1) and 3 at (1, 1, 0)


@pytest.mark.parametrize(("turn", "flips"), [(0, (0,)), (0, (1, 2)), (1, ()), (3, (0, 2)), (2, (1,))])
def test_targets_turn_and_flip_with_the_objects(turn, flips):
    """Of the turned objects they are the turned targets, with offsets that are turned as well."""
    rng = np.random.default_rng(turn)
    ids = rng.integers(-1, 3, (3, 6, 9)).astype(np.int32)

    def turned(array):
        return np.flip(np.rot90(array, turn, axes=(1, 2)), flips).copy()

    z, y, x = np.meshgrid(*(np.arange(n) for n in ids.shape), indexing="ij")
    came = [turned(a) for a in (z, y, x)]  # where each voxel of the turned patch was before
    for offset in ((0, 0, 1), (0, 2, 0), (1, 0, 0), (1, 1, -2)):
        p = np.array([a[1, 3, 3] for a in came])
        steps = [
            np.array([a[tuple(np.array((1, 3, 3)) + e)] for a in came]) - p for e in np.eye(3, dtype=int)
        ]
        before = tuple(int(sum(o * s[a] for o, s in zip(offset, steps, strict=True))) for a in range(3))
        expected = turned(targets(ids.tolist(), before)[0])
        np.testing.assert_array_equal(targets(turned(ids).tolist(), offset)[0], expected)


def test_default_offsets_are_about_as_long_along_each_axis():
    assert default_offsets((10, 10, 10)) == (
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 0, 0), (0, 3, 0), (0, 0, 3), (9, 0, 0), (0, 9, 0), (0, 0, 9),
    )  # fmt: skip
    assert default_offsets((40, 10, 8)) == (
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 2, 0), (0, 0, 3), (2, 0, 0), (0, 7, 0), (0, 0, 9),
    )  # fmt: skip


def test_loss_is_the_log_loss_with_both_kinds_alike():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 5, 7)
    truth = (torch.rand(2, 3, 2, 5, 7) < torch.tensor([0.2, 0.5, 0.9])[:, None, None, None]).to(torch.uint8)
    truth[:, :, 0, :2] = 255
    values, weights, p = [], [], []
    for k in range(3):
        known = truth[:, k] != 255
        y = truth[:, k][known].numpy()
        values.append(y)
        weights.append(np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean())))
        p.append(torch.sigmoid(logits[:, k][known].double()).numpy())
    expected = log_loss(np.concatenate(values), np.concatenate(p), sample_weight=np.concatenate(weights))
    assert affinity_loss(logits, truth).item() == pytest.approx(expected, rel=1e-5)


def test_what_is_unknown_changes_nothing_and_nothing_known_is_no_loss():
    logits = torch.randn(1, 2, 2, 4, 5, requires_grad=True)
    truth = torch.randint(0, 2, (1, 2, 2, 4, 5), dtype=torch.uint8)
    truth[..., 2:] = 255
    loss = affinity_loss(logits, truth)
    loss.backward()
    assert (logits.grad[..., 2:] == 0).all()
    assert (logits.grad[..., :2] != 0).all()
    assert affinity_loss(logits, torch.full_like(truth, 255)).item() == 0


def test_the_loss_of_classes_is_as_without_and_that_of_a_smaller_output_of_its_middle():
    torch.manual_seed(1)
    labels = torch.randint(0, 2, (1, 3, 6, 8), dtype=torch.uint8)
    ids = torch.randint(0, 3, (1, 3, 6, 8), dtype=torch.int32)
    batch = Batch(torch.zeros(1, 1, 3, 6, 8), labels, torch.ones(1, 3, 6, 8), objects=ids)
    offsets = ((0, 0, 1), (0, 2, 0))
    logits = torch.randn(1, 4, 3, 4, 4)

    def of_classes(heads):
        return loss_of(heads, batch, 0.3)

    found = loss_with_affinities({"semantic": logits}, batch, offsets, 0.5, of_classes)
    pairs = affinity_targets(ids, offsets)[:, :, :, 1:5, 2:6]
    expected = of_classes({"semantic": logits[:, :2]}) + 0.5 * affinity_loss(logits[:, 2:], pairs)
    assert found.item() == pytest.approx(expected.item())
    plain = {"semantic": logits[:, :2]}
    assert loss_with_affinities(plain, batch, (), 0.0, of_classes).item() == of_classes(plain).item()


# ---- from volumes ----------------------------------------------------------------------------

SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 2, "color": "#0000ff", "thing": True},
        "granule": {"id": 5, "color": "#00ff00", "parent": "cell", "thing": True},
    },
    "test",
)
NM = (40.0, 10.0, 10.0)
UNIT = Intensity(0.0, 1.0, 0, 1, 0, 1, 1.0)


def labelled(ids, objects, name="v"):
    """Grey values are the object ids, so that an image that is not resampled shows them."""
    seen = np.zeros(ids.shape) if objects is None else objects
    return LabelledVolume(
        Volume(seen.astype(np.float32), NM, attributes={"intensity": UNIT.to_dict()}),
        Volume(ids, NM),
        name,
        objects=None if objects is None else Volume(objects, NM),
    )


def blocks(shape=(6, 40, 48), seed=0):
    rng = np.random.default_rng(seed)
    objects = rng.integers(0, 5, tuple(-(-n // s) for n, s in zip(shape, (2, 8, 8), strict=True)))
    objects = objects.repeat(2, 0).repeat(8, 1).repeat(8, 2)[: shape[0], : shape[1], : shape[2]]
    ids = np.where(objects > 0, 2, 0).astype(np.uint8)
    ids[:, :4, :6] = 255
    return ids, (objects * 1_000_000_007).astype(np.uint64)


def data(volumes, **more):
    return TrainingSet.prepare(volumes, SCHEMA, ErrorWeights(), None, objects=True, **more)


@pytest.mark.parametrize("memory_gb", [2.0, 0.0])
def test_objects_move_with_the_image(memory_gb):
    """Quarter turns, flips, shifted sections and mirrored rims: ids lie where their grey values lie."""
    still = NONE.model_copy(
        update={"flip_z": 0.5, "flip_y": 0.5, "flip_x": 0.5, "quarter_turns": 1.0,
                "shifted_section": Augmentation().shifted_section.model_copy(update={"probability": 0.5})}
    )  # fmt: skip
    ids, objects = blocks()
    training_set = data([labelled(ids, objects)], memory_gb=memory_gb)
    assert training_set.things == ("cell",)
    sampler = PatchSampler(Patches(shapes=((4, 24, 32), (3, 56, 16))), training_set, 3, still)
    for i in range(8):
        sample = sampler.sample(i)
        assert sample.objects.dtype == np.int32
        assert ((sample.objects == -1) == (sample.labels == 255)).all()
        known = sample.objects >= 0
        pairs = np.unique(np.stack([sample.objects[known], sample.image[0][known]]), axis=1)
        assert pairs.shape[1] == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
        assert (sample.image[0][sample.objects == 0] == 0).all()


def test_without_objects_samples_are_as_before_and_a_volume_without_any_is_unknown():
    ids, objects = blocks()
    config = Patches(shapes=((3, 24, 24),))
    both = data([labelled(ids, objects), labelled(ids, None, "bare")])
    plain = TrainingSet.prepare([labelled(ids, objects)], SCHEMA, ErrorWeights(), None)
    one = PatchSampler(config, data([labelled(ids, objects)]), 1, Augmentation()).batch(2)
    other = PatchSampler(config, plain, 1, Augmentation()).batch(2)
    assert other.objects.size == 0
    assert all(np.array_equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))
    seen = [PatchSampler(config, both, 1).sample(i).objects for i in range(12)]
    assert any((s == -1).all() for s in seen)
    assert any((s > 0).any() for s in seen)


def test_local_ids():
    objects = np.array([[[0, 9, 9, 2**40]]], np.uint64)
    classes = np.array([[[0, 2, 255, 2]]], np.uint8)
    assert local_ids(objects, classes).tolist() == [[[0, 1, -1, 2]]]
    assert local_ids(objects[..., 1:], classes[..., 1:]).tolist() == [[[1, -1, 2]]]
    assert local_ids(None, classes).tolist() == [[[-1] * 4]]


def test_things_are_the_outermost_whose_voxels_lie_in_objects():
    ids = np.array([[[0, 2, 2, 5, 5, 2]]], np.uint8)
    cells, granules = np.array([[[0, 1, 1, 1, 1, 1]]]), np.array([[[0, 0, 0, 3, 3, 0]]])
    for objects, expected in ((cells, ("cell",)), (granules, ("granule",))):
        assert annotated_things([("v", Volume(ids, NM), Volume(objects, NM))], SCHEMA) == expected


def test_no_objects_or_none_of_a_thing_are_refused():
    ids, _ = blocks()
    with pytest.raises(InputError) as caught:
        data([labelled(ids, None), labelled(ids, None, "w")])
    assert str(caught.value) == (
        "affinities.share: affinities are learnt from annotated objects, and v, w has none; add them with  "
        "densem import STUDY VOLUME --instances FILE , or leave affinities.share at 0"
    )
    with pytest.raises(InputError, match=r"of v cover no thing class of the schema \(cell, granule\)"):
        data([labelled(ids, (ids == 0).astype(np.uint32))])


# ---- recipes ---------------------------------------------------------------------------------


def test_a_recipe_with_affinities_has_a_wider_network(table):
    recipe = Recipe.from_table({**table, "affinities": {"share": 1.0}}, "toy").planned((40.0, 10.0, 10.0))
    assert len(recipe.offsets) == 8
    image = torch.zeros(1, 1, 3, 16, 16)
    assert recipe.build_network(2)(image)["semantic"].shape[1] == 10
    assert Recipe.from_table(table, "toy").build_network(2)(image)["semantic"].shape[1] == 2


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ([[0, 0, 0], [0, 0, 1]], "expected different offsets, none of them"),
        ([[0, 0, 1], [0, 0, 1]], "expected different offsets"),
        ([[0, 0, 3]], r"expected some between neighbours, such as \[0, 0, 1\]"),
    ],
)
def test_offsets_that_cannot_be(table, offsets, said):
    with pytest.raises(ConfigError, match=f"affinities.offsets: {said}"):
        Recipe.from_table({**table, "affinities": {"share": 1.0, "offsets": offsets}}, "toy")
