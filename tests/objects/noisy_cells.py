"""Ragged cells that hold ragged organelles, for tests of whole runs."""

import numpy as np
from scipy.ndimage import gaussian_filter

SIZE = (40.0, 10.0, 7.0)


def noisy(shape, seed):
    """Class ids of ragged cells that hold ragged mitochondria and granules; a corner is unlabelled."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), (1, 2, 2))
    inner = gaussian_filter(rng.normal(size=shape), (0.7, 1.5, 1.5))
    classes = (field > 0.01).astype(np.uint8)
    classes[(classes == 1) & (inner > 0.1)] = 3
    classes[(classes == 1) & (inner < -0.12)] = 2
    classes[:2, :5, :7] = 255
    return classes
