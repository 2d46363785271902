"""Ornaments: scale bar, axes and legend of a render, in a strip below the scene so that they never lie on it.

|            title             |
|            scene             |
|  500 nm     legend        y  |
|  ------   ## a  ## b     /-x |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densem.errors import ConfigError
from densem.report.panels import font_path, scale_bar
from densem.report.render.camera import View
from densem.report.render.scene import Color

_FINER = 4  # lines and letters of the axes are drawn so much larger and averaged
_LEAST = 0.55  # share of the height that stays for the scene


@dataclass(frozen=True)
class Entry:
    """A class in the legend."""

    name: str
    color: Color
    translucent: bool = False

    @property
    def label(self) -> str:
        """As people write it."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Paper:
    """Size and colours of a picture.

    Attributes:
        width, height: pixels.
        background: 0 to 255.
    """

    width: int = 1600
    height: int = 1200
    background: Color = (255, 255, 255)

    @property
    def ink(self) -> Color:
        """Of lines and letters."""
        return (28, 36, 48) if sum(self.background) > 3 * 127 else (235, 238, 242)

    @property
    def unit(self) -> int:
        """Height of letters in pixels; everything is measured in it."""
        return max(10, round(min(self.width, 1.4 * self.height) / 50))

    def font(self, size: float | None = None) -> ImageFont.FreeTypeFont:
        """The font, by default a unit high."""
        return ImageFont.truetype(font_path(), size=max(8, round(size or self.unit)))


@dataclass(frozen=True)
class Bar:
    """A scale bar: nanometres, pixels, and what is written over it."""

    length_nm: float
    pixels: int
    label: str

    @classmethod
    def of(cls, nm_per_pixel: float, width: int) -> Bar:
        """A round length, at most a fifth of a width in pixels."""
        length_nm, label = scale_bar(0.66 * width * nm_per_pixel)
        return cls(length_nm, round(length_nm / nm_per_pixel), label)


@dataclass(frozen=True)
class Strip:
    """The strip below the scene.

    Attributes:
        paper: what it is on.
        entries: of the legend.
        rows: numbers of entries in each row of the legend.
    """

    paper: Paper
    entries: tuple[Entry, ...]
    rows: tuple[int, ...]

    @classmethod
    def on(cls, paper: Paper, entries: Sequence[Entry]) -> Strip:
        """A strip with this legend, in as few rows as its middle allows.

        Raises:
            ConfigError: if the picture is too small for it.
        """
        left, right = _between(paper)
        rows, used = [0], 0.0
        for entry in entries:
            wide = _entry_width(paper, entry)
            if rows[-1] and used + wide > right - left:
                rows, used = [*rows, 0], 0.0
            rows[-1] += 1
            used += wide
        most, count = max(rows), len(entries)
        if len(rows) > 1:  # even rows look calmer than a full one and a stub
            most = -(-count // len(rows))
            rows = [min(most, count - k) for k in range(0, count, most)]
        strip = cls(paper, tuple(entries), tuple(rows))
        if strip.height > (1 - _LEAST) * paper.height or paper.width < 16 * paper.unit:
            raise ConfigError(
                f"--size {paper.width} {paper.height}: too small for scale bar, axes and a legend of "
                f"{count} classes; give a larger one, such as 800 600"
            )
        return strip

    @property
    def height(self) -> int:
        """In pixels."""
        return round(self.paper.unit * max(6.0, 1.7 * len(self.rows) + 1.6))

    def draw(self, canvas: Image.Image, bar: Bar, view: View) -> None:
        """Draw it at the lower end of a picture."""
        self._draw_bar(canvas, bar)
        self._draw_legend(canvas)
        _draw_axes(canvas, self.paper, view)

    def _draw_bar(self, canvas: Image.Image, bar: Bar) -> None:
        paper, draw = self.paper, ImageDraw.Draw(canvas)
        unit = paper.unit
        left, bottom = round(1.2 * unit), paper.height - round(1.4 * unit)
        thick, font = max(3, round(0.22 * unit)), paper.font(unit)
        fits = font.getlength(bar.label) < bar.pixels + 2 * left
        draw.rectangle((left, bottom - thick + 1, left + bar.pixels - 1, bottom), fill=paper.ink)
        draw.text(
            (left + bar.pixels / 2 if fits else left, bottom - thick - 0.45 * unit), bar.label, font=font,
            fill=paper.ink, anchor="ms" if fits else "ls",
        )  # fmt: skip

    def _draw_legend(self, canvas: Image.Image) -> None:
        paper, draw = self.paper, ImageDraw.Draw(canvas)
        unit = paper.unit
        top = paper.height - self.height / 2 - 1.7 * unit * len(self.rows) / 2
        left_over, (left, right) = list(self.entries), _between(paper)
        for row, count in enumerate(self.rows):
            entries, left_over = left_over[:count], left_over[count:]
            wide = sum(_entry_width(paper, e) for e in entries)
            x = min(max((paper.width - wide) / 2, left), right - wide)
            y = top + (row + 0.5) * 1.7 * unit
            for entry in entries:
                box = (round(x), round(y - 0.5 * unit), round(x + unit), round(y + 0.5 * unit))
                draw.rectangle(box, fill=_swatch(entry, paper.background), outline=_edge(entry, paper))
                draw.text((x + 1.5 * unit, y), entry.label, font=_font(paper), fill=paper.ink, anchor="lm")
                x += _entry_width(paper, entry)


def _between(paper: Paper) -> tuple[float, float]:
    """From where to where the legend may reach, so that it leaves scale bar and axes alone."""
    return 0.2 * paper.width + 2.4 * paper.unit, paper.width - 6.4 * paper.unit


def _entry_width(paper: Paper, entry: Entry) -> float:
    return _font(paper).getlength(entry.label) + 2.7 * paper.unit


def _font(paper: Paper) -> ImageFont.FreeTypeFont:
    """Of the legend."""
    return paper.font(0.9 * paper.unit)


def _swatch(entry: Entry, background: Color) -> Color:
    """The class's colour; of translucent bodies, as it looks before the background."""
    share = 0.35 if entry.translucent else 1.0
    r, g, b = (
        round(share * c + (1 - share) * w) for c, w in zip(entry.color, background, strict=True)
    )  # fmt: skip
    return r, g, b


def _edge(entry: Entry, paper: Paper) -> Color:
    """A line around swatches, so that one in the colour of the background is seen."""
    if entry.translucent:
        return entry.color
    near = sum(abs(c - w) for c, w in zip(entry.color, paper.background, strict=True)) < 90
    return (128, 128, 128) if near else entry.color


# ---- axes ------------------------------------------------------------------------------------


def _draw_axes(canvas: Image.Image, paper: Paper, view: View) -> None:
    """Where x, y and z point, in the lower right corner; one towards the viewer is a dot, away a cross."""
    side = round(5.6 * paper.unit)
    big, unit = side * _FINER, paper.unit * _FINER
    sheet = Image.new("RGB", (big, big), paper.background)
    draw = ImageDraw.Draw(sheet)
    flat = view.axes.T * (1, -1, 1)  # rows x, y, z: right, down, towards
    length, font = 2.1 * unit, paper.font(0.95 * unit)
    tips = flat[:, :2] * length
    spread = np.concatenate([tips, np.zeros((1, 2))])
    start = big / 2 - (spread.min(axis=0) + spread.max(axis=0)) / 2
    for k in np.argsort(flat[:, 2]):  # those behind first
        tip, name = start + tips[k], "xyz"[k]
        share = float(np.linalg.norm(flat[k, :2]))
        if share < 0.12:
            _draw_end_on(draw, start, flat[k, 2] > 0, unit, paper)
            place = start - (0.75 * unit, 0.75 * unit)
        else:
            _draw_arrow(draw, start, tip, unit, paper)
            place = tip + flat[k, :2] / share * 0.72 * unit
        draw.text(tuple(place), name, font=font, fill=paper.ink, anchor="mm")
    small = sheet.resize((side, side), Image.Resampling.BOX)
    canvas.paste(
        small, (paper.width - side - round(0.3 * paper.unit), paper.height - side - round(0.2 * paper.unit))
    )


def _draw_arrow(
    draw: ImageDraw.ImageDraw, start: np.ndarray, tip: np.ndarray, unit: int, paper: Paper
) -> None:
    along = (tip - start) / np.linalg.norm(tip - start)
    across = np.array([-along[1], along[0]])
    head = min(0.55 * unit, 0.6 * float(np.linalg.norm(tip - start)))
    neck = tip - along * head
    draw.line([*start, *neck], fill=paper.ink, width=max(2, round(0.13 * unit)))
    points = [tip, neck + across * head * 0.36, neck - across * head * 0.36]
    draw.polygon([tuple(p) for p in points], fill=paper.ink)


def _draw_end_on(draw: ImageDraw.ImageDraw, at: np.ndarray, towards: bool, unit: int, paper: Paper) -> None:
    r, line = 0.32 * unit, max(2, round(0.11 * unit))
    draw.ellipse((*(at - r), *(at + r)), fill=paper.background, outline=paper.ink, width=line)
    if towards:
        draw.ellipse((*(at - r / 3), *(at + r / 3)), fill=paper.ink)
    else:
        d = r * 0.6
        draw.line([*(at - d), *(at + d)], fill=paper.ink, width=line)
        draw.line([at[0] - d, at[1] + d, at[0] + d, at[1] - d], fill=paper.ink, width=line)


# ---- titles ----------------------------------------------------------------------------------


def draw_title(canvas: Image.Image, paper: Paper, text: str, box: tuple[int, int, int, int]) -> None:
    """Text in the middle of (left, top, right, bottom): made smaller, then cut, until it fits."""
    left, top, right, bottom = box
    size, room = 1.2 * paper.unit, right - left - paper.unit
    while paper.font(size).getlength(text) > room and size > 0.75 * paper.unit:
        size -= 0.5
    font = paper.font(size)
    while font.getlength(text) > room and len(text) > 2:
        text = text[:-2].rstrip() + "…"
    middle = ((left + right) / 2, (top + bottom) / 2)
    ImageDraw.Draw(canvas).text(middle, text, font=font, fill=paper.ink, anchor="mm")


def draw_note(canvas: Image.Image, paper: Paper, text: str, box: tuple[int, int, int, int]) -> None:
    """A remark in the middle of (left, top, right, bottom)."""
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    ImageDraw.Draw(canvas).text(middle, text, font=paper.font(), fill=(128, 128, 128), anchor="mm")
