import numpy as np
import pytest

from densem.blocks import Box
from densem.errors import InputError, ShapeError
from densem.sampling import ErrorWeights, LabelledVolume, Patches, PatchSampler, SoftTargets, TrainingSet
from densem.sampling.augmentation import NONE, Augmentation
from densem.schema import LabelSchema
from densem.volumes import Intensity, Volume

SCHEMA = LabelSchema.from_names(["a", "b", "c"])
SIZE = (40.0, 10.0, 12.0)
SHAPE = (7, 60, 52)


def volume(seed=0, labelled=True, soft=True, dtype=np.uint8):
    """Labels in large patches; the soft targets are the same labels, with full confidence."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (7, 5, 4)).repeat(12, 1).repeat(13, 2).astype(np.uint8)
    image = Volume(
        rng.integers(0, 255, SHAPE).astype(np.uint8),
        SIZE,
        attributes={"intensity": Intensity(128.0, 70.0, 0, 255, 0, 255, 1.0).to_dict()},
    )
    labels = Volume(truth if labelled else np.full(SHAPE, 255, np.uint8), SIZE)
    top = 255 if dtype == np.uint8 else 1
    told = (np.arange(3)[:, None, None, None] == truth).astype(dtype) * dtype(top)
    targets = SoftTargets(Volume(truth, SIZE), told, "teacher") if soft else None
    return LabelledVolume(image, labels, f"v{seed}", targets)


def sampler(tmp_path, *volumes, augmentation=NONE, memory=2.0, shape=(3, 24, 16)):
    prepared = TrainingSet.prepare(volumes, SCHEMA, ErrorWeights(), tmp_path, memory)
    return PatchSampler(Patches(shapes=(shape,), batch=2), prepared, 5, augmentation)


MOVED = Augmentation(
    elastic={"probability": 0.0}, rotation={"probability": 0.0}, scale={"probability": 0.0},
    shifted_section={"probability": 0.5, "strength": 4.0},
)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("memory", [2.0, 0.0])
@pytest.mark.parametrize("augmentation", [NONE, MOVED])
def test_soft_targets_go_where_the_labels_go(tmp_path, dtype, memory, augmentation):
    drawn = sampler(tmp_path, volume(dtype=dtype), augmentation=augmentation, memory=memory)
    for i in range(12):
        sample = drawn.sample(i)
        assert (sample.soft.shape, sample.soft.dtype) == ((3, 3, 24, 16), np.uint8)
        assert np.array_equal(sample.soft.argmax(0), sample.labels)
        assert set(np.unique(sample.soft)) == {0, 255}


def test_deformed_they_are_interpolated_where_labels_jump(tmp_path):
    bent = Augmentation(
        elastic={"probability": 1.0, "strength": 3.0}, rotation={"probability": 1.0, "strength": 25.0},
        scale={"probability": 1.0, "strength": 0.2},
    )  # fmt: skip
    drawn = sampler(tmp_path, volume(), augmentation=bent)
    samples = [drawn.sample(i) for i in range(8)]
    agree = np.mean([np.mean(s.soft.argmax(0) == s.labels) for s in samples])
    assert agree > 0.98  # both jump in the middle between two voxels, but for ties
    assert any(((s.soft > 20) & (s.soft < 235)).any() for s in samples)
    assert all(abs(int(s.soft.astype(int).sum(0).mean()) - 255) <= 2 for s in samples)


def test_the_other_arrays_do_not_notice(tmp_path):
    with_soft, without = (sampler(tmp_path, volume(soft=s), augmentation=MOVED) for s in (True, False))
    for i in range(6):
        a, b = with_soft.sample(i), without.sample(i)
        assert b.soft.shape == (0,)
        assert all(np.array_equal(x, y) for x, y in zip(a[:3], b[:3], strict=True))


def test_an_unlabelled_volume_is_drawn_from(tmp_path):
    drawn = sampler(tmp_path, volume(1), volume(2, labelled=False))
    batches = [drawn.batch(n) for n in range(12)]
    unlabelled = [(b.labels[k] == 255).all() for b in batches for k in range(2)]
    assert 0.2 < np.mean(unlabelled) < 0.8
    assert all((b.weights[k] == 0).all() for b in batches for k in range(2) if (b.labels[k] == 255).all())
    assert batches[0].soft.shape == (2, 3, 3, 24, 16)


def test_what_does_not_fit_is_refused(tmp_path):
    truth = Volume(np.zeros(SHAPE, np.uint8), SIZE)
    with pytest.raises(
        ShapeError, match=r"expected probabilities \(C, Z, Y, X\) over \(7, 60, 52\), found \(3, 7, 60, 50\)"
    ):
        SoftTargets(truth, np.zeros((3, 7, 60, 50), np.uint8), "x")
    with pytest.raises(InputError, match="all volumes need soft targets or none, but v2 has none"):
        sampler(tmp_path, volume(1), volume(2, soft=False))
    wrong = SoftTargets(truth, np.zeros((2, *SHAPE), np.uint8), "x")
    with pytest.raises(InputError, match=r"v1: expected soft targets of 3 classes \(a, b, c\), found 2"):
        sampler(tmp_path, LabelledVolume(volume(1).image, volume(1).labels, "v1", wrong))
    cut = SoftTargets(Volume(np.zeros((7, 60, 50), np.uint8), SIZE), np.zeros((3, 7, 60, 50), np.uint8), "x")
    with pytest.raises(ShapeError, match="v1: image and soft targets must have one shape"):
        LabelledVolume(volume(1).image, volume(1).labels, "v1", cut)


def test_held_is_what_is_read():
    found = volume(dtype=np.float32).soft
    box = Box((1, 3, 5), (4, 20, 19))
    assert np.array_equal(found.held().read(box), found.read(box))
    assert found.held().probabilities.dtype == np.uint8


def test_a_volume_that_is_hardly_labelled_is_drawn_as_often_as_its_size_says(tmp_path):
    sparse = volume(1)
    few = np.full(SHAPE, 255, np.uint8)
    few[2, :20] = sparse.labels.read()[2, :20]
    drawn = sampler(
        tmp_path,
        LabelledVolume(sparse.image, Volume(few, SIZE), "v1", sparse.soft),
        volume(2, labelled=False),
    )
    names = [drawn._source_and_shape(2 * i)[0].volume.name for i in range(400)]
    assert 0.4 < names.count("v1") / 400 < 0.6


def test_class_weights_are_those_of_the_labels_not_of_the_teacher(tmp_path):
    labels_of = volume(1)
    wrong = np.zeros((3, *SHAPE), np.uint8)
    wrong[2] = 255  # the teacher takes the unlabelled volume for the last class throughout
    extra = volume(2, labelled=False)
    soft = SoftTargets(Volume(np.full(SHAPE, 2, np.uint8), SIZE), wrong, "teacher")
    extra = LabelledVolume(extra.image, extra.labels, "v2", soft)
    found = TrainingSet.prepare([labels_of, extra], SCHEMA, ErrorWeights(), tmp_path)
    alone = TrainingSet.prepare([labels_of], SCHEMA, ErrorWeights(), tmp_path)
    assert np.array_equal(found.class_weights, alone.class_weights)


def test_interpolated_targets_are_rounded(tmp_path):
    turned = Augmentation(rotation={"probability": 1.0, "strength": 25.0})
    certain = volume()
    told = np.zeros((3, *SHAPE), np.uint8)
    told[0], told[1], told[2] = 252, 2, 1
    soft = SoftTargets(certain.soft.classes, told, "teacher")
    drawn = sampler(tmp_path, LabelledVolume(certain.image, certain.labels, "v", soft), augmentation=turned)
    for i in range(6):
        sample = drawn.sample(i)
        assert [np.unique(c).tolist() for c in sample.soft] == [[252], [2], [1]]
