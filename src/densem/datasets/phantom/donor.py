"""Donors: how the platelets of one blood sample look, in shape, content and grey.

Grey values are shares of full scale (0 black, 1 white) before blur and noise, lengths are nm,
contents are shares of the cell's volume. Donor "a" is matched to a published slice of human platelets
(40 x 10 x 10 nm); donor "b" is darker, flatter, noisier, and has other organelles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DonorName = Literal["a", "b"]


@dataclass(frozen=True)
class Content:
    """One kind of organelle in a donor: how much of the cell it fills, how large and how grey it is.

    Attributes:
        share: of the cell's volume.
        radius_nm: median radius; of a tube, its calibre.
        radius_spread: standard deviation of the logarithm of the radius.
        grey: mean grey of the inside.
        grey_spread: standard deviation of that grey between objects.
    """

    share: float
    radius_nm: float
    radius_spread: float
    grey: float
    grey_spread: float


@dataclass(frozen=True)
class Donor:
    """Everything that differs between two blood samples.

    Attributes:
        semi_axes_nm: of the median cell: along its length, its breadth (near z) and its width.
        packing: distance between neighbouring cells over their size, per semi-axis.
        resin: grey of the empty resin around the cells.
        cytoplasm: mean grey of the cytoplasm; `cytoplasm_spread` is its spread between cells.
        mottle: spread of the grey changes inside a cell, over 400 nm and again over 130 nm.
        grain: spread of the fine cytoplasmic texture; `grain_nm` is its spacing.
        specks: depth of the small dark bodies in the cytoplasm; `speck_level` is how rare they are.
        membrane: how much darker a membrane is than what it bounds.
        blur_nm: Gaussian spread of the beam (in depth, in plane).
        noise: spread of the detector noise in white; `shot_noise` is the variance added from white to black.
        section_spread: spread of the grey gain and offset between sections.
        jitter_nm: spread of the sideways shift between sections.
    """

    semi_axes_nm: tuple[float, float, float]
    packing: tuple[float, float, float]
    resin: float
    cytoplasm: float
    cytoplasm_spread: float
    mottle: float
    grain: float
    grain_nm: float
    specks: float
    speck_level: float
    membrane: float
    blur_nm: tuple[float, float]
    noise: float
    shot_noise: float
    section_spread: float
    jitter_nm: float
    mitochondrion: Content
    alpha_granule: Content
    canalicular_vessel: Content
    dense_granule: Content
    dense_granule_core: Content


DONORS: dict[str, Donor] = {
    "a": Donor(
        semi_axes_nm=(3200.0, 1500.0, 740.0),
        packing=(0.91, 0.91, 0.915),
        resin=0.845,
        cytoplasm=0.505,
        cytoplasm_spread=0.06,
        mottle=0.040,
        grain=0.045,
        grain_nm=28.0,
        specks=0.34,
        speck_level=0.3,
        membrane=0.185,
        blur_nm=(20.0, 8.0),
        noise=0.052,
        shot_noise=0.0045,
        section_spread=0.012,
        jitter_nm=4.0,
        mitochondrion=Content(0.0106, 125.0, 0.15, 0.16, 0.04),
        alpha_granule=Content(0.070, 205.0, 0.26, 0.305, 0.055),
        canalicular_vessel=Content(0.047, 86.0, 0.32, 0.83, 0.03),
        dense_granule=Content(0.0027, 175.0, 0.12, 0.56, 0.05),
        dense_granule_core=Content(0.0, 84.0, 0.15, 0.10, 0.02),
    ),
    "b": Donor(
        semi_axes_nm=(2100.0, 1500.0, 900.0),
        packing=(0.96, 0.95, 0.95),
        resin=0.72,
        cytoplasm=0.47,
        cytoplasm_spread=0.045,
        mottle=0.05,
        grain=0.06,
        grain_nm=40.0,
        specks=0.15,
        speck_level=0.8,
        membrane=0.13,
        blur_nm=(26.0, 11.0),
        noise=0.065,
        shot_noise=0.006,
        section_spread=0.02,
        jitter_nm=6.0,
        mitochondrion=Content(0.016, 150.0, 0.2, 0.20, 0.03),
        alpha_granule=Content(0.045, 145.0, 0.25, 0.30, 0.05),
        canalicular_vessel=Content(0.075, 100.0, 0.35, 0.70, 0.02),
        dense_granule=Content(0.0030, 150.0, 0.2, 0.52, 0.05),
        dense_granule_core=Content(0.0, 78.0, 0.15, 0.12, 0.02),
    ),
}
"""The two donors by name."""
