"""A micrograph: what the microscope makes of a drawing.

1. The beam blurs, in depth and in plane, by Gaussians given in nm.
2. Each section has its own gain and offset.
3. Detector noise, correlated along the fast scan (x), stronger where the specimen is dark (more electrons
   come back there, and the grey scale is inverted).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from densem.blocks import Box, Triple, triple
from densem.datasets.phantom.donor import Donor
from densem.datasets.phantom.noise import Rays, key_of, white

_SCAN_BLUR = (0.0, 0.5, 0.75)
_SCAN_REACH = (0, 2, 3)


def rays(box: Box, voxel_size_nm: tuple[float, float, float], donor: Donor, seed: int) -> Rays:
    """Where the voxels of a box lie in the specimen: each section is shifted a little, in nm."""
    z, y, x = (
        (np.arange(a, b) + 0.5) * size for a, b, size in zip(box.start, box.stop, voxel_size_nm, strict=True)
    )
    shift = [donor.jitter_nm * _by_section(seed, f"shift {axis}", box) for axis in "yx"]
    return Rays(z, y + shift[0][:, None], x + shift[1][:, None])


def _by_section(seed: int, word: str, box: Box) -> np.ndarray:
    """One normal value for each section, float64 (Z,)."""
    line = Box((box.start[0], 0, 0), (box.stop[0], 1, 1))
    return white(key_of(seed, word), line)[:, 0, 0].astype(np.float64)


def _kernels(voxel_size_nm: tuple[float, float, float], donor: Donor) -> list[np.ndarray]:
    sigmas = [s / v for s, v in zip((donor.blur_nm[0], *[donor.blur_nm[1]] * 2), voxel_size_nm, strict=True)]
    return [_gauss(s, int(np.ceil(1.8 * s))) for s in sigmas]


def _gauss(sigma: float, reach: int) -> np.ndarray:
    """Weights (2 * reach + 1,) of sum one; a spread of zero is the identity."""
    at = np.arange(-reach, reach + 1)
    weights = np.exp(-((at / sigma) ** 2) / 2) if sigma > 0 else (at == 0).astype(np.float64)
    return weights / weights.sum()


def blur_reach(voxel_size_nm: tuple[float, float, float], donor: Donor) -> Triple:
    """By how many voxels a drawing must be larger than the micrograph made of it."""
    return triple(len(k) // 2 for k in _kernels(voxel_size_nm, donor))


def expose(
    grey: np.ndarray, box: Box, voxel_size_nm: tuple[float, float, float], donor: Donor, seed: int
) -> np.ndarray:
    """The image of a box, float32 in [0, 1], from the grey of the box grown by `blur_reach`."""
    for axis, kernel in enumerate(_kernels(voxel_size_nm, donor)):
        grey = ndimage.correlate1d(grey, kernel, axis=axis, mode="nearest")
    grey = grey[Box.of_shape(grey.shape).grow(triple(-r for r in blur_reach(voxel_size_nm, donor))).slices]
    gain = 1 + donor.section_spread * _by_section(seed, "gain", box)
    offset = donor.section_spread * _by_section(seed, "offset", box)
    grey = gain.astype(np.float32)[:, None, None] * (grey - 0.5) + offset.astype(np.float32)[:, None, None]
    grey += np.float32(0.5)
    spread = np.sqrt(np.float32(donor.noise**2) + np.float32(donor.shot_noise) * np.clip(1 - grey, 0, 1))
    return np.clip(grey + spread * _detector_noise(box, seed), 0, 1)


def _detector_noise(box: Box, seed: int) -> np.ndarray:
    """Noise of unit variance, float32, correlated over a voxel or so in plane."""
    noise = white(key_of(seed, "detector"), box.grow(_SCAN_REACH))
    for axis, (sigma, reach) in enumerate(zip(_SCAN_BLUR, _SCAN_REACH, strict=True)):
        kernel = _gauss(sigma, reach)
        noise = ndimage.correlate1d(noise, kernel / np.sqrt((kernel**2).sum()), axis=axis, mode="nearest")
    return noise[Box.of_shape(noise.shape).grow(triple(-r for r in _SCAN_REACH)).slices]
