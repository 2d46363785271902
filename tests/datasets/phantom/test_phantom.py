import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from densem.blocks import Box
from densem.datasets.phantom import Phantom, PhantomConfig
from densem.datasets.phantom.donor import DONORS
from densem.datasets.phantom.organelle import SCHEMA
from densem.datasets.phantom.phantom import PIECE
from densem.errors import ConfigError, ShapeError

PUBLISHED = np.array([38.82, 53.37, 0.641, 4.132, 2.903, 0.1105, 0.016])
"""Mean class frequencies, in percent, of the two published slices."""


@pytest.fixture(scope="module")
def again(fine) -> Phantom:
    """The same phantom, from which nothing was asked in the order of the whole."""
    return Phantom(fine[0])


# ---- blocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 0, 0), (1, 7, 9)),
        Box((11, 250, 240), (14, 261, 263)),
        Box((3, 255, 17), (13, 257, 264)),
        Box((13, 0, 255), (14, 261, 257)),
    ],
)
def test_a_block_is_the_crop_of_the_whole(fine, again, box):
    config, whole = fine
    assert all(s > p for s, p in zip(config.shape, PIECE, strict=True))
    block = again.block(box)
    for name, values in block.arrays().items():
        np.testing.assert_array_equal(values, whole.arrays()[name][box.slices], err_msg=name)
        assert values.dtype == whole.arrays()[name].dtype


def test_pieces_join_without_a_seam(fine):
    """The step between neighbours across a border of pieces is like that beside it."""
    image = fine[1].image.astype(np.float64)
    for axis in range(3):
        steps = np.abs(np.diff(image, axis=axis)).mean(axis=tuple({0, 1, 2} - {axis}))
        seam = PIECE[axis] - 1
        assert 0.75 < steps[seam] / np.delete(steps, seam)[max(0, seam - 6) : seam + 6].mean() < 1.25


def test_a_larger_volume_holds_the_smaller_one():
    small = PhantomConfig(shape=(5, 60, 70), voxel_size_nm=(40, 20, 20), seed=2)
    large = PhantomConfig(shape=(7, 110, 90), voxel_size_nm=(40, 20, 20), seed=2)
    box = Box.of_shape(small.shape)
    a, b = Phantom(small).block(box), Phantom(large).block(box)
    np.testing.assert_array_equal(a.semantic, b.semantic)
    assert np.abs(a.image.astype(int) - b.image).max() <= 1


def test_the_config_fixes_every_voxel_and_the_seed_changes_them():
    config = PhantomConfig(shape=(3, 50, 64), voxel_size_nm=(40, 40, 40), seed=1)
    box = Box.of_shape(config.shape)
    first, again = Phantom(config).block(box), Phantom(config).block(box)
    other = Phantom(config.model_copy(update={"seed": 2})).block(box)
    for name, values in first.arrays().items():
        np.testing.assert_array_equal(values, again.arrays()[name])
    assert (first.image != other.image).mean() > 0.99
    assert (first.semantic != other.semantic).mean() > 0.1


def test_a_box_outside_is_refused():
    phantom = Phantom(PhantomConfig(shape=(3, 50, 64)))
    with pytest.raises(
        ShapeError, match=r"box z 0:4, y 0:9, x 0:9 reaches outside the volume of shape \(3, 50"
    ):
        phantom.block(Box((0, 0, 0), (4, 9, 9)))


def test_8_bit_is_the_same_picture():
    config = PhantomConfig(shape=(3, 40, 50), voxel_size_nm=(40, 20, 20), seed=1)
    box = Box.of_shape(config.shape)
    small = Phantom(config.model_copy(update={"dtype": "uint8"})).block(box).image
    assert small.dtype == np.uint8
    assert np.abs(small.astype(float) * 257 - Phantom(config).block(box).image).max() <= 129


# ---- truth -------------------------------------------------------------------------------------


def test_all_classes_are_there(coarse, fine):
    for _, block in (coarse, fine):
        assert set(np.unique(block.semantic)) == set(SCHEMA.ids)


def test_class_frequencies_are_those_of_the_published_slices():
    counts = np.zeros(7)
    for seed in range(4):
        config = PhantomConfig(shape=(12, 100, 100), voxel_size_nm=(80, 40, 40), seed=seed)
        counts += np.bincount(Phantom(config).block(Box.of_shape(config.shape)).semantic.ravel(), minlength=7)
    ratio = counts / counts.sum() * 100 / PUBLISHED
    assert ((ratio > 1 / 1.5) & (ratio < 1.5)).all(), ratio


def test_dense_granules_are_enriched(coarse):
    _, block = coarse
    cell = (block.semantic > 0).mean()
    assert (block.semantic == 5).mean() > 5 * DONORS["a"].dense_granule.share * cell * 0.6


def test_each_organelle_lies_in_one_cell_and_has_one_class(coarse):
    _, block = coarse
    inside = block.organelles > 0
    np.testing.assert_array_equal(inside, block.semantic >= 2)
    np.testing.assert_array_equal(block.cells > 0, block.semantic >= 1)
    ids = np.unique(block.organelles[inside])
    assert len(ids) > 100
    for number in ids:
        voxels = block.organelles == number
        assert len(np.unique(block.cells[voxels])) == 1
        assert set(np.unique(block.semantic[voxels])) in ({2}, {3}, {4}, {5}, {5, 6}, {6})


def test_granules_and_mitochondria_are_whole(coarse):
    """Every object but the vessels is one piece, when cut free from the border of the volume."""
    _, block = coarse
    solid = np.where(np.isin(block.semantic, (2, 3, 5, 6)), block.organelles, 0)
    dense = np.unique(solid, return_inverse=True)[1].reshape(solid.shape)
    broken = 0
    for number, where in enumerate(ndimage.find_objects(dense), start=1):
        parts = ndimage.label(dense[where] == number, np.ones((3, 3, 3)))[1]
        broken += parts > 1
    assert broken <= 0.02 * dense.max()


def test_cores_lie_in_dense_granules(coarse):
    _, block = coarse
    around = ndimage.grey_dilation(np.isin(block.semantic, (5, 6)).astype(np.uint8), size=(3, 3, 3))
    assert around[block.semantic == 6].all()
    body = np.unique(block.organelles[block.semantic == 5])
    assert np.isin(np.unique(block.organelles[block.semantic == 6]), body).mean() > 0.8


def test_cells_touch(fine):
    """Some cells come within 3 voxels of each other, with a gap of background or none between them."""
    cells = fine[1].cells.astype(np.int64)
    low = ndimage.minimum_filter(np.where(cells > 0, cells, 2**40), (1, 4, 4))
    high = ndimage.maximum_filter(cells, (1, 4, 4))
    assert ((high > low) & (low < 2**40)).any(axis=(1, 2)).sum() > 5


@pytest.mark.parametrize("size", [(40.0, 40.0, 20.0), (20.0, 30.0, 40.0)])
def test_forms_keep_their_nanometres_at_another_voxel_size(size):
    """The same place in nm has the same class, whatever the voxels."""
    extent = (480.0, 1800.0, 2400.0)
    shape = tuple(int(e / s) for e, s in zip(extent, size, strict=True))
    block = Phantom(PhantomConfig(shape=shape, voxel_size_nm=size, seed=6)).block(Box.of_shape(shape))
    reference = Phantom(PhantomConfig(shape=(12, 45, 60), voxel_size_nm=(40, 40, 40), seed=6))
    other = reference.block(reference.box)
    at = np.stack(np.meshgrid(*((np.arange(n) + 0.5) * 40 for n in (12, 45, 60)), indexing="ij"), -1)
    z, y, x = np.moveaxis(np.floor(at / size).astype(int), -1, 0)
    assert (block.cells[z, y, x] == other.cells).mean() > 0.96
    assert (block.semantic[z, y, x] == other.semantic).mean() > 0.94


# ---- image -------------------------------------------------------------------------------------


def test_grey_values_follow_the_classes(fine):
    _, block = fine
    mean = {n: block.image[block.semantic == SCHEMA[n].id].mean() / 65535 for n in SCHEMA.names}
    assert mean["background"] == pytest.approx(0.82, abs=0.06)
    assert mean["cell"] == pytest.approx(0.47, abs=0.08)
    assert mean["mitochondrion"] < 0.25
    assert mean["mitochondrion"] < mean["alpha_granule"] < mean["cell"] - 0.04
    assert mean["cell"] < mean["canalicular_vessel"] < mean["background"]
    assert mean["dense_granule_core"] < mean["dense_granule"]


def test_sections_differ_in_brightness_and_noise_is_correlated_along_x(fine):
    _, block = fine
    resin = ndimage.binary_erosion(block.semantic == 0, np.ones((1, 21, 21)))
    sections = [block.image[z][resin[z]].mean() for z in range(14) if resin[z].sum() > 2000]
    assert len(sections) > 8
    assert 0.002 < np.std(sections) / 65535 < 0.04
    grey = np.where(resin, block.image - np.mean(block.image[resin]), 0.0)
    along_y = (grey[:, 1:] * grey[:, :-1])[resin[:, 1:] & resin[:, :-1]].mean()
    along_x = (grey[..., 1:] * grey[..., :-1])[resin[..., 1:] & resin[..., :-1]].mean()
    assert along_x > along_y > 0


def test_donors_differ():
    box = Box.of_shape((6, 70, 80))
    seen = {}
    for donor in ("a", "b"):
        phantom = Phantom(PhantomConfig(shape=box.shape, voxel_size_nm=(40, 40, 40), seed=3, donor=donor))
        block = phantom.block(box)
        resin, cell = (block.image[block.semantic == k].mean() / 65535 for k in (0, 1))
        vessels, alphas = ((block.semantic == k).sum() / (block.semantic > 0).sum() for k in (4, 3))
        seen[donor] = (resin - cell, vessels / alphas)
    assert seen["a"][0] > seen["b"][0] + 0.08
    assert seen["b"][1] > 1.5 * seen["a"][1]


# ---- annotation --------------------------------------------------------------------------------


def test_only_the_chosen_cells_are_labelled(coarse):
    """The rest is 0, as in the published test set; that it is 255 by default is tested where it is written."""
    config, truth = coarse
    chosen = config.model_copy(update={"labelled_cells": 3, "unlabelled_value": 0})
    box = Box((12, 0, 0), (24, 130, 150))
    block, whole = Phantom(chosen).annotated(box), {n: a[box.slices] for n, a in truth.arrays().items()}
    labelled = block.cells > 0
    assert len(np.unique(block.cells[labelled])) == 3
    np.testing.assert_array_equal(block.semantic[labelled], whole["semantic"][labelled])
    assert (block.semantic[~labelled] == 0).all()
    assert (block.organelles[~labelled] == 0).all()
    np.testing.assert_array_equal(block.image, whole["image"])


def test_without_a_choice_all_is_labelled(fine, again):
    _, truth = fine
    box = Box((0, 0, 0), (2, 40, 50))
    np.testing.assert_array_equal(again.annotated(box).semantic, truth.semantic[box.slices])


# ---- configs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shap": (1, 2, 3)}, r"phantom: no entry is called 'shap'\. Did you mean 'shape'\?"),
        ({"shape": (0, 9, 9)}, r"phantom: shape: sides must be at least 1 voxel \(z, y, x\), found"),
        (
            {"voxel_size_nm": (40, 0, 10)},
            r"phantom: voxel_size_nm: sides must be 1 to 200 nm \(z, y, x\), found",
        ),
        ({"donor": "c"}, r"phantom: donor: Input should be 'a' or 'b', found 'c'"),
        (
            {"labelled_cells": 0},
            r"phantom: labelled_cells: Input should be greater than or equal to 1, found 0",
        ),
        ({"dtype": "float32"}, r"phantom: dtype: Input should be 'uint8' or 'uint16', found 'float32'"),
    ],
)
def test_a_wrong_entry_is_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        PhantomConfig.parse(wrong)


def test_a_config_is_frozen_and_each_entry_is_described():
    config = PhantomConfig.parse({"shape": [9, 8, 7]})
    assert config.shape == (9, 8, 7)
    with pytest.raises(ValidationError):
        config.seed = 3
    assert all(f.description for f in PhantomConfig.model_fields.values())
