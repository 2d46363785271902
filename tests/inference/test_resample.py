import numpy as np
import psutil
import pytest
from tiny_models import EXACT, VOXEL_SIZE, make_model, make_volume

from densem.blocks import Box
from densem.errors import ConfigError, ResourceError
from densem.inference import predict, resample
from densem.inference.resample import Resampled, at_size
from densem.volumes import Volume, open_volume

RESAMPLED = EXACT.model_copy(update={"resample": True, "core": (4, 16, 24)})


def volume_of(array, voxel_size_nm=VOXEL_SIZE):
    return Volume(np.asarray(array), voxel_size_nm)


def test_larger_voxels_are_area_means_literally():
    line = volume_of(np.array([0, 10, 20, 30, 40], np.uint8).reshape(1, 1, 5))
    np.testing.assert_allclose(Resampled(line, (1, 1, 2))[0:1, 0:1, 0:3].ravel(), [5, 25, 40])
    np.testing.assert_allclose(
        Resampled(line, (1, 1, 1.5))[0:1, 0:1, 0:4].ravel(), [10 / 3, 50 / 3, 100 / 3, 40], rtol=1e-6
    )


def test_smaller_voxels_are_linear_between_centres_literally():
    line = volume_of(np.array([0, 8, 24], np.uint8).reshape(1, 3, 1))
    found = Resampled(line, (1, 0.5, 1))[0:1, 0:6, 0:1].ravel()
    np.testing.assert_allclose(found, [0, 2, 6, 12, 20, 24])


def test_whole_factors_equal_plain_means():
    array = np.random.default_rng(0).integers(0, 255, (4, 9, 10)).astype(np.uint8)
    found = Resampled(volume_of(array), (2, 3, 5))[0:2, 0:3, 0:2]
    expected = array.reshape(2, 2, 3, 3, 2, 5).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("ratio", [(1, 1.7, 0.6), (0.5, 1, 2.3), (1.2, 0.9, 1)])
def test_a_voxel_has_the_same_value_in_any_box(ratio):
    array = np.random.default_rng(0).integers(0, 255, (9, 21, 34)).astype(np.uint8)
    seen = Volume(Resampled(volume_of(array), ratio), VOXEL_SIZE)
    whole = seen.read()
    rng = np.random.default_rng(1)
    for _ in range(20):
        start = [int(rng.integers(0, n)) for n in seen.shape]
        stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, seen.shape, strict=True)]
        box = Box(tuple(start), tuple(stop))
        np.testing.assert_array_equal(seen.read(box), whole[box.slices])


def test_axes_within_the_tolerance_are_left_alone():
    volume = make_volume(voxel_size_nm=(42.0, 20.0, 4.0))
    seen = at_size(volume, VOXEL_SIZE, 0.1)
    assert seen.voxel_size_nm == (42.0, 10.0, 8.0)
    assert seen.shape == (7, 106, 35)
    assert seen.id == "volume-0 at 42 10 8 nm"


def doubled(volume):
    """The same volume with each voxel cut into 1 x 2 x 2."""
    z, y, x = volume.voxel_size_nm
    array = volume.read().repeat(2, axis=1).repeat(2, axis=2)
    return Volume(array, (z, y / 2, x / 2), attributes=dict(volume.attributes))


def test_a_volume_of_half_the_voxel_size_gets_the_same_labels(model, tmp_path):
    volume = make_volume((7, 40, 61))
    small = doubled(volume)
    options = RESAMPLED.model_copy(update={"save": ("entropy", "probabilities")})
    result = predict(model, small, tmp_path / "small", options)
    expected = predict(model, volume, tmp_path / "own", EXACT).classes.read()
    assert result.classes.voxel_size_nm == small.voxel_size_nm
    assert result.classes.shape == small.shape
    same = result.classes.read() == expected.repeat(2, axis=1).repeat(2, axis=2)
    assert same.mean() > 0.999  # the statistics are measured anew: the last digit of the mean differs
    assert result.classes.provenance["predicted_at_nm"] == [40.0, 10.0, 8.0]
    assert result.classes.provenance["input"] == small.id
    assert sum(result.classes.attributes["label_counts"].values()) == same.size
    assert sorted(p.name for p in (tmp_path / "small").glob("*.zarr")) == [
        "classes.zarr",
        "confidence.zarr",
        "entropy.zarr",
        "probabilities.zarr",
    ]
    assert not (tmp_path / "small" / resample.STAGE).exists()


def test_what_is_refused_leaves_the_old_prediction(model, tmp_path, monkeypatch):
    small = doubled(make_volume((5, 24, 40)))
    before = predict(model, small, tmp_path / "p", RESAMPLED).classes.read()
    usage = psutil.disk_usage("/")
    monkeypatch.setattr(psutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(ResourceError, match="free"):
        predict(model, small, tmp_path / "p", RESAMPLED.model_copy(update={"overwrite": True}))
    np.testing.assert_array_equal(open_volume(tmp_path / "p/classes.zarr").read(), before)


def test_blocks_do_not_show(tmp_path):
    model = make_model("planar")
    volume = make_volume((5, 40, 70), voxel_size_nm=(40.0, 14.0, 5.0))
    found = [
        predict(
            model, volume, tmp_path / f"{i}", RESAMPLED.model_copy(update={"block": block})
        ).classes.read()
        for i, block in enumerate([None, (8, 64, 96)])
    ]
    np.testing.assert_array_equal(*found)


def test_a_box_of_voxels_that_are_replaced_is_refused(tmp_path):
    options = RESAMPLED.model_copy(update={"box": ((0, 2), (0, 8), (0, 8))})
    with pytest.raises(ConfigError) as caught:
        predict(make_model(), make_volume(voxel_size_nm=(40.0, 20.0, 16.0)), tmp_path / "p", options)
    assert str(caught.value) == (
        "--box counts the volume's own voxels, which --resample replaces: give the region as a --mask"
    )
