"""Normalisation by the volume's own statistics."""

import numpy as np
import pytest

from densem.sampling import normalize
from densem.volumes import Intensity


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_literal_values(dtype):
    intensity = Intensity(100.0, 20.0, 0, 255, 0, 255, 1.0)
    found = normalize(np.array([[[80, 100, 140]]], dtype), intensity)
    assert found.dtype == np.float32
    assert found.tolist() == [[[-1.0, 0.0, 2.0]]]


def test_a_constant_volume_stays_finite():
    found = normalize(np.full((1, 2, 2), 7, np.uint8), Intensity(7.0, 0.0, 7, 7, 7, 7, 0.0))
    assert np.isfinite(found).all()
