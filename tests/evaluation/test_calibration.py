"""Calibration: literals by hand, a brute-force oracle over voxels, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densem.errors import FormatError, InputError, SchemaError, ShapeError
from densem.evaluation import Calibration, Protocol, calibration
from densem.schema import LabelSchema
from densem.volumes import Volume

VOXELS = (40.0, 10.0, 8.0)
SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 1, "color": "#0000ff"},
        "granule": {"id": 9, "color": "#00ff00", "parent": "cell", "organelle": True},
    },
    "test",
)


def volume(array: np.ndarray) -> Volume:
    return Volume(array, VOXELS)


def line(*values: int) -> Volume:
    return volume(np.array(values, np.uint8).reshape(1, 1, -1))


def test_by_hand() -> None:
    truth = line(1, 1, 1, 1, 9, 255, 1)
    prediction = line(1, 1, 0, 1, 9, 1, 255)
    confidence = line(255, 255, 255, 153, 153, 10, 200)
    found = calibration(truth, prediction, confidence, SCHEMA)
    # three voxels at 1.0, two of them right; two at 0.6, both right; unlabelled and unpredicted are left out
    assert found.voxels == 5
    assert found.ece == pytest.approx(3 / 5 * (1 - 2 / 3) + 2 / 5 * (1 - 0.6))
    assert found.accuracy == 4 / 5
    assert found.confidence == pytest.approx((3 + 1.2) / 5)
    assert [b.voxels for b in found.bins] == [0] * 8 + [2] + [0] * 5 + [3]
    assert (found.bins[8].confidence, found.bins[8].accuracy) == (pytest.approx(0.6), 1.0)
    assert (found.bins[0].confidence, found.bins[0].accuracy) == (None, None)


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize(("block", "workers"), [((32, 512, 512), 1), ((2, 5, 7), 3)])
def test_equal_to_brute_force(protocol: Protocol, block: tuple[int, int, int], workers: int) -> None:
    rng = np.random.default_rng(1)
    shape = (5, 17, 29)
    truth = rng.choice(np.array([0, 1, 9, 255], np.uint8), shape)
    prediction = np.where(
        rng.random(shape) < 0.6, truth, rng.choice(np.array([0, 1, 9, 255], np.uint8), shape)
    )
    levels = rng.integers(60, 256, shape).astype(np.uint8)
    found = calibration(
        volume(truth), volume(prediction), volume(levels), SCHEMA, protocol, block=block, workers=workers
    )
    seen = (truth != 255) & (prediction != 255)
    if protocol is Protocol.CELLS:
        seen &= truth != 0
    p, right = levels[seen] / 255, (truth == prediction)[seen]
    # Guo et al.: bins are (m/15, (m+1)/15]
    error = 0.0
    for m in range(15):
        inside = (p > m / 15 + 1e-12) & (p <= (m + 1) / 15 + 1e-12)
        if inside.any():
            error += inside.mean() * abs(p[inside].mean() - right[inside].mean())
    assert found.ece == pytest.approx(error, abs=1e-12)
    assert found.voxels == seen.sum()
    assert found.accuracy == pytest.approx(right.mean())
    assert found.confidence == pytest.approx(p.mean())


def test_adaptive_bins_share_out_voxels_that_are_alike() -> None:
    # each voxel becomes 15, so that 15 bins can be filled without dividing one; those of a level are alike
    voxels, right = np.zeros(256, np.int64), np.zeros(256, np.int64)
    voxels[[100, 150, 200, 255]], right[[100, 150, 200, 255]] = [7, 12, 5, 9], [3, 12, 0, 8]
    p = np.repeat(np.arange(256), voxels * 15) / 255
    share = np.repeat(np.divide(right, voxels, out=np.zeros(256), where=voxels > 0), voxels * 15)
    bins = zip(np.split(p, 15), np.split(share, 15), strict=True)
    expected = np.mean([abs(a.mean() - b.mean()) for a, b in bins])
    assert Calibration.of_levels(voxels, right).ece_adaptive == pytest.approx(expected, abs=1e-12)


def test_a_perfect_forecast_has_no_error_and_an_overconfident_one_its_gap() -> None:
    voxels = np.zeros(256, np.int64)
    voxels[51::51] = 1000  # 0.2, 0.4, 0.6, 0.8, 1.0
    right = voxels * np.arange(256) // 255
    perfect = Calibration.of_levels(voxels, right)
    assert (perfect.ece, perfect.ece_adaptive) == (pytest.approx(0), pytest.approx(0))
    assert Calibration.of_levels(voxels, right * 0).ece == pytest.approx(0.6)


def test_it_comes_back_from_json() -> None:
    found = calibration(line(1, 9, 1), line(1, 1, 1), line(255, 99, 0), SCHEMA)
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for broken in ({}, {**found.to_dict(), "bins": [{"voxels": 1}]}, {**found.to_dict(), "more": 1}):
        with pytest.raises(
            FormatError, match=r"x\.json: expected the calibration that densem evaluate writes"
        ):
            Calibration.from_dict(broken, "x.json")


def test_refusals() -> None:
    truth, prediction = line(1, 9, 255), line(1, 1, 1)
    with pytest.raises(ShapeError, match=r"confidence volume has shape \(1, 1, 2\) and prediction"):
        calibration(truth, prediction, line(1, 2), SCHEMA)
    with pytest.raises(InputError, match=r"expected uint8, round\(255 \* probability\), found float32"):
        calibration(truth, prediction, volume(np.zeros((1, 1, 3), np.float32)), SCHEMA)
    with pytest.raises(InputError, match="calibration: no voxel is both scored and predicted"):
        calibration(line(255, 1, 255), line(1, 255, 1), line(1, 2, 3), SCHEMA)
    with pytest.raises(SchemaError, match="protocol cells: expected a schema with a background class"):
        calibration(truth, prediction, line(1, 2, 3), LabelSchema.from_names(["a", "b"]), Protocol.CELLS)
