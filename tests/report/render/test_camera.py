"""Cameras: which axis points where, and what fits into a picture."""

import numpy as np
import pytest

from densem.errors import ConfigError
from densem.report.render import VIEWS, Frame, View

X, Y, Z = np.eye(3)


@pytest.mark.parametrize(
    ("name", "right", "up", "towards"),
    [("z", X, -Y, -Z), ("y", X, -Z, Y), ("x", -Y, -Z, X)],
)
def test_views_along_an_axis(name, right, up, towards):
    assert VIEWS[name].axes == pytest.approx(np.stack([right, up, towards]), abs=1e-12)


def test_axes_are_a_right_handed_frame_so_that_nothing_is_mirrored():
    for azimuth in range(0, 360, 37):
        for elevation in (-90, -20, 0, 55, 90):
            axes = View(azimuth, elevation).axes
            assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-12)
            assert np.linalg.det(axes) == pytest.approx(1)


def test_higher_looks_onto_the_first_slice_and_azimuth_goes_to_the_right():
    assert View(0, 40).axes[2] @ -Z > 0.6
    assert View(30, 0).axes[2] @ VIEWS["y"].axes[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "azimuth", "elevation", "message"),
    [
        ("obliqe", None, None, "Did you mean 'oblique'?"),
        ("z", None, 91.0, "--elevation 91: expected -90 (from below) to 90"),
        ("z", float("nan"), None, "--azimuth nan: expected degrees"),
    ],
)
def test_wrong_views(name, azimuth, elevation, message):
    with pytest.raises(ConfigError) as caught:
        View.named(name, azimuth, elevation)
    assert message in str(caught.value)


def test_a_named_view_with_another_angle():
    assert View.named("x", elevation=20) == View(90, 20)
    assert View.named("oblique", azimuth=-10.0) == View(-10, 30)


def test_frame_holds_all_points_with_the_middle_in_the_middle():
    points = np.array([[100, 0, 0], [500, 300, 90]], float)
    frame = Frame.fitting(points, VIEWS["z"], 200, 100, fill=1.0)
    assert frame.nm_per_pixel == pytest.approx(3)  # 300 nm of y in 100 pixels, not 400 nm of x in 200
    at = frame.pixel_of(points, VIEWS["z"], 200, 100)
    assert at == pytest.approx(np.array([[100 - 200 / 3, 0], [100 + 200 / 3, 100]]))


def test_a_turning_scene_never_leaves_the_picture():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 3)) * (400, 90, 30) + (1e6, 50, -7)
    views = [View(10 + k * 45, 30) for k in range(8)]
    frame = Frame.fitting_round(points, views, 120, 80)
    for view in views:
        at = frame.pixel_of(points, view, 120, 80)
        assert (at > 0).all()
        assert (at < (120, 80)).all()
