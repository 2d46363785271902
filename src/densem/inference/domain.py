"""Domain: does a new volume look like those a model was trained on?

Compared are the shape of the grey-value histogram after normalisation (which takes out brightness and
contrast), its mirror image (inverted contrast) and the sharpness. Findings are sentences for a person.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densem.volumes import Intensity

FAR = 0.35
"""Earth mover's distance, in standard deviations, above which histograms are called different."""
SHARPNESS = 1.8
"""Ratio above which images are called sharper or more blurred."""
_PLACES = np.linspace(0, 1, 201)


def compare(name: str, found: Intensity, known: Sequence[Intensity]) -> tuple[str, ...]:
    """Sentences about what is unlike the training data; none where all is alike or nothing is known.

    Args:
        name: of the volume, for the sentences.
        found: its statistics.
        known: those of the training volumes.
    """
    known = [k for k in known if k.histogram] if found.histogram else []
    if not known:
        return ()
    straight = min(distance(found, k) for k in known)
    mirrored = min(distance(found, k, mirror=True) for k in known)
    ratios = [found.sharpness / k.sharpness for k in known if k.sharpness > 0 and found.sharpness > 0]
    sentences = [_contrast(name, straight, mirrored), _sharpness(name, ratios)]
    return tuple(s for s in sentences if s)


def distance(a: Intensity, b: Intensity, mirror: bool = False) -> float:
    """Earth mover's distance of two normalised histograms, in standard deviations.

    Args:
        a: one volume.
        b: another.
        mirror: compare `a` with its contrast inverted.
    """
    qa, qb = _quantiles(a), _quantiles(b)
    if mirror:
        qa = -qa[::-1]
    return float(np.abs(qa - qb).mean())


def _quantiles(intensity: Intensity) -> np.ndarray:
    """Normalised grey values below which given shares of the voxels lie, float64 (201,)."""
    shares = np.cumsum([0.0, *intensity.histogram])
    edges = np.linspace(intensity.low, intensity.high, len(shares))
    values = np.interp(_PLACES, shares / shares[-1], edges)
    return (values - intensity.mean) / max(intensity.std, 1e-12)


def _contrast(name: str, straight: float, mirrored: float) -> str:
    if straight > FAR / 2 and mirrored < straight / 2:
        return (
            f"{name}: the contrast looks inverted against the training data (bright for dark); "
            "invert the image and import it anew"
        )
    if straight > FAR:
        return (
            f"{name}: the grey values are distributed unlike the training data (distance {straight:.2f}, "
            f"usual below {FAR:.2f}); expect more errors, or train on some of this volume as well"
        )
    return ""


def _sharpness(name: str, ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    nearest = min(ratios, key=lambda r: abs(np.log(r)))
    if 1 / SHARPNESS <= nearest <= SHARPNESS:
        return ""
    word = "sharper or noisier" if nearest > 1 else "more blurred"
    return (
        f"{name}: the image is {word} than the training data (sharpness {nearest:.2f} times theirs); "
        "expect more errors, or train on some of this volume as well"
    )
