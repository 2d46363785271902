"""Augmentation: what a section could have looked like, with its labels.

Order: (1) one in-plane displacement field per patch (rotation, scale, elastic), the same for all
sections, sampled linearly for grey values and by nearest neighbour for labels, so ids stay exact;
(2) shifted sections; (3) grey values; (4) sections that are missing or blurred; (5) quarter turns, flips.
Labels follow what moves: a shifted section was annotated where it lies. A missing or blurred section
keeps its labels: its neighbours say what it shows. Everything is drawn from the generator handed in.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import gaussian_filter1d

from densem.blocks import Triple


class Piece(BaseModel):
    """One kind of change: how often and how strong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float = Field(
        default=0.0, ge=0, le=1, description="share of the patches (or sections) changed"
    )
    strength: float = Field(default=0.0, ge=0, description="largest change; the unit depends on the kind")


def _piece(probability: float, strength: float, description: str) -> Piece:
    return Field(default=Piece(probability=probability, strength=strength), description=description)


class Augmentation(BaseModel):
    """Changes made to training patches; a probability of 0 switches a kind off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_z: float = Field(default=0.5, ge=0, le=1, description="probability of reversing the sections")
    flip_y: float = Field(default=0.5, ge=0, le=1, description="probability of mirroring y")
    flip_x: float = Field(default=0.5, ge=0, le=1, description="probability of mirroring x")
    quarter_turns: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="probability of a random turn by 0, 90, 180 or 270 degrees in plane",
    )
    elastic: Piece = _piece(0.5, 6.0, "smooth in-plane deformation; strength in voxels")
    elastic_spacing: float = Field(
        default=40.0, gt=1, description="voxels between the control points of the elastic deformation"
    )
    rotation: Piece = _piece(0.5, 20.0, "in-plane rotation; strength in degrees")
    scale: Piece = _piece(0.5, 0.15, "in-plane magnification; strength as a share")
    brightness: Piece = _piece(0.5, 0.3, "added to all grey values; strength in spreads of the volume")
    contrast: Piece = _piece(0.5, 0.3, "grey values times 1 +- strength")
    gamma: Piece = _piece(0.3, 0.3, "bent grey-value curve; strength in natural logarithms of the exponent")
    section_jitter: Piece = _piece(
        0.3, 0.1, "brightness and contrast of each section for itself; strength in spreads of the volume"
    )
    noise: Piece = _piece(0.3, 0.2, "normal noise; strength in spreads of the volume")
    blur: Piece = _piece(0.15, 1.0, "in-plane Gaussian blur of the patch; strength in voxels")
    missing_section: Piece = _piece(0.03, 1.0, "per section: replaced by one grey value")
    shifted_section: Piece = _piece(
        0.03, 6.0, "per section: moved in plane with its labels; strength in voxels"
    )
    blurred_section: Piece = _piece(0.03, 2.0, "per section: out of focus; strength in voxels")


NONE = Augmentation.model_validate(
    {
        name: Piece() if entry.annotation is Piece else 0.0
        for name, entry in Augmentation.model_fields.items()
        if name != "elastic_spacing"
    }
)
"""No change at all."""

Kind = Literal["linear", "nearest"]


# ---- places -----------------------------------------------------------------------------------


def displacement(config: Augmentation, shape: Triple, rng: np.random.Generator) -> np.ndarray | None:
    """Where each voxel of a patch's plane is read from.

    Args:
        config: kinds and strengths.
        shape: of the patch, (z, y, x).
        rng: source of the draws.

    Returns:
        float32 (2, Y, X), (y, x) in voxels from the patch's corner; None where nothing moves.
    """
    angle = _signed(config.rotation, rng)
    zoom = _signed(config.scale, rng)
    bend = _elastic(config, shape, rng) if rng.random() < config.elastic.probability else None
    if angle == 0 and zoom == 0 and bend is None:
        return None
    y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape[1:]), indexing="ij")
    radians, factor = np.deg2rad(angle), np.exp(-zoom)
    cosine, sine = np.float32(factor * np.cos(radians)), np.float32(factor * np.sin(radians))
    places = np.stack([cosine * y - sine * x, sine * y + cosine * x])
    places += np.array([(n - 1) / 2 for n in shape[1:]], np.float32)[:, None, None]
    return places if bend is None else places + bend


def _elastic(config: Augmentation, shape: Triple, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field float32 (2, Y, X) within about +- strength."""
    cells = [max(2, round(n / config.elastic_spacing) + 1) for n in shape[1:]]
    amplitude = config.elastic.strength * rng.random()
    knots = rng.uniform(-amplitude, amplitude, (1, 2, *cells)).astype(np.float32)
    field = torch.nn.functional.interpolate(
        torch.from_numpy(knots), size=shape[1:], mode="bicubic", align_corners=True
    )
    return field[0].numpy()


def resample(array: np.ndarray, places: np.ndarray, kind: Kind) -> np.ndarray:
    """The values of every section at in-plane places; beyond the array it is mirrored.

    Args:
        array: (Z, Y, X), float32 or uint8.
        places: float32 (2, Y', X'), (y, x) in voxels of `array`.
        kind: linear for grey values, nearest for labels (no new ids).

    Returns:
        (Z, Y', X') of the same dtype.
    """
    size = np.maximum(np.array(array.shape[1:], np.float32) - 1, 1)[:, None, None]
    grid = np.stack([2 * places[1] / size[1] - 1, 2 * places[0] / size[0] - 1], axis=-1)
    taken = torch.nn.functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(array, np.float32))[None],
        torch.from_numpy(grid.astype(np.float32))[None],
        mode="bilinear" if kind == "linear" else "nearest",
        padding_mode="reflection",
        align_corners=True,
    )
    values = taken[0].numpy()
    whole = np.issubdtype(array.dtype, np.integer) and kind == "linear"
    return (np.rint(values) if whole else values).astype(array.dtype, copy=False)


def shift_sections(arrays: list[np.ndarray], piece: Piece, rng: np.random.Generator) -> list[np.ndarray]:
    """Move some sections of all arrays (Z, Y, X) alike; what comes in at the rim is mirrored."""
    depth, height, width = arrays[0].shape
    for z in np.flatnonzero(rng.random(depth) < piece.probability):
        reach = piece.strength
        dy, dx = np.rint(rng.uniform(-reach, reach, 2)).astype(int)
        rows, columns = mirrored(np.arange(height) + dy, height), mirrored(np.arange(width) + dx, width)
        for array in arrays:
            array[z] = array[z][rows[:, None], columns]
    return arrays


def mirrored(places: np.ndarray, size: int) -> np.ndarray:
    """Indices reflected into 0 .. size - 1; the outermost voxel is not repeated."""
    period = max(1, 2 * (size - 1))
    folded = np.abs(places) % period
    return np.where(folded >= size, period - folded, folded)


# ---- grey values ------------------------------------------------------------------------------


def change_grey(image: np.ndarray, config: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, gamma, section jitter, noise and blur on float32 (Z, Y, X), in place."""
    image *= np.float32(1 + _signed(config.contrast, rng))
    image += np.float32(_signed(config.brightness, rng))
    bend = _signed(config.gamma, rng)
    if bend:
        low, high = float(image.min()), float(image.max())
        spread = np.float32(max(high - low, 1e-6))
        image = ((image - np.float32(low)) / spread) ** np.float32(np.exp(bend)) * spread + np.float32(low)
    if rng.random() < config.section_jitter.probability:
        reach = config.section_jitter.strength
        factor, shift = rng.uniform(-reach, reach, (2, len(image), 1, 1)).astype(np.float32)
        image *= 1 + factor
        image += shift
    if rng.random() < config.noise.probability:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= np.float32(config.noise.strength * rng.random())
        image += noise
    if rng.random() < config.blur.probability:
        image = blur(image, config.blur.strength * rng.random())
    return image


def damage_sections(image: np.ndarray, config: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Missing and blurred sections on float32 (Z, Y, X), in place; stacks of fewer than three stay whole."""
    if len(image) < 3:
        return image
    missing, blurred = rng.random((2, len(image)))
    for z in np.flatnonzero(blurred < config.blurred_section.probability):
        image[z] = blur(image[z], config.blurred_section.strength * (0.5 + 0.5 * rng.random()))
    for z in np.flatnonzero(missing < config.missing_section.probability):
        image[z] = rng.uniform(-2, 2)
    return image


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """In-plane Gaussian blur of float32 (..., Y, X); sigma in voxels."""
    for axis in (-2, -1):
        image = gaussian_filter1d(image, sigma, axis=axis, mode="nearest", truncate=3)
    return image


def _signed(piece: Piece, rng: np.random.Generator) -> float:
    """With the piece's probability a number within +- strength, else 0; always two draws."""
    hit, value = rng.random(2)
    return float((2 * value - 1) * piece.strength) if hit < piece.probability else 0.0


# ---- turns ------------------------------------------------------------------------------------


def draw_turn(
    config: Augmentation, voxel_size_nm: tuple[float, float, float], rng: np.random.Generator
) -> int:
    """Number of quarter turns, 0 to 3; only 0 or 2 where voxels are not square in plane."""
    hit, turn = rng.random(), int(rng.integers(4))
    square = abs(voxel_size_nm[1] - voxel_size_nm[2]) <= 0.01 * voxel_size_nm[1]
    return (turn if square else turn & 2) if hit < config.quarter_turns else 0


def draw_flips(config: Augmentation, rng: np.random.Generator) -> tuple[int, ...]:
    """Axes to be flipped."""
    chances = (config.flip_z, config.flip_y, config.flip_x)
    return tuple(axis for axis, chance in enumerate(chances) if rng.random() < chance)


def turn_and_flip(array: np.ndarray, turn: int, flips: tuple[int, ...]) -> np.ndarray:
    """Quarter turns in plane, then flips, of (Z, Y, X), as a contiguous array."""
    return np.ascontiguousarray(np.flip(np.rot90(array, turn, axes=(1, 2)), flips))
