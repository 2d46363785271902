"""Boundary distances: literals, brute force, and MONAI's surface metrics as the oracle.

MONAI's boundary with `use_subvoxels` is the one of densem (Nikolov et al., 2018), but for a few bent patches,
whose area MONAI sums over triangles. Its plain boundary are the voxels of a mask next to others, unweighted;
such a voxel lies within half a voxel of the corner points. MONAI also takes the edge of a volume for a
boundary, so that masks keep away from it here.
"""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from densem.errors import ConfigError, FormatError, ResourceError, SchemaError, ShapeError
from densem.evaluation import Boundaries, Protocol, boundaries
from densem.evaluation.boundaries import weighted_percentile
from densem.evaluation.surfaces import lattice_grid, patch_areas, positions, surfaces_of_box
from densem.schema import LabelSchema
from densem.volumes import Volume

VOXELS = (40.0, 10.0, 5.0)
SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 1, "color": "#0000ff"},
        "granule": {"id": 7, "color": "#00ff00", "parent": "cell", "organelle": True},
    },
    "test",
)


def volume(array: np.ndarray) -> Volume:
    return Volume(array.astype(np.uint8), VOXELS)


def blob(seed: int, shape: tuple[int, int, int] = (12, 21, 26)) -> np.ndarray:
    """A bumpy mask that keeps away from the edge of the volume."""
    rough = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0.8, 2, 2.5))
    mask = rough > 0.3 * rough.std()
    for axis in range(3):
        ends = [slice(None)] * 3
        for end in (slice(0, 2), slice(-2, None)):
            ends[axis] = end
            mask[tuple(ends)] = False
    return mask


def measured(truth: np.ndarray, prediction: np.ndarray, name: str = "cell", **options):  # type: ignore[no-untyped-def]
    found = boundaries(volume(truth), volume(prediction), SCHEMA, **options)
    return next(c for c in found.classes if c.name == name)


# ---- literals --------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "shift"), [(0, 1), (0, 2), (1, 3), (2, 2)])
def test_a_boundary_that_is_shifted_lies_that_far_away(axis: int, shift: int) -> None:
    shape = (6, 8, 9)
    place = np.indices(shape)[axis]
    far = shift * VOXELS[axis]
    found = measured(place < 2, place < 2 + shift, tolerance_nm=far)
    assert (found.mean_nm, found.hausdorff95_nm, found.surface_dice) == (far, far, 1.0)
    assert measured(place < 2, place < 2 + shift, tolerance_nm=0.99 * far).surface_dice == 0.0
    sides = [(n - 1) * v for k, (n, v) in enumerate(zip(shape, VOXELS, strict=True)) if k != axis]
    assert found.truth_um2 == found.predicted_um2 == pytest.approx(sides[0] * sides[1] / 1e6)


def test_the_tolerance_is_the_longest_side_of_a_voxel_by_default_and_reached_in_spite_of_rounding() -> None:
    place = np.indices((3, 4, 30))[2]
    labels = [Volume((place < n).astype(np.uint8), (50.0, 4.6, 4.6)) for n in (7, 10)]
    assert boundaries(*labels, SCHEMA).tolerance_nm == 50.0
    assert boundaries(*labels, SCHEMA, tolerance_nm=13.8).classes[1].surface_dice == 1.0


def test_areas_weigh_and_not_points() -> None:
    """A boundary that faces z and is found, one that faces x and is 3 voxels off."""
    truth = np.zeros((6, 8, 12), np.uint8)
    truth[3:] = 1
    prediction = truth.copy()
    truth[..., 6:] = 7
    prediction[..., 9:] = 7
    found = measured(truth, prediction, "granule", tolerance_nm=1)
    # along x the granule has 5 x 7 points in each volume, all 15 nm off; none lies on both
    assert (found.mean_nm, found.hausdorff95_nm, found.surface_dice) == (15.0, 15.0, 0.0)
    z_face, x_face = 10 * 5, 40 * 10
    cell = measured(truth, prediction, "cell", tolerance_nm=1)
    areas = patch_areas(VOXELS)
    assert {z_face, x_face} <= set(areas.tolist())
    assert cell.surface_dice is not None
    assert cell.surface_dice < 0.5  # by points more than half of its boundary is found


def test_percentiles_by_weight() -> None:
    assert weighted_percentile(np.array([3.0, 1.0, 2.0]), [1, 1, 1], 0.5) == 2
    assert weighted_percentile(np.array([3.0, 1.0, 2.0]), [1, 98, 1], 0.95) == 1
    assert weighted_percentile(np.arange(100.0), np.ones(100), 0.95) == 94
    assert weighted_percentile(np.arange(100.0), np.full(100, 0.1), 0.95) == 94  # sums that round
    assert weighted_percentile(np.array([5.0, 9.0]), [0.1, 0.9], 1.0) == 9


def test_equal_labels_have_no_distance_and_missing_classes_none() -> None:
    labels = blob(0)
    found = boundaries(volume(labels), volume(labels), SCHEMA)
    cell, granule = found.classes[1:]
    assert (cell.mean_nm, cell.hausdorff95_nm, cell.surface_dice) == (0.0, 0.0, 1.0)
    assert (granule.mean_nm, granule.hausdorff95_nm, granule.surface_dice) == (None, None, None)
    missed = measured(labels, np.zeros_like(labels))
    assert (missed.mean_nm, missed.hausdorff95_nm, missed.surface_dice, missed.predicted_um2) == (
        None, None, None, 0.0,
    )  # fmt: skip
    assert missed.truth_um2 > 0


def test_what_touches_voxels_that_are_not_scored_does_not_count() -> None:
    place = np.indices((4, 6, 20))[2]
    truth, prediction = (place < 5).astype(np.uint8), (place < 6).astype(np.uint8)
    prediction[:, :3, 15:] = 1  # a false cell, of which nobody can say that it is false
    truth[:, :3, 13:] = 255
    truth[:, 3, 13:] = 255
    found = measured(truth, prediction)
    assert (found.mean_nm, found.hausdorff95_nm) == (5.0, 5.0)
    truth[truth == 255] = 0
    assert measured(truth, prediction).hausdorff95_nm > 40


def test_the_protocol_cells_sees_only_boundaries_inside_of_cells() -> None:
    truth = np.zeros((4, 9, 30), np.uint8)
    truth[:, :, 8:] = 1
    truth[:, :, 20:] = 7
    prediction = np.where(truth == 0, 1, truth)
    prediction[:, :, 20:22] = 1
    for protocol, sizes in ((Protocol.LABELLED, True), (Protocol.CELLS, False)):
        cell = measured(truth, prediction, protocol=protocol)
        assert cell.truth_um2 == pytest.approx((2 if sizes else 1) * 3 * 8 * 400 / 1e6)
    assert cell.mean_nm == 10.0  # to its granule; where it meets the background does not count


# ---- oracles ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("block", "workers"), [((32, 512, 512), 1), ((3, 7, 11), 2)])
def test_equal_to_brute_force(block: tuple[int, int, int], workers: int) -> None:
    truth, prediction = blob(1) + 6 * blob(2), blob(3) + 6 * blob(4)
    areas = patch_areas(VOXELS)

    def all_points(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (grid,) = lattice_grid(labels.shape, (64, 64, 64))
        nothing = np.zeros(labels.shape, bool)
        found = surfaces_of_box(lambda _: (labels, nothing), labels.shape, grid, [7])[0][0]
        return positions(found.places, labels.shape, VOXELS), areas[found.codes]

    (p, a), (q, b) = all_points(truth), all_points(prediction)
    apart = cdist(p, q)
    to, back = apart.min(axis=1), apart.min(axis=0)
    found = measured(truth, prediction, "granule", block=block, workers=workers, tolerance_nm=12)
    assert found.mean_nm == pytest.approx(((to * a).sum() + (back * b).sum()) / (a.sum() + b.sum()))
    assert found.surface_dice == pytest.approx(
        (a[to <= 12].sum() + b[back <= 12].sum()) / (a.sum() + b.sum())
    )
    expected = max(np.quantile(d, 0.95, weights=w, method="inverted_cdf") for d, w in ((to, a), (back, b)))
    assert found.hausdorff95_nm == pytest.approx(expected)
    swapped = measured(prediction, truth, "granule", tolerance_nm=12)
    assert (swapped.mean_nm, swapped.hausdorff95_nm) == (
        pytest.approx(found.mean_nm), pytest.approx(found.hausdorff95_nm),
    )  # fmt: skip
    assert (swapped.truth_um2, swapped.predicted_um2) == (found.predicted_um2, found.truth_um2)


@pytest.fixture(scope="module")
def monai():  # type: ignore[no-untyped-def]
    return pytest.importorskip("monai.metrics")


def one_hot(mask: np.ndarray):  # type: ignore[no-untyped-def]
    import torch

    return torch.as_tensor(np.stack([~mask, mask])[None].astype(np.float32))


def monai_dice(monai, truth: np.ndarray, prediction: np.ndarray, tolerance: float) -> float:  # type: ignore[no-untyped-def]
    return float(
        monai.compute_surface_dice(
            one_hot(prediction), one_hot(truth), [tolerance], include_background=False, spacing=VOXELS,
            use_subvoxels=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize("shift", [(0, 0, 2), (1, 0, 0), (1, 2, 1), (2, 3, 5)])
@pytest.mark.parametrize("tolerance", [5.0, 11.0, 41.0])
def test_surface_dice_of_cuboids_equals_monai(monai, shift, tolerance) -> None:  # type: ignore[no-untyped-def]
    truth = np.zeros((12, 20, 24), bool)
    truth[3:7, 4:13, 6:15] = True
    prediction = np.roll(truth, shift, (0, 1, 2))
    prediction[:, :, 16:] = False
    ours = measured(truth, prediction, tolerance_nm=tolerance).surface_dice
    assert ours == pytest.approx(monai_dice(monai, truth, prediction, tolerance), abs=1e-6)


@pytest.mark.parametrize("seed", [10, 20, 30])
def test_surface_dice_of_any_shape_is_that_of_monai_but_for_bent_patches(monai, seed: int) -> None:  # type: ignore[no-untyped-def]
    truth, prediction = blob(seed), blob(seed) & blob(seed + 1) | (blob(seed + 2) & blob(seed + 3))
    for tolerance in (5.0, 15.0, 40.0):
        ours = measured(truth, prediction, tolerance_nm=tolerance).surface_dice
        assert ours == pytest.approx(monai_dice(monai, truth, prediction, tolerance), abs=0.02)


@pytest.mark.parametrize("seed", [10, 20, 30])
def test_distances_are_within_a_voxel_of_those_between_boundary_voxels(monai, seed: int) -> None:  # type: ignore[no-untyped-def]
    truth, prediction = blob(seed), blob(seed) & ~blob(seed + 5)
    ours = measured(truth, prediction)
    pair = one_hot(prediction), one_hot(truth)
    hausdorff = monai.compute_hausdorff_distance(*pair, percentile=95, spacing=VOXELS)
    mean = monai.compute_average_surface_distance(*pair, symmetric=True, spacing=VOXELS)
    assert ours.hausdorff95_nm == pytest.approx(float(hausdorff), abs=max(VOXELS))
    assert ours.mean_nm == pytest.approx(float(mean), abs=max(VOXELS) / 2)


# ---- records and refusals --------------------------------------------------------------------


def test_it_comes_back_from_json() -> None:
    found = boundaries(volume(blob(1)), volume(blob(2)), SCHEMA)
    assert Boundaries.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for broken in ({}, {"tolerance_nm": 1, "classes": {"cell": {"mean": 1}}}):
        with pytest.raises(
            FormatError, match=r"x\.json: expected the boundary distances that densem evaluate"
        ):
            Boundaries.from_dict(broken, "x.json")


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, prediction = volume(blob(1)), volume(blob(2))
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="tolerance of the surface Dice: expected nm from 0 up, found"):
            boundaries(truth, prediction, SCHEMA, tolerance_nm=tolerance)
    with pytest.raises(ShapeError, match="both must lie on one grid"):
        boundaries(truth, volume(blob(2)[1:]), SCHEMA)
    with pytest.raises(SchemaError, match="protocol cells: expected a schema with a background class"):
        boundaries(truth, prediction, LabelSchema.from_names(["a", "b"]), Protocol.CELLS)
    module = importlib.import_module("densem.evaluation.boundaries")
    monkeypatch.setattr(module, "MOST_POINTS", 100)
    with pytest.raises(ResourceError, match="the boundary of class outside has more than 100 points"):
        boundaries(truth, prediction, SCHEMA)
