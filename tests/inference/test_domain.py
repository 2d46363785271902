import numpy as np
import pytest

from densem.inference.domain import compare, distance
from densem.volumes import Intensity


def intensity_of(values, sharpness=1.0):
    """Statistics of grey values as an import stores them."""
    values = np.asarray(values, float)
    low, high = np.percentile(values, [0.1, 99.9])
    counts, _ = np.histogram(np.clip(values, low, high), 64, (low, high))
    return Intensity(
        values.mean(),
        values.std(),
        values.min(),
        values.max(),
        low,
        high,
        sharpness,
        tuple(counts / counts.sum()),
    )


@pytest.fixture(scope="module")
def dark_membranes():
    """Mostly bright, with a dark tail: the usual look of stained tissue."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(180, 15, 60_000), rng.normal(70, 20, 12_000)])


def test_the_same_kind_of_volume_is_not_remarked_upon(dark_membranes):
    other = np.random.default_rng(1).choice(dark_membranes, 20_000)
    assert compare("eval", intensity_of(other), [intensity_of(dark_membranes)]) == ()


def test_brightness_contrast_and_bit_depth_do_not_matter(dark_membranes):
    other = intensity_of(dark_membranes * 90 + 4000)
    assert distance(other, intensity_of(dark_membranes)) < 0.01
    assert compare("eval", other, [intensity_of(dark_membranes)]) == ()


def test_inverted_contrast_is_said(dark_membranes):
    inverted = intensity_of(255 - dark_membranes)
    assert distance(inverted, intensity_of(dark_membranes), mirror=True) < 0.01
    assert compare("eval", inverted, [intensity_of(dark_membranes)]) == (
        "eval: the contrast looks inverted against the training data (bright for dark); "
        "invert the image and import it anew",
    )


def test_another_distribution_is_said(dark_membranes):
    spots = np.concatenate([np.full(60_000, 30.0), np.random.default_rng(0).normal(200, 10, 3_000)])
    mixed = np.concatenate([spots, 300 - spots])
    found = compare("eval", intensity_of(mixed), [intensity_of(dark_membranes)])
    assert len(found) == 1
    assert found[0].startswith("eval: the grey values are distributed unlike the training data (distance 0.")
    assert found[0].endswith("expect more errors, or train on some of this volume as well")


@pytest.mark.parametrize(("ratio", "word"), [(2.5, "sharper or noisier"), (0.4, "more blurred")])
def test_another_sharpness_is_said(dark_membranes, ratio, word):
    found = compare("eval", intensity_of(dark_membranes, ratio), [intensity_of(dark_membranes, 1.0)])
    assert found == (
        f"eval: the image is {word} than the training data (sharpness {ratio:.2f} times theirs); "
        "expect more errors, or train on some of this volume as well",
    )


def test_the_nearest_of_several_training_volumes_counts(dark_membranes):
    far = intensity_of(255 - dark_membranes, 9.0)
    assert compare("eval", intensity_of(dark_membranes), [far, intensity_of(dark_membranes)]) == ()


def test_nothing_known_nothing_said(dark_membranes):
    assert compare("eval", intensity_of(dark_membranes), []) == ()
