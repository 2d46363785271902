import numpy as np
import pytest
import torch
from tiny_models import EXACT, make_model, make_volume, whole_pass

from densem.blocks import Box
from densem.errors import ConfigError, InputError
from densem.inference import fusion, predict_box
from densem.inference.fusion import Fusion
from densem.inference.runtime import Runtime
from densem.inference.tiles import Tiling
from densem.model import Ensemble

FP32 = Runtime("cpu", "fp32")


def column(*probabilities):
    """Probabilities of one voxel, (C, 1, 1, 1)."""
    return torch.tensor(probabilities).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ((1.0, 0.0, 0.0, 0.0), 255),
        ((0.25, 0.25, 0.25, 0.25), 64),
        ((0.5, 0.2, 0.2, 0.1), 128),
        ((0.1, 0.9), 230),
    ],
)
def test_confidence_literally(p, expected):
    assert fusion.confidence(column(*p)).item() == expected


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ((1.0, 0.0, 0.0, 0.0), 0),
        ((0.25, 0.25, 0.25, 0.25), 255),
        ((0.5, 0.5, 0.0, 0.0), 128),  # ln 2 / ln 4 = 1/2
        ((0.5, 0.5), 255),
        ((0.9, 0.1), 120),  # 0.325083 / 0.693147 * 255 = 119.6
    ],
)
def test_entropy_literally(p, expected):
    assert fusion.entropy(column(*p)).item() == expected


def test_classes_are_ids_of_the_schema():
    ids = (3, 7, 8, 21)
    p = torch.cat([column(0.1, 0.2, 0.6, 0.1), column(0.1, 0.2, 0.0, 0.7)], dim=3)
    assert fusion.classes(p, ids).flatten().tolist() == [8, 21]
    assert fusion.classes(p, ids).dtype == torch.uint8


def test_subsets_of_flips():
    assert fusion.subsets("") == ((),)
    assert fusion.subsets("yx") == ((), (-2,), (-1,), (-2, -1))
    assert len(fusion.subsets("zyx")) == 8


@pytest.mark.parametrize("flips", ["a", "yy", "none"])
def test_flips_that_name_no_axis_are_refused(flips):
    with pytest.raises(ConfigError) as caught:
        fusion.subsets(flips)
    assert (
        str(caught.value) == f"--flips {flips}: expected axes out of z, y, x, each at most once, such as yx"
    )


def test_an_ensemble_is_the_mean_of_its_members(volume):
    members = [
        make_model(seed=s, config=c, name=c) for s, c in enumerate(("whole-family", "planar", "no-pyramid"))
    ]
    options = EXACT.model_copy(update={"core": (6, 32, 40)})
    found = predict_box(Ensemble(members), volume, options=options)
    expected = np.mean([whole_pass(m, volume) for m in members], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("flips", ["yx", "zyx", "z"])
def test_flips_equal_flipping_by_hand(model, flips):
    volume = make_volume((7, 30, 44))
    found = predict_box(model, volume, options=EXACT.model_copy(update={"flips": flips, "core": (4, 16, 44)}))
    axes = ["zyx".index(f) for f in flips]
    members = []
    for n in range(2 ** len(axes)):
        turn = tuple(a for i, a in enumerate(axes) if n >> i & 1)
        mirrored = make_volume((7, 30, 44))
        object.__setattr__(mirrored, "array", np.flip(mirrored.array, turn).copy())
        members.append(np.flip(whole_pass(model, mirrored), tuple(1 + a for a in turn)))
    np.testing.assert_allclose(found, np.mean(members, axis=0), atol=1e-5)


def test_probabilities_sum_to_one(model, volume):
    found = predict_box(model, volume, Box((1, 3, 5), (6, 40, 61)), EXACT)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_values_that_are_no_numbers_are_refused_with_their_place(model):
    tiling = Tiling((4, 32, 48), (4, 16, 24), (4, 10, 10), (1, 2, 2))
    core = Box((0, 16, 24), (4, 32, 48))
    window = tiling.window(core)
    image = np.zeros(window.shape, np.float32)
    image[0, 20, 20] = np.nan
    with pytest.raises(InputError) as caught:
        list(Fusion.of(model, FP32).pieces(image, window))
    assert str(caught.value) == (
        "the network gave values that are not numbers at z 0:1, y 16:32, x 24:48: look for NaN or extreme "
        "grey values in the image there, or predict with --precision fp32"
    )


def test_classes_equal_argmax_and_of_equals_the_first():
    p = torch.softmax(torch.randn(6, 3, 8, 9, generator=torch.Generator().manual_seed(2)), dim=0)
    expected = torch.tensor([9, 4, 5, 6, 1, 0], dtype=torch.uint8)[p.argmax(dim=0)]
    assert torch.equal(fusion.classes(p, (9, 4, 5, 6, 1, 0)), expected)
    assert fusion.classes(column(0.2, 0.4, 0.4), (1, 2, 3)).item() == 2
    assert torch.equal(fusion.confidence(p), (255 * p.amax(dim=0)).round().to(torch.uint8))
