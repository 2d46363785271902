"""Grey values to network input: zero mean and unit spread over the whole volume.

The statistics belong to the volume, never to the patch: every crop of a volume is treated alike in
training and in prediction.
"""

from __future__ import annotations

import numpy as np

from densem.volumes import Intensity

SMALLEST_SPREAD = 1e-6


def normalize(array: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Grey values (Z, Y, X) of any image dtype as float32 with mean 0 and spread 1 over the volume."""
    scale = np.float32(1.0 / max(intensity.std, SMALLEST_SPREAD))
    result = array.astype(np.float32)
    result -= np.float32(intensity.mean)
    result *= scale
    return result
