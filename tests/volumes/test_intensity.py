import numpy as np
import pytest

from densem.errors import InputError
from densem.volumes import Volume, measure_intensity

VOXEL = (40.0, 10.0, 12.0)


def noise(shape, seed=0, mean=120.0, std=20.0):
    return np.random.default_rng(seed).normal(mean, std, shape).clip(0, 255).astype(np.uint8)


def test_a_small_volume_is_measured_whole():
    values = noise((5, 90, 70))
    found = measure_intensity(Volume(values, VOXEL))
    assert found.mean == pytest.approx(values.mean(), rel=1e-6)
    assert found.std == pytest.approx(values.std(), rel=1e-6)
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    assert (found.low, found.high) == pytest.approx(np.percentile(values, (0.1, 99.9)))
    assert sum(found.histogram) == pytest.approx(1)
    assert len(found.histogram) == 64


def test_a_histogram_counts_by_hand():
    values = (
        np.random.default_rng(0).permutation(np.repeat(np.arange(64, dtype=np.uint8), 200)).reshape(4, 40, 80)
    )
    found = measure_intensity(Volume(values, VOXEL))
    np.testing.assert_allclose(found.histogram, 1 / 64)


@pytest.mark.parametrize("padding", [0, 255])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_constant_borders_are_left_out(padding, dtype):
    values = noise((9, 180, 150))
    padded = np.full((9, 330, 300), padding, np.uint8)
    padded[:, 60:240, 90:240] = values
    found = measure_intensity(Volume(padded.astype(dtype), VOXEL))
    assert found.mean == pytest.approx(values.mean(), abs=1)
    assert found.std == pytest.approx(values.std(), rel=0.06)


def test_dark_voxels_inside_are_not_padding():
    values = noise((4, 120, 130))
    values[:, 40:80, 40:90] = 0
    found = measure_intensity(Volume(values, VOXEL))
    assert found.mean == pytest.approx(values.mean(), rel=1e-6)


def test_an_image_in_a_corner_of_a_large_empty_volume_is_found():
    values = np.zeros((8, 2000, 2000), np.uint8)
    values[:, 300:428, 1200:1456] = noise((8, 128, 256))
    assert measure_intensity(Volume(values, VOXEL)).mean == pytest.approx(120, abs=3)


def test_the_sample_is_bounded_seeded_and_fair():
    class Counting:
        shape, dtype, read = (40, 900, 840), np.dtype(np.uint8), 0
        values = np.tile(noise((8, 150, 140)) // 2, (5, 6, 6))
        values += (np.arange(900, dtype=np.uint8) // 20)[:, None]

        def __getitem__(self, key):
            block = self.values[key]
            self.read += block.size
            return block

    array = Counting()
    one = measure_intensity(Volume(array, VOXEL), seed=1)
    assert array.read < 0.22 * array.values.size
    assert one == measure_intensity(Volume(array, VOXEL), seed=1)
    other = measure_intensity(Volume(array, VOXEL), seed=2)
    assert one.mean != other.mean
    assert one.mean == pytest.approx(array.values.mean(), rel=0.05)
    assert one.std == pytest.approx(array.values.std(), rel=0.1)


def test_sharpness_falls_with_blur():
    from scipy.ndimage import gaussian_filter

    values = noise((4, 100, 110)).astype(np.float32)
    sharp = measure_intensity(Volume(values, VOXEL)).sharpness
    soft = measure_intensity(Volume(gaussian_filter(values, (0, 1, 1)), VOXEL)).sharpness
    assert sharp == pytest.approx(np.sqrt(20), rel=0.03)
    assert soft < 0.5 * sharp


@pytest.mark.parametrize("value", [0, 7])
def test_one_value_is_no_image(value):
    with pytest.raises(InputError, match=r"expected an image, found one value .* in every sampled voxel"):
        measure_intensity(Volume(np.full((3, 50, 60), value, np.uint8), VOXEL))


def test_nan_is_refused_with_its_place():
    values = noise((12, 60, 200)).astype(np.float32)
    values[9, 31, 155] = np.nan
    with pytest.raises(
        InputError, match=r"found nan at voxel z 9, y 31, x 155 \(1 such voxels in this part\)"
    ):
        measure_intensity(Volume(values, VOXEL))
