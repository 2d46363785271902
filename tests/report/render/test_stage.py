"""Drawing: layers blended in order, lengths in pixels, objects where the image has them."""

import numpy as np
import pytest

from densem.meshes.surface import surface
from densem.report.render import VIEWS, Body, Entry, Frame, Paper, Scene, Subject, View, cuts, draw, turn
from densem.report.render.stage import CLEAR, RIM, Stage, opacity, vertex_normals
from densem.volumes import Volume

SIZE = (40.0, 10.0, 8.0)
BLUE, GREEN = (0, 0, 200), (1, 200, 1)


def picture(scene, view, width=120, height=90, background=(255, 255, 255)):
    frame = Frame.fitting(scene.points, view, width, height)
    with Stage(scene, width, height, background) as stage:
        return stage.draw(view, frame).astype(int), frame


def test_opacity_grows_towards_the_rim():
    towards = np.array([0.0, 0.6, 0.8])
    normals = np.array([[0, 0.6, 0.8], [0, -0.6, -0.8], [1, 0, 0]])
    assert opacity(normals, towards) == pytest.approx([CLEAR, CLEAR, RIM])


def test_vertex_normals_of_a_box_point_outward(make_box):
    mesh = make_box((0, 0, 0), (3, 4, 5))
    normals = vertex_normals(mesh.vertices.astype(float), mesh.faces.astype(int))
    outward = mesh.vertices - (1.5, 2, 2.5)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
    assert ((normals * outward).sum(axis=1) > 0).all()


def test_layers_of_membrane_are_blended_whatever_their_order(opengl, make_box):
    """Seen face on, each of n walls lets 1 - CLEAR of the white through."""
    outer = Body(make_box((0, 0, 0), (400, 400, 400)), "a", BLUE, True)
    inner = Body(make_box((120, 120, 120), (280, 280, 280)), "a", BLUE, True)
    for bodies in ((outer, inner), (inner, outer)):
        pixels, _ = picture(Scene(bodies), VIEWS["z"])
        assert pixels[45, 60, 0] == pytest.approx(255 * (1 - CLEAR) ** 4, abs=1.5)
        assert pixels[45, 30, 0] == pytest.approx(255 * (1 - CLEAR) ** 2, abs=1.5)
        assert pixels[2, 2].tolist() == [255, 255, 255]


def test_layers_before_something_opaque_are_all_there(opengl, make_box):
    """VTK's dual depth peeling keeps only one of them with software rendering."""
    walls = [
        Body(make_box((0, 0, z), (400, 300, z + 10)), "a", BLUE, True) for z in (0, 50, 100)
    ]  # six layers
    behind = Body(make_box((0, 0, 300), (400, 300, 400)), "b", (255, 0, 0))
    bare, _ = picture(
        Scene([behind, Body(make_box((0, 0, 0), (400, 300, 1)), "b", (0, 0, 0))][:1]), VIEWS["z"]
    )
    pixels, _ = picture(Scene([*walls, behind]), VIEWS["z"])
    assert pixels[45, 60, 0] == pytest.approx(bare[45, 60, 0] * (1 - CLEAR) ** 6, abs=2)


def test_two_balls_are_as_far_apart_as_the_scale_says(opengl, make_ball):
    """1200 nm along x, 600 nm along y, oblique and from above; far from the origin."""
    shape, offset = (16, 120, 200), (8e5, 3e5, 5e5)
    places = [(320, 300, 200), (320, 900, 1400)]
    bodies = [
        Body(surface(make_ball(shape, place, 100), 1, SIZE, offset), "ball", color)
        for place, color in zip(places, ((200, 0, 0), (0, 0, 200)), strict=True)
    ]
    for view in (VIEWS["z"], View(25, 40)):
        pixels, frame = picture(Scene(bodies), view, 240, 180)
        centres = []
        for channel in (0, 2):
            seen = pixels[..., channel] - pixels[..., 2 - channel] > 40
            rows, columns = np.nonzero(seen)
            centres.append([columns.mean() + 0.5, rows.mean() + 0.5])
        expected = frame.pixel_of((np.array(places) + offset)[:, ::-1], view, 240, 180)
        assert np.abs(np.array(centres) - expected).max() < 1.0
        if view == VIEWS["z"]:
            apart = np.linalg.norm(np.subtract(*centres)) * frame.nm_per_pixel
            assert apart == pytest.approx(np.hypot(1200, 600), rel=0.01)


@pytest.mark.parametrize(("name", "axes"), [("z", (1, 2)), ("y", (0, 2)), ("x", (0, 1))])
def test_a_bright_ball_of_the_image_and_its_object_coincide(opengl, make_ball, name, axes):
    shape, offset = (14, 64, 100), (120.0, -300.0, 40.0)
    place = np.array([260.0, 255.0, 500.0])
    mask = make_ball(shape, place, 150)
    image = Volume(np.where(mask, 250, 10).astype(np.uint8), SIZE, offset)
    planes = cuts(image, image.box, tuple(int(p / s) for p, s in zip(place, SIZE, strict=True)))
    body = Body(surface(mask, 1, SIZE, offset), "ball", (200, 0, 0))
    only = [
        plane
        for plane in planes
        if abs(np.cross(plane.along_rows_nm, plane.along_columns_nm) @ VIEWS[name].axes[2]) > 1
    ]
    frame = Frame.fitting(np.concatenate([plane.corners for plane in planes]), VIEWS[name], 200, 150)
    seen = []
    for scene in (Scene([], only), Scene([body])):
        with Stage(scene, 200, 150, (0, 0, 0)) as stage:
            pixels = stage.draw(VIEWS[name], frame).astype(int)
        rows, columns = np.nonzero(pixels[..., 0] > 60)
        seen.append([columns.mean(), rows.mean(), np.ptp(columns), np.ptp(rows)])
    raw, drawn = np.array(seen)
    assert raw[:2] == pytest.approx(drawn[:2], abs=1.0)
    longest = max(SIZE[a] for a in axes) / frame.nm_per_pixel
    assert raw[2:] == pytest.approx(drawn[2:], abs=longest + 2)


def test_walls_are_seen_from_inside_alone(opengl):
    from densem.blocks import Box
    from densem.report.render import walls

    image = Volume(np.full((10, 30, 40), 99, np.uint8), SIZE)
    image.array[:, 0, 0] = 100  # so that there are two greys
    scene = Scene([], walls(image, Box.of_shape(image.shape)))
    pixels, _ = picture(scene, VIEWS["z"])
    assert (pixels[45, 60] < 40).all()  # the far side; the near one would be as dark, so:
    with Stage(
        Scene(
            [],
            [
                p
                for p in scene.planes
                if p.origin_nm[2] < 100 and p.along_rows_nm[2] == 0 == p.along_columns_nm[2]
            ][:1],
        ),
        60,
        60,
    ) as stage:
        frame = Frame.fitting(scene.points, VIEWS["z"], 60, 60)
        assert (stage.draw(VIEWS["z"], frame) == 255).all()


def test_a_picture_has_its_object_in_the_middle_with_its_colour(opengl, make_box):
    cell = Body(make_box((1000, 0, 0), (1600, 400, 200)), "cell", BLUE, True)
    granule = Body(make_box((1200, 100, 50), (1400, 300, 150)), "granule", GREEN)
    subject = Subject(
        [Scene([cell, granule])], [Entry("cell", BLUE, True), Entry("granule", GREEN)], VIEWS["z"]
    )
    done = draw(subject, Paper(400, 300))
    assert done.pixels.shape == (300, 400, 3)
    top = done.pixels[:230].astype(int)
    _, columns = np.nonzero((top != 255).any(axis=2))
    assert columns.mean() == pytest.approx(199.5, abs=2)
    green = top[..., 1] - np.maximum(top[..., 0], top[..., 2]) > 30
    assert green.sum() == pytest.approx((200 / done.frame.nm_per_pixel) ** 2, rel=0.05)
    assert done.bar.pixels == round(done.bar.length_nm / done.frame.nm_per_pixel)


def test_panels_stand_side_by_side_and_an_empty_one_says_so(opengl, make_box):
    body = Body(make_box((0, 0, 0), (300, 300, 300)), "granule", GREEN)
    scenes = [Scene([body], title="truth"), Scene([], title="network"), Scene([body], title="ensemble")]
    pixels = draw(Subject(scenes, [Entry("granule", GREEN)], VIEWS["z"]), Paper(900, 320)).pixels.astype(int)
    green = pixels[:240, :, 1] - np.maximum(pixels[:240, :, 0], pixels[:240, :, 2]) > 60
    thirds = [int(green[:, k * 300 : (k + 1) * 300].sum()) for k in range(3)]
    assert thirds[1] == 0
    assert thirds[0] == thirds[2] > 5000
    assert (pixels[:240, 300:600] != 255).any()  # its title and the remark


def test_a_turn_ends_where_it_began(opengl, make_box):
    body = Body(make_box((0, 0, 0), (600, 300, 200)), "granule", GREEN)
    subject = Subject([Scene([body])], [Entry("granule", GREEN)], View(0, 20))
    done = list(turn(subject, Paper(240, 200), 4))
    assert len(done) == 4
    assert len({p.frame for p in done}) == 1
    assert (done[0].pixels != done[1].pixels).any()
    wide = [int((p.pixels[:130] != 255).any(axis=(0, 2)).sum()) for p in done]
    assert wide[0] == wide[2] > wide[1] == wide[3]
