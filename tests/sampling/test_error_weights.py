"""Error weights: class balance, and boundary weights by diffusion."""

import numpy as np
import pytest
from scipy.ndimage import convolve

from densem.sampling import ErrorWeights, boundary_weights, class_weights
from densem.sampling.error_weights import BLOCK, write_boundary_weights
from densem.schema import LabelSchema
from densem.volumes import Volume

VOXEL_NM = (40.0, 10.0, 10.0)
SCHEMA = LabelSchema.from_names(["a", "b", "c"])


def test_rarest_class_gets_one_and_absent_ones_nothing():
    counts = np.array([900, 0, 90, 10])
    assert np.allclose(class_weights(counts, "inverse"), [10 / 900, 0, 10 / 90, 1])
    assert np.allclose(class_weights(counts, "root"), [(10 / 900) ** 0.5, 0, (10 / 90) ** 0.5, 1])
    assert np.allclose(class_weights(counts, "none"), [1, 0, 1, 1])


def test_a_straight_edge_gives_the_published_profile_on_both_sides():
    channels = np.zeros((1, 9, 40), np.uint8)
    channels[:, :, 20:] = 1
    weights = boundary_weights(channels, ErrorWeights(boundary=25), VOXEL_NM)[0]
    for row in weights:
        assert row[20:24] == pytest.approx([25, 6.5, 0, 0], abs=0.05)
        assert row[19:15:-1] == pytest.approx([25, 6.5, 0, 0], abs=0.05)


def test_one_sided_weights_lie_on_the_rarer_class():
    channels = np.zeros((1, 7, 30), np.uint8)
    channels[:, :, 20:] = 1
    config = ErrorWeights(boundary=25, symmetric=False)
    weights = boundary_weights(channels, config, VOXEL_NM, order=np.array([1, 0]))[0]
    assert weights[:, 20].min() > 20
    assert weights[:, :20].max() == 0


def test_a_narrow_gap_counts_more_than_a_straight_edge():
    channels = np.zeros((1, 9, 40), np.uint8)
    channels[:, :, 20] = 1
    weights = boundary_weights(channels, ErrorWeights(boundary=25), VOXEL_NM)
    assert weights[0, 4, 20] > 35


def test_unlabelled_voxels_are_neither_source_nor_target():
    channels = np.zeros((1, 9, 40), np.uint8)
    channels[:, :, 20:] = 255
    assert boundary_weights(channels, ErrorWeights(boundary=25), VOXEL_NM).max() == 0
    channels[:, :, 30:] = 1
    weights = boundary_weights(channels, ErrorWeights(boundary=25), VOXEL_NM)
    assert weights[channels == 255].max() == 0


def test_volumes_do_not_wrap_around():
    channels = np.zeros((1, 12, 30), np.uint8)
    channels[:, :, 27:] = 1
    weights = boundary_weights(channels, ErrorWeights(boundary=25), VOXEL_NM)
    assert weights[0, :, 0].max() == 0


@pytest.mark.parametrize("axes", [2, 3])
def test_equal_to_the_equation_with_an_explicit_kernel(axes):
    rng = np.random.default_rng(3)
    channels = rng.integers(0, 2, (3, 7, 11)).astype(np.uint8)
    config = ErrorWeights(boundary=1, boundary_axes=axes, steps=5)
    kernel = np.zeros((3, 3, 3))
    kernel[1] = np.array([[1, 2, 1], [2, -12, 2], [1, 2, 1]]) / 12
    if axes == 3:
        along = (VOXEL_NM[1] / VOXEL_NM[0]) ** 2 / 3
        kernel[:, 1, 1] += np.array([along, -2 * along, along])
    expected = np.zeros(channels.shape)
    for target in (0, 1):
        source = channels != target
        d = source.astype(float)
        for _ in range(5):
            d = np.maximum(0.98 * (d + 0.2 * convolve(d, kernel, mode="reflect")), 0)
            d[source] = 1
        expected[~source] = np.maximum(d - 0.2, 0)[~source]
    found = boundary_weights(channels, config, VOXEL_NM)
    assert np.allclose(found / found.max(), expected / expected.max(), atol=1e-5)


def test_through_sections_the_neighbour_above_counts():
    channels = np.zeros((5, 20, 21), np.uint8)
    channels[2:] = 1
    flat = boundary_weights(channels, ErrorWeights(boundary=25), (10.0, 10.0, 10.0))
    deep = boundary_weights(channels, ErrorWeights(boundary=25, boundary_axes=3), (10.0, 10.0, 10.0))
    assert flat.max() == 0
    assert deep[1].min() > 5
    assert deep[2].min() > 5


@pytest.mark.parametrize("axes", [2, 3])
def test_blocks_with_a_margin_equal_the_whole(tmp_path, axes):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 4, (2, 34, 3))
    ids = np.where(coarse == 3, 255, coarse).repeat(9, 0).repeat(8, 1).repeat(7, 2).astype(np.uint8)
    assert ids.shape[1] > BLOCK[1]
    config = ErrorWeights(boundary=10, boundary_axes=axes)
    labels = Volume(ids, VOXEL_NM)
    counts = np.bincount(ids.ravel(), minlength=256)[:3]
    written = write_boundary_weights(labels, SCHEMA, config, counts, tmp_path / "b.zarr")[:]
    whole = boundary_weights(SCHEMA.channel_of_id[ids], config, VOXEL_NM)
    assert np.allclose(written.astype(float), whole, atol=0.02)
