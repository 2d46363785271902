"""Mutex watershed: perfect affinities give the labels back, by any blocks; what it cannot do is said."""

import sys

import numpy as np
import pytest
import zarr
from scipy.ndimage import distance_transform_edt, gaussian_filter

from densem.blocks import Box, EngineChoice
from densem.errors import ConfigError, ShapeError
from densem.objects import ObjectsOptions, Rules, find_objects
from densem.objects.cutting import Tiling
from densem.objects.mutex import split_by_affinities
from densem.schema import LabelSchema
from densem.volumes import Volume
from densem.volumes.affinities import Affinities

OFFSETS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 3, 0), (0, 0, 4), (2, 0, 0))
SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 1, "color": "#0000ff", "thing": True},
        "granule": {"id": 2, "color": "#00ff00", "thing": True},
    },
    "test",
)
NM = (40.0, 10.0, 10.0)


def affinities_of(ids, offsets=OFFSETS, one=255, other=0):
    """uint8 (K, Z, Y, X) without an error."""
    found = np.zeros((len(offsets), *ids.shape), np.uint8)
    for k, offset in enumerate(offsets):
        near = tuple(slice(max(0, -d), max(0, min(n, n - d))) for d, n in zip(offset, ids.shape, strict=True))
        far = tuple(slice(max(0, d), max(0, min(n, n + d))) for d, n in zip(offset, ids.shape, strict=True))
        same = (ids[near] == ids[far]) & (ids[near] > 0)
        found[(k, *near)] = np.where(same, one, other)
    return found


def cells(shape, count=14, seed=0):
    """Ids of cells that fill space but for holes, numbered by first voxels, each in one piece by faces."""
    from skimage.measure import label

    rng = np.random.default_rng(seed)
    seeds = np.ones(shape, bool)
    places = tuple(rng.integers(0, n, count) for n in shape)
    seeds[places] = False
    nearest = distance_transform_edt(seeds, NM, return_distances=False, return_indices=True)
    ids = np.ravel_multi_index(tuple(nearest), shape) + 1
    holes = gaussian_filter(rng.normal(size=shape), 2) > 0.1
    return label(np.where(holes, 0, ids), connectivity=1)


def same_partition(a, b):
    assert np.array_equal(a > 0, b > 0)
    pairs = np.unique(np.stack([a[a > 0], b[b > 0]], axis=1), axis=0)
    assert len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))


@pytest.mark.parametrize("offsets", [OFFSETS, OFFSETS[:3], tuple((-z, -y, -x) for z, y, x in OFFSETS)])
def test_perfect_affinities_give_the_labels_back(offsets):
    ids = cells((9, 31, 44))
    small = np.bincount(ids.reshape(-1)) < 8
    ids = np.where(small[ids], 0, ids)
    labels, count = split_by_affinities(ids > 0, affinities_of(ids, offsets), offsets, 0.5)
    same_partition(labels, ids)
    assert count == len(np.unique(ids)) - 1
    values, first = np.unique(labels, return_index=True)
    assert values.tolist() == list(range(count + 1))
    assert (np.diff(first[1:]) > 0).all()


def test_a_row_by_hand():
    """Two bodies of four voxels; the pair between them attracts weakly, a far one repels strongly."""
    mask = np.ones((1, 1, 8), bool)
    near = np.array([250, 250, 250, 140, 250, 250, 250, 0], np.uint8)
    far = np.array([255, 0, 0, 0, 255, 0, 0, 0], np.uint8)
    both = np.stack([near, far])[:, None, None]
    alone, count = split_by_affinities(mask, both[:1], ((0, 0, 1),), 0.5)
    assert (alone.tolist(), count) == ([[[1] * 8]], 1)
    labels, count = split_by_affinities(mask, both, ((0, 0, 1), (0, 0, 3)), 0.5)
    assert (labels.tolist(), count) == ([[[1, 1, 1, 1, 2, 2, 2, 2]]], 2)


def test_bias_decides_between_one_and_two():
    ids = np.repeat([1, 2], 6)[None, None].repeat(4, 0).repeat(5, 1)
    told = affinities_of(ids, other=150)  # a membrane that is hardly seen: 0.59
    for bias, expected in ((0.5, 1), (0.7, 2)):
        assert split_by_affinities(ids > 0, told, OFFSETS, bias)[1] == expected


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 9), (2, 1, 1), (1, 1, 4), (3, 3, 2)])
def test_bodies_smaller_than_an_offset(shape):
    mask = np.ones(shape, bool)
    labels, count = split_by_affinities(mask, affinities_of(mask.astype(int)), OFFSETS, 0.5)
    assert count == 1
    assert (labels == 1).all()


def test_fragments_go_to_the_neighbour_with_most_faces():
    ids = np.ones((4, 6, 10), int)
    ids[:, :, 5:] = 2
    ids[1, 2, 4] = 3  # five of its six faces lie in 1
    labels, count = split_by_affinities(ids > 0, affinities_of(ids), OFFSETS, 0.5)
    assert count == 2
    assert labels[1, 2, 4] == labels[0, 0, 0]
    ids[1:3, 2, 9] = 4  # and of this one more may lie beyond it
    for more, expected in ((False, 2), (True, 3)):
        sides = ((False, False), (False, False), (False, more))
        assert split_by_affinities(ids > 0, affinities_of(ids), OFFSETS, 0.5, sides)[1] == expected
    lonely = np.zeros((3, 4, 5), bool)
    lonely[1, 2, 3] = True
    assert split_by_affinities(lonely, affinities_of(lonely.astype(int)), OFFSETS, 0.5)[1] == 1


# ---- whole volumes ---------------------------------------------------------------------------


def written(folder, array, offsets=OFFSETS, classes=("cell",)):
    folder.mkdir(parents=True, exist_ok=True)
    group = zarr.open_group(folder / "affinities.zarr", mode="w", zarr_format=3)
    group.create_array("s0", data=array, chunks=(1, 4, 16, 16))
    said = {"offsets": [list(o) for o in offsets], "classes": list(classes)}
    group.attrs["densem"] = {"complete": True, "id": "a", "affinities": said}
    return Affinities.beside(folder / "classes.zarr")


def objects(volume, folder, affinities, block=(99, 99, 99), workers=1, table=None, tiling=None):
    options = ObjectsOptions(
        block=block, engine=EngineChoice(workers=workers), mutex_tiling=tiling or Tiling()
    )
    rules = Rules.of(SCHEMA, NM, table, affinities=affinities.classes)
    return find_objects(volume, SCHEMA, rules, folder, options, affinities=affinities)


@pytest.fixture(scope="module")
def scene():
    """Touching cells, and granules that are cut at their necks in the same level."""
    ids = cells((13, 40, 57), 20, seed=2)
    sizes = np.bincount(ids.reshape(-1))
    ids = np.where((sizes < 60)[ids], 0, ids)
    classes = np.where(ids > 0, 1, 0).astype(np.uint8)
    classes[6:9, 12:19, 20:33] = 2
    ids[classes != 1] = 0
    from skimage.measure import label

    return label(ids, connectivity=1), Volume(classes, NM)


def test_cells_of_a_volume_are_those_of_the_affinities(scene, tmp_path):
    ids, volume = scene
    sizes = np.bincount(ids.reshape(-1))
    result = objects(volume, tmp_path / "o", written(tmp_path / "p", affinities_of(ids)))
    found = result.volumes[0].read().astype(np.int64)
    large = (sizes >= 8)[ids] & (ids > 0)
    same_partition(np.where(large, found, 0), np.where(large, ids, 0))
    assert result.counts()["granule"] == 1
    plan = result.volumes[0].provenance
    assert plan["rules"]["cell"]["method"] == "mutex"
    assert plan["affinities"] == "a"


def test_no_block_size_and_no_workers_change_an_object(scene, tmp_path):
    """With errors in the affinities and components that are cut in tiles."""
    ids, volume = scene
    rng = np.random.default_rng(1)
    noisy = np.clip(affinities_of(ids, one=190, other=60) + rng.normal(0, 50, (6, *ids.shape)), 0, 255)
    told = written(tmp_path / "p", noisy.astype(np.uint8))
    tiles = Tiling(2000, (6, 20, 24), (2, 6, 6))
    sweep = [((99, 99, 99), 1), ((5, 17, 29), 2), ((4, 40, 13), 1)]
    results = [
        objects(volume, tmp_path / f"o{i}", told, block, workers, tiling=tiles)
        for i, (block, workers) in enumerate(sweep)
    ]
    first = results[0].volumes[0].read()
    assert len(np.unique(first)) > 10
    for other in results[1:]:
        np.testing.assert_array_equal(other.volumes[0].read(), first)
        assert other.table == results[0].table


def test_perfect_affinities_are_stitched_over_tiles(scene, tmp_path):
    ids, volume = scene
    sizes = np.bincount(ids.reshape(-1))
    told = written(tmp_path / "p", affinities_of(ids))
    result = objects(volume, tmp_path / "o", told, tiling=Tiling(500, (7, 20, 30), (3, 8, 8)))
    found = result.volumes[0].read().astype(np.int64)
    body = (sizes >= 400)[ids] & (ids > 0)
    pairs = np.unique(np.stack([ids[body], found[body]]), axis=1)
    assert len(np.unique(pairs[1])) == pairs.shape[1]  # nothing was merged
    assert pairs.shape[1] == len(np.unique(pairs[0]))  # and nothing split


# ---- messages --------------------------------------------------------------------------------


def test_mutex_is_the_default_where_there_are_affinities():
    rules = Rules.of(SCHEMA, NM, affinities=("cell",))
    assert (rules["cell"].method, rules["granule"].method) == ("mutex", "watershed")
    told = Rules.of(SCHEMA, NM, {"cell": {"method": "components"}}, affinities=("cell",))
    assert told["cell"].method == "components"
    assert Rules.of(SCHEMA, NM)["cell"].method == "watershed"


@pytest.mark.parametrize(("told", "found"), [((), "none"), (("granule",), "some of granule")])
def test_mutex_without_affinities_is_refused(told, found):
    with pytest.raises(ConfigError) as caught:
        Rules.of(SCHEMA, NM, {"cell": {"method": "mutex"}}, affinities=told)
    assert str(caught.value) == (
        f'--settings: [cell] method = "mutex": expected a prediction with affinities of cell, found {found}; '
        "train a model on its annotated objects with  --set affinities.share=1  and predict with it, or "
        "choose components or watershed"
    )


def test_find_objects_refuses_affinities_that_are_missing_or_of_another_volume(scene, tmp_path, monkeypatch):
    ids, volume = scene
    rules = Rules.of(SCHEMA, NM, affinities=("cell",))
    with pytest.raises(ConfigError, match='method = "mutex" needs affinities'):
        find_objects(volume, SCHEMA, rules, tmp_path / "o")
    other = written(tmp_path / "p", affinities_of(ids[:5]))
    with pytest.raises(ShapeError, match=r"expected affinities of \(13, 40, 57\) voxels"):
        find_objects(volume, SCHEMA, rules, tmp_path / "o", affinities=other)
    assert not (tmp_path / "o").exists()
    monkeypatch.setitem(sys.modules, "mwatershed", None)
    monkeypatch.setattr("densem.objects.finding.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"expected the package mwatershed, which is not installed; pip"):
        find_objects(volume, SCHEMA, rules, tmp_path / "o", affinities=other)


def test_a_box_is_read_alone(tmp_path):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    told = written(tmp_path / "p", array, OFFSETS[:2])
    box = Box((1, 0, 2), (3, 3, 4))
    np.testing.assert_array_equal(told.read(box), array[:, 1:3, :3, 2:4])
