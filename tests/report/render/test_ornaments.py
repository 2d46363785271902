"""Scale bar, legend, axes and titles: their pixels."""

import numpy as np
import pytest
from PIL import Image

from densem.errors import ConfigError
from densem.report.render import VIEWS, Bar, Entry, Paper, View
from densem.report.render.ornaments import Strip, draw_title

PAPER = Paper(800, 500)
ENTRIES = (
    Entry("cell", (1, 1, 224), True),
    Entry("alpha_granule", (1, 254, 1)),
    Entry("snow", (255, 255, 255)),
)


def drawn(bar, view=VIEWS["z"], paper=PAPER, entries=ENTRIES):
    strip = Strip.on(paper, entries)
    canvas = Image.new("RGB", (paper.width, paper.height), paper.background)
    strip.draw(canvas, bar, view)
    return np.asarray(canvas), strip


def has(pixels, color):
    return (pixels == color).all(axis=2)


@pytest.mark.parametrize(
    ("nm_per_pixel", "length_nm", "pixels", "label"),
    [(1.0, 100, 100, "100 nm"), (4.0, 500, 125, "500 nm"), (7.0, 1000, 143, "1 µm"), (0.03, 2, 67, "2 nm")],
)
def test_bar_is_a_round_length(nm_per_pixel, length_nm, pixels, label):
    assert Bar.of(nm_per_pixel, 800) == Bar(length_nm, pixels, label)


def test_bar_is_as_many_pixels_long_as_it_says():
    pixels, _ = drawn(Bar.of(3.7, 800))
    left = has(pixels[:, :240], PAPER.ink)
    longest = max(int(row.sum()) for row in left)
    assert longest == round(500 / 3.7)
    bar_rows = [row for row in left if row.sum() == longest]
    assert all(np.diff(np.flatnonzero(row)).max() == 1 for row in bar_rows)


def test_legend_has_a_swatch_for_each_class():
    pixels, _ = drawn(Bar.of(3.7, 800))
    assert has(pixels, (1, 254, 1)).sum() > 80
    assert has(pixels, (166, 166, 244)).sum() > 80  # translucent: 35 % of the colour before white
    assert has(pixels, (128, 128, 128)).sum() > 30  # a white class has a grey edge


def test_everything_stays_in_the_strip():
    pixels, strip = drawn(Bar.of(3.7, 800), View(30, 30))
    assert (pixels[: PAPER.height - strip.height] == 255).all()
    assert (pixels[:, -2:] == 255).all()


def test_axes_point_where_the_view_says():
    """Along z: x to the right, y down, z away from the viewer."""
    pixels, _ = drawn(Bar.of(3.7, 800))
    corner = pixels[-100:, -100:, 0] < 128
    rows, columns = np.flatnonzero(corner.any(axis=1)), np.flatnonzero(corner.any(axis=0))
    assert 30 < np.ptp(rows) < 100
    assert 30 < np.ptp(columns) < 100
    from_side, _ = drawn(Bar.of(3.7, 800), VIEWS["y"])
    assert (from_side != pixels).any()


def test_on_black_lines_are_light():
    pixels, _ = drawn(Bar.of(3.7, 800), paper=Paper(800, 500, (0, 0, 0)))
    assert has(pixels, (235, 238, 242)).sum() > 400
    assert (pixels[:100] == 0).all()


def test_many_classes_take_more_rows_and_too_many_are_refused():
    many = [Entry(f"class number {n}", (9, 9, 9)) for n in range(12)]
    strip = Strip.on(PAPER, many)
    assert sum(strip.rows) == 12
    assert max(strip.rows) - min(strip.rows) <= 1
    with pytest.raises(ConfigError, match=r"--size 200 160: too small .* legend of 12 classes"):
        Strip.on(Paper(200, 160), many)


def test_a_long_title_is_cut_to_its_panel():
    canvas = Image.new("RGB", (400, 100), (255, 255, 255))
    draw_title(canvas, Paper(400, 100), "the ensemble of a great many networks " * 3, (100, 10, 300, 60))
    dark = np.asarray(canvas)[..., 0] < 200
    columns, rows = np.flatnonzero(dark.any(axis=0)), np.flatnonzero(dark.any(axis=1))
    assert columns.min() >= 100
    assert columns.max() < 300
    assert rows.min() >= 10
    assert rows.max() < 60
