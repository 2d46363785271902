"""Slice panels: colours of single pixels, proportions, the length of the scale bar."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from densem.blocks import Box
from densem.report import Subject, contact_sheet, panels_of
from densem.report.panels import Frame, Panel, error_colors, label_colors, scale_bar, with_scale_bar
from densem.schema import LabelSchema
from densem.volumes import Volume

PLATELET = LabelSchema.resolve("platelet")
VOXELS = (40.0, 12.0, 8.0)
SAME = Frame(2, 3, 1.0)


def subject(shape: tuple[int, int, int] = (3, 60, 120), confidence: bool = False) -> Subject:
    rng = np.random.default_rng(2)
    image = Volume(rng.integers(0, 60000, shape).astype(np.uint16), VOXELS)
    truth = Volume(rng.integers(0, 7, shape).astype(np.uint8), VOXELS)
    guess = Volume(rng.integers(0, 7, shape).astype(np.uint8), VOXELS)
    sure = Volume(np.full(shape, 255, np.uint8), VOXELS) if confidence else None
    return Subject(image, truth, guess, PLATELET, sure)


# ---- colours ---------------------------------------------------------------------------------


def test_labels_have_the_colours_of_the_schema() -> None:
    rgb = label_colors(np.array([[0, 1, 2], [3, 4, 6]]), PLATELET, SAME)
    assert rgb.tolist() == [
        [[0, 0, 0], [0x01, 0x01, 0xE0], [0x01, 0xAB, 0xFE]],
        [[0x01, 0xFE, 0x01], [0xFF, 0xE0, 0x00], [0xF5, 0x00, 0xCB]],
    ]


def test_errors_have_the_colour_of_the_true_class_over_the_faded_image() -> None:
    grey = np.array([[0, 255, 0], [255, 0, 0]], np.uint8)
    truth, guess = np.array([[1, 1, 0], [3, 255, 2]]), np.array([[1, 1, 2], [4, 1, 2]])
    rgb = error_colors(grey, truth, guess, PLATELET, SAME)
    assert rgb[0, 2].tolist() == [0, 0, 0]  # background taken for a mitochondrion
    assert rgb[1, 0].tolist() == [0x01, 0xFE, 0x01]  # alpha granule taken for a vessel
    assert (rgb[0, 0].tolist(), rgb[0, 1].tolist()) == ([112] * 3, [168] * 3)  # right: dark and bright image
    assert rgb[1, 1].tolist() in ([122] * 3, [168] * 3)  # unlabelled: hatched, though predicted
    assert rgb[1, 2].tolist() == [112] * 3


def test_unlabelled_voxels_are_hatched_and_only_they() -> None:
    ids = np.full((40, 60), 1)
    ids[10:30, 20:40] = 255
    rgb = label_colors(ids, PLATELET, Frame(40, 60, 1.0))
    inside = {tuple(int(v) for v in c) for c in rgb[10:30, 20:40].reshape(-1, 3)}
    assert inside == {(122,) * 3, (168,) * 3}
    assert (rgb[:10] == [0x01, 0x01, 0xE0]).all()
    assert (rgb[:, 40:] == [0x01, 0x01, 0xE0]).all()


def test_classes_that_are_not_scored_are_no_errors() -> None:
    shape = (1, 500, 600)
    truth, guess = (Volume(np.full(shape, i, np.uint8), VOXELS) for i in (0, 3))
    image = Volume(np.zeros(shape, np.uint8), VOXELS)
    errors = {
        ids: panels_of(Subject(image, truth, guess, PLATELET, None, ids), truth.box)[3].pixels
        for ids in ((), (0,))
    }
    assert not errors[()].any()  # background, black, everywhere wrong
    assert set(np.unique(errors[0,])) == {122, 168}  # hatched


# ---- proportions and the scale bar -----------------------------------------------------------


def test_panels_have_true_proportions_at_an_asymmetric_voxel_size() -> None:
    frame = Frame.of(Box((2, 0, 0), (3, 100, 150)), VOXELS)  # 1200 nm high, 1200 nm wide
    assert frame.height == frame.width
    assert frame.nm_per_pixel == pytest.approx(1200 / frame.width)


@pytest.mark.parametrize("shape", [(1, 60, 120), (1, 700, 300), (1, 1500, 2000), (1, 3, 5)])
def test_panels_are_large_enough_and_not_too_large(shape: tuple[int, int, int]) -> None:
    frame = Frame.of(Box.of_shape(shape), VOXELS)
    assert 240 < max(frame.height, frame.width) <= 800
    assert frame.height * frame.nm_per_pixel == pytest.approx(shape[1] * 12, rel=0.02)
    assert frame.width * frame.nm_per_pixel == pytest.approx(shape[2] * 8, rel=0.02)


@pytest.mark.parametrize(
    ("width_nm", "expected"),
    [(8000, (2000, "2 µm")), (1000, (200, "200 nm")), (34, (10, "10 nm")), (3400, (1000, "1 µm"))],
)
def test_the_scale_bar_is_a_round_length(width_nm: float, expected: tuple[float, str]) -> None:
    length, label = scale_bar(width_nm)
    assert (length, label) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(("width", "nm_per_pixel"), [(480, 8.0), (700, 3.7)])
def test_the_drawn_bar_is_as_long_as_it_says(width: int, nm_per_pixel: float) -> None:
    picture = with_scale_bar(np.zeros((500, width, 3), np.uint8), nm_per_pixel)
    bar = (picture[:, :, 0] == 255).sum(axis=1).max()  # no row of the label is as white as the bar
    length_nm, _ = scale_bar(width * nm_per_pixel)
    assert bar * nm_per_pixel == pytest.approx(length_nm, abs=nm_per_pixel)


def test_the_bar_of_a_view_measures_x_not_y() -> None:
    """120 voxels of 8 nm: 960 nm wide; a bar of 200 nm is 25 voxels of the image."""
    case = subject()
    pixels = panels_of(case, Box((1, 0, 0), (2, 60, 120)))[0].pixels
    bar = np.diff(np.flatnonzero(np.diff((pixels[-16:-13] == 255).all(axis=(0, 2)).astype(int)))).max()
    assert bar / pixels.shape[1] == pytest.approx(200 / 960, abs=2 / pixels.shape[1])


# ---- the panels of a view --------------------------------------------------------------------


def test_panels_come_in_order_and_share_a_size() -> None:
    view = Box((1, 0, 0), (2, 60, 120))
    panels = panels_of(subject(confidence=True), view)
    assert [p.title for p in panels] == ["image", "truth", "prediction", "errors", "confidence"]
    assert {p.pixels.shape for p in panels} == {(360, 480, 3)}  # 720 x 960 nm


def test_without_annotation_there_are_no_errors() -> None:
    case = subject()
    bare = Subject(case.image, None, case.prediction, PLATELET)
    assert [p.title for p in panels_of(bare, Box((0, 0, 0), (1, 60, 120)))] == ["image", "prediction"]


def test_a_panel_is_a_png_of_its_pixels() -> None:
    for pixels in (np.full((4, 6, 3), 7, np.uint8), np.arange(72, dtype=np.uint8).reshape(4, 6, 3)):
        picture = Image.open(io.BytesIO(Panel("x", pixels).png))
        assert picture.size == (6, 4)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), pixels)


def test_a_sheet_holds_all_views() -> None:
    figure = contact_sheet(subject((3, 30, 40)), [Box((0, 0, 0), (1, 30, 40)), Box((2, 0, 0), (3, 30, 40))])
    assert figure.alt == "Slices 0, 2: image, truth, prediction, errors."
    width, height = Image.open(io.BytesIO(figure.data)).size
    assert 1200 < width < 2000
    assert 600 < height < 1500
