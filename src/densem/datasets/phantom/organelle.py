"""Organelle: one thing inside a cell, as solids with a class and a grey value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densem.datasets.phantom.donor import Content
from densem.datasets.phantom.solids import Ellipsoid, Solid
from densem.schema import LabelSchema

SCHEMA = LabelSchema.resolve("platelet")
"""The classes of a phantom."""

MAX_ORGANELLES = 1000
"""The most organelles of one cell; their ids follow each other."""


@dataclass(frozen=True)
class Organelle:
    """An organelle in a body.

    Attributes:
        label: class id.
        parts: solids whose union it is.
        grey: of the inside.
        axis: direction of its internal order (cristae), unit vector.
        core: the dark core of a dense granule.
    """

    label: int
    parts: tuple[Solid, ...]
    grey: float
    axis: np.ndarray
    core: Ellipsoid | None = None


def draw_radius(content: Content, rng: np.random.Generator) -> float:
    """A radius in nm, log-normal."""
    return float(content.radius_nm * np.exp(rng.normal(0, content.radius_spread)))


def draw_grey(content: Content, rng: np.random.Generator) -> float:
    """A mean grey, normal."""
    return float(rng.normal(content.grey, content.grey_spread))
