"""Slice panels: image | truth | prediction | errors, and on request confidence, for the views of a volume.

All panels of a view have one size and true proportions: a pixel of the panel is as wide as it is high in
nanometres, whatever the voxels are. The image carries a scale bar. In the errors panel wrong voxels have the
colour of their true class over the image in mid grey, on which black and white classes stand out as well.
Unlabelled voxels are hatched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densem.blocks import Box
from densem.report.figures import INK, Figure, canvas
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume

LONGEST = 800
"""Longest side of a panel in pixels: twice what a page of four columns shows, for crisp screens."""

_SMALLEST = 480  # small volumes are enlarged to about this
_HATCH = (np.array([122, 122, 122]), np.array([168, 168, 168]))


@dataclass(frozen=True, eq=False)
class Subject:
    """What is shown: volumes on one grid, in one schema.

    Attributes:
        image: grey values.
        truth: class ids, 255 where unlabelled; None for a volume without annotation.
        prediction: class ids.
        schema: the classes.
        confidence: uint8, 255 is certain; None to leave that panel out.
        unscored: true class ids that are not scored: hatched among the errors.
    """

    image: Volume
    truth: Volume | None
    prediction: Volume
    schema: LabelSchema
    confidence: Volume | None = None
    unscored: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a view: uint8 (Y, X, 3) and what it shows."""

    title: str
    pixels: np.ndarray

    @property
    def png(self) -> bytes:
        """As a PNG file; grey pictures are stored as such."""
        grey = bool((self.pixels == self.pixels[..., :1]).all())
        picture = Image.fromarray(np.ascontiguousarray(self.pixels[..., 0]) if grey else self.pixels)
        out = io.BytesIO()
        picture.save(out, format="PNG")
        return out.getvalue()


@dataclass(frozen=True)
class Frame:
    """Size of the panels of a view, and their scale.

    Attributes:
        height, width: pixels.
        nm_per_pixel: the same in both directions.
    """

    height: int
    width: int
    nm_per_pixel: float

    @classmethod
    def of(cls, view: Box, voxel_size_nm: Sequence[float]) -> Frame:
        """True proportions; small views enlarged by whole numbers, large ones shrunk to `LONGEST`."""
        lengths = [n * s for n, s in zip(view.shape[1:], voxel_size_nm[1:], strict=True)]
        pixel = min(voxel_size_nm[1:])
        longest = max(lengths) / pixel
        pixel /= max(1, math.floor(_SMALLEST / longest))
        pixel = max(pixel, max(lengths) / LONGEST)
        height, width = (max(1, round(length / pixel)) for length in lengths)
        return cls(height, width, pixel)


def panels_of(subject: Subject, view: Box) -> tuple[Panel, ...]:
    """The panels of one view (a box of one plane), from left to right."""
    frame = Frame.of(view, subject.image.voxel_size_nm)
    grey = _grey(subject.image, view)
    guess = subject.prediction.read(view)[0]
    panels = [Panel("image", with_scale_bar(_resized_grey(grey, frame), frame.nm_per_pixel))]
    if subject.truth is not None:
        truth = subject.truth.read(view)[0]
        panels.append(Panel("truth", label_colors(truth, subject.schema, frame)))
        panels.append(Panel("prediction", label_colors(guess, subject.schema, frame)))
        scored = np.where(np.isin(truth, subject.unscored), UNLABELLED, truth)
        panels.append(Panel("errors", error_colors(grey, scored, guess, subject.schema, frame)))
    else:
        panels.append(Panel("prediction", label_colors(guess, subject.schema, frame)))
    if subject.confidence is not None:
        panels.append(Panel("confidence", confidence_colors(subject.confidence.read(view)[0], frame)))
    return tuple(panels)


# ---- colours ---------------------------------------------------------------------------------


def label_colors(ids: np.ndarray, schema: LabelSchema, frame: Frame) -> np.ndarray:
    """Class ids (Y, X) in the colours of the schema, uint8 (height, width, 3); 255 hatched."""
    ids = np.minimum(ids, UNLABELLED).astype(np.uint8)
    return _hatched(_resized(schema.rgb_of_id[ids], frame), ids == UNLABELLED, frame)


def error_colors(
    grey: np.ndarray, truth: np.ndarray, prediction: np.ndarray, schema: LabelSchema, frame: Frame
) -> np.ndarray:
    """Wrong voxels in the colour of their true class over the faded image, uint8 (height, width, 3).

    Args:
        grey: the image, uint8 (Y, X).
        truth: class ids (Y, X), 255 where unlabelled: hatched.
        prediction: class ids (Y, X).
        schema: the classes.
        frame: size of the panel.
    """
    truth = np.minimum(truth, UNLABELLED).astype(np.uint8)
    faded = (112 + grey.astype(np.uint16) * 56 // 255 // 4 * 4).astype(np.uint8)  # few greys: small files
    wrong = (truth != prediction) & (truth != UNLABELLED)
    rgb = np.where(wrong[..., None], schema.rgb_of_id[truth], faded[..., None])
    return _hatched(_resized(rgb.astype(np.uint8), frame), truth == UNLABELLED, frame)


def confidence_colors(confidence: np.ndarray, frame: Frame) -> np.ndarray:
    """Confidence uint8 (Y, X) from dark (doubtful) to bright (certain), uint8 (height, width, 3)."""
    table = (mpl.colormaps["cividis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return _resized(table[np.minimum(confidence, 255).astype(np.uint8)], frame)


def _grey(image: Volume, view: Box) -> np.ndarray:
    """The plane as uint8 (Y, X), stretched alike in all views where the volume knows its grey values."""
    plane = image.read(view)[0].astype(np.float32)
    known = image.intensity
    low, high = (known.low, known.high) if known else (float(v) for v in np.percentile(plane, (0.5, 99.5)))
    scaled = (plane - low) / max(high - low, 1e-9)
    return (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)


def _resized(rgb: np.ndarray, frame: Frame) -> np.ndarray:
    """Area means when shrunk, whole pixels when enlarged."""
    size = (frame.width, frame.height)
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize(size, Image.Resampling.BOX))


def _resized_grey(grey: np.ndarray, frame: Frame) -> np.ndarray:
    shrinks = frame.width < grey.shape[1]
    how = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
    plane = np.asarray(Image.fromarray(grey).resize((frame.width, frame.height), how))
    return np.repeat(plane[..., None], 3, axis=2)


def _hatched(rgb: np.ndarray, mask: np.ndarray, frame: Frame) -> np.ndarray:
    """Diagonal stripes over the masked voxels (Y, X)."""
    if not mask.any():
        return rgb
    where = _resized(mask.astype(np.uint8) * 255, frame) > 127
    y, x = np.indices((frame.height, frame.width))
    stripes = np.where((((y + x) // 5) % 3 == 0)[..., None], _HATCH[1], _HATCH[0])
    return np.where(where[..., None], stripes, rgb).astype(np.uint8)


# ---- scale bar -------------------------------------------------------------------------------


def scale_bar(width_nm: float) -> tuple[float, str]:
    """Length in nm and label of a round scale bar, at most 30 % of a width: `(500.0, "500 nm")`."""
    most = 0.3 * width_nm
    power = 10.0 ** math.floor(math.log10(most))
    length = max(step * power for step in (1, 2, 5) if step * power <= most)
    return length, f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"


def with_scale_bar(rgb: np.ndarray, nm_per_pixel: float) -> np.ndarray:
    """The picture uint8 (Y, X, 3) with a white scale bar on a dark ground at the lower left."""
    height, width = rgb.shape[:2]
    length_nm, label = scale_bar(width * nm_per_pixel)
    length, unit = round(length_nm / nm_per_pixel), max(4, min(height, width) // 60)
    font = ImageFont.truetype(font_path(), size=max(10, 3 * unit))
    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture, "RGBA")
    left, bottom = 2 * unit, height - 2 * unit
    wide = max(length, round(draw.textlength(label, font=font)))
    draw.rounded_rectangle(
        (left - unit, bottom - 6.3 * unit, left + wide + unit, bottom + unit),
        radius=unit,
        fill=(0, 0, 0, 150),
    )
    draw.rectangle((left, bottom - unit + 1, left + length - 1, bottom), fill=(255, 255, 255, 255))
    draw.text((left, bottom - 1.8 * unit), label, font=font, fill=(255, 255, 255, 255), anchor="ls")
    return np.asarray(picture)


@lru_cache(maxsize=1)
def font_path() -> str:
    """The font of pictures, which comes with matplotlib."""
    return str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


# ---- one figure of many views ----------------------------------------------------------------


def contact_sheet(subject: Subject, views: Sequence[Box]) -> Figure:
    """All views and their panels in one PNG, with titles and the legend: for slides and papers."""
    rows = [panels_of(subject, view) for view in views]
    ratio = rows[0][0].pixels.shape[0] / rows[0][0].pixels.shape[1]
    drawing = canvas(2.6 * len(rows[0]), 2.6 * ratio * len(rows) + 0.75)
    drawing.set_facecolor("white")
    axes = drawing.subplots(len(rows), len(rows[0]), squeeze=False)
    for row, (view, panels) in enumerate(zip(views, rows, strict=True)):
        for ax, panel in zip(axes[row], panels, strict=True):
            ax.imshow(panel.pixels, interpolation="antialiased")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(panel.title, fontsize=11, color=INK)
        axes[row][0].set_ylabel(f"z = {view.start[0]}", fontsize=10, color=INK)
    _add_legend(drawing, subject.schema)
    out = io.BytesIO()
    drawing.savefig(out, format="png", dpi=160, bbox_inches="tight", pad_inches=0.1)
    alt = f"Slices {', '.join(str(v.start[0]) for v in views)}: {', '.join(p.title for p in rows[0])}."
    return Figure("slices", alt, out.getvalue(), "png")


def _add_legend(drawing: mpl.figure.Figure, schema: LabelSchema) -> None:
    from matplotlib.patches import Patch

    drawing.subplots_adjust(left=0.03, right=0.995, top=0.94, bottom=0.07, wspace=0.03, hspace=0.04)
    handles = [
        Patch(facecolor=c.color, edgecolor=INK, linewidth=0.5, label=c.name.replace("_", " "))
        for c in schema.classes
    ]
    drawing.legend(
        handles=handles, loc="lower center", ncols=min(7, len(handles)), frameon=False, fontsize=10
    )
