"""The 3D view in a real browser: turned, zoomed, steered by keys, asked what an object is; without WebGL."""

import io
import re
import shutil
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image
from shapes import small_scene

from densem.report import Cell, ReportContent, Section, Table, View3D, write_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
QUIET = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
DRAWN = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    table = Table(("Object",), ((Cell("mitochondrion 7", link="#object-7"),),), "objects")
    content = ReportContent("objects", sections=(Section("3D", (View3D(small_scene(), "three"), table)),))
    return write_page(content, tmp_path_factory.mktemp("page") / "a.html")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        yield partial(driver.chromium.launch, executable_path=CHROMIUM)


@pytest.fixture(scope="module")
def window(browser):
    opened = browser(args=[*QUIET, *DRAWN])
    yield opened
    opened.close()


@pytest.fixture
def page(window, file):
    page = window.new_page(viewport={"width": 1000, "height": 800})
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
    page.goto(file.as_uri())
    if not page.locator(".view3d.ready").count():
        pytest.skip(f"no WebGL 2 here: {page.locator('[data-part=message]').inner_text()}")
    yield page
    assert page.errors == []
    assert page.asked == [file.as_uri()]
    page.close()


def part(page, name):
    return page.locator(f'[data-part="{name}"]')


def pixels(page):
    page.evaluate(FRAMES)
    return np.asarray(Image.open(io.BytesIO(part(page, "canvas").screenshot())).convert("RGB")).astype(int)


def reddish(picture):
    return int(((picture[..., 0] > 120) & (picture[..., 1] < 90) & (picture[..., 2] < 110)).sum())


def middle(page):
    box = part(page, "canvas").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, right, down):
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=3)
    page.mouse.up()


def granule(page):
    """Where the red granule is seen, in pixels of the page."""
    picture = pixels(page)
    rows, columns = np.nonzero((picture[..., 0] > 120) & (picture[..., 1] < 90) & (picture[..., 2] < 110))
    box = part(page, "canvas").bounding_box()
    return box["x"] + columns.mean(), box["y"] + rows.mean()


def test_the_scene_is_drawn(page):
    picture = pixels(page)
    assert reddish(picture) > 300
    bluish = (picture[..., 2] > picture[..., 0] + 40).sum()
    assert bluish > 5000
    assert part(page, "message").is_hidden()


def test_a_drag_turns_it_and_reset_turns_it_back(page):
    before = pixels(page)
    drag(page, 160, 40)
    turned = pixels(page)
    assert (np.abs(turned - before).max(axis=-1) > 30).mean() > 0.03
    part(page, "reset").click()
    page.mouse.move(5, 5)
    np.testing.assert_array_equal(pixels(page), before)


def test_a_class_is_switched_off_and_on(page):
    before = pixels(page)
    part(page, "class-1").uncheck()
    without = pixels(page)
    assert reddish(without) == 0
    assert (without != before).any(axis=-1).mean() < 0.2  # all else stays where it is
    part(page, "class-1").check()
    page.mouse.move(5, 5)
    np.testing.assert_array_equal(pixels(page), before)


def test_glass_lets_what_is_inside_be_seen_until_it_is_opaque(page):
    part(page, "opacity").fill("100")
    assert reddish(pixels(page)) == 0
    part(page, "opacity").fill("0")
    assert reddish(pixels(page)) > 300


def test_turned_round_the_far_side_of_glass_is_still_drawn_right(page):
    """What is translucent is sorted anew: turned by half a turn the granule is seen through the other wall."""
    seen = reddish(pixels(page))
    drag(page, round(np.pi / 0.008), 0)
    assert reddish(pixels(page)) == pytest.approx(seen, rel=0.35)


def test_the_wheel_zooms_and_the_scale_bar_follows(page):
    x, y = middle(page)
    page.mouse.move(x, y)
    pixels(page)
    length, width = part(page, "length").inner_text(), part(page, "bar").bounding_box()["width"]
    before = nanometres(length) / width
    page.wait_for_timeout(500)  # while the page is being scrolled, the view does not zoom
    page.mouse.wheel(0, -400)  # is not waited for
    after = eventually(
        lambda: nanometres(part(page, "length").inner_text()) / part(page, "bar").bounding_box()["width"],
        lambda found: found == pytest.approx(before * np.exp(-0.6), rel=0.03),
    )
    assert after == pytest.approx(before * np.exp(-0.6), rel=0.03)


def eventually(look, is_right, seconds=20.0):
    """What is seen when it is right, or at last."""
    end = time.monotonic() + seconds
    while not is_right(found := look()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def nanometres(label):
    number, unit = label.split()
    return float(number) * {"nm": 1, "µm": 1000}[unit]


def test_the_scale_bar_is_true(page):
    """The mitochondrion's shortest axes are 600 nm, in every direction of view."""
    for name in ("class-0", "class-1"):
        part(page, name).uncheck()
    picture = pixels(page)
    nm_per_pixel = nanometres(part(page, "length").inner_text()) / part(page, "bar").bounding_box()["width"]
    rows, columns = np.nonzero(picture[..., 2] - picture[..., 0] > 60)
    points = np.stack([rows, columns], axis=1) - [rows.mean(), columns.mean()]
    shortest = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))[0] * 4  # of a filled ellipse
    assert shortest * nm_per_pixel == pytest.approx(600, rel=0.05)


def test_a_click_says_what_it_is_also_through_glass(page):
    assert "Click an object" in part(page, "chosen").inner_text()
    page.mouse.click(*granule(page))
    assert part(page, "chosen").inner_text() == "granule 3: 0.075 µm³, in cell 1"
    assert part(page, "id").input_value() == "3"
    box = part(page, "canvas").bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + 4)  # at once, but elsewhere: no double click
    assert "Click an object" in part(page, "chosen").inner_text()


def test_a_double_click_centres_a_point(page):
    x, y = granule(page)
    page.mouse.dblclick(x, y)
    page.keyboard.press("Escape")
    found = granule(page)
    assert np.hypot(found[0] - middle(page)[0], found[1] - middle(page)[1]) < 12
    drag(page, 200, 100)  # the point itself is centred, not what lies before or behind it
    turned = granule(page)
    assert np.hypot(turned[0] - middle(page)[0], turned[1] - middle(page)[1]) < 60


def test_keys_do_the_same(page):
    part(page, "canvas").focus()
    before = pixels(page)
    page.keyboard.press("ArrowLeft")
    turned = pixels(page)
    assert (np.abs(turned - before).max(axis=-1) > 30).mean() > 0.01
    page.keyboard.press("+")
    assert (pixels(page) != turned).any()
    for key, told in (("n", "cell 1:"), ("n", "granule 3:"), ("n", "mitochondrion 7:"), ("p", "granule 3:")):
        page.keyboard.press(key)
        assert part(page, "chosen").inner_text().startswith(told)
    page.keyboard.press("a")
    assert part(page, "alone").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    np.testing.assert_array_equal(pixels(page), before)


def test_a_cell_alone(page):
    before = pixels(page)
    page.mouse.click(*granule(page))
    part(page, "alone").click()
    alone = pixels(page)
    assert (alone[..., 0] - alone[..., 1] > 50).sum() > 300  # lighter, since it is chosen
    light_blue = (before[..., 1] > 90) & (before[..., 2] > 140) & (before[..., 0] < 80)
    assert light_blue.sum() > 1000
    assert (
        (alone[..., 1] > 90) & (alone[..., 2] > 140) & (alone[..., 0] < 80)
    ).sum() < 0.1 * light_blue.sum()


def test_an_id_and_a_link_find_an_object(page):
    part(page, "class-2").uncheck()
    page.get_by_role("link", name="mitochondrion 7").click()  # the page hears of it a little later
    told = "mitochondrion 7: 0.15 µm³, cut by the border"
    assert eventually(part(page, "chosen").inner_text, lambda text: text == told) == told
    assert part(page, "class-2").is_checked()
    part(page, "id").fill("12")
    part(page, "id").press("Enter")
    assert part(page, "chosen").inner_text() == "Object 12 is not in this view."


def test_it_fits_a_narrow_window_and_paper(page):
    page.set_viewport_size({"width": 380, "height": 700})
    page.evaluate(FRAMES)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert reddish(pixels(page)) > 50
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert part(page, "print").get_attribute("src").startswith("data:image/png")


def test_a_picture_is_saved_with_its_scale_bar(page, tmp_path):
    with page.expect_download() as saved:
        part(page, "save").click()
    saved.value.save_as(tmp_path / "p.png")
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)
    assert reddish(picture) > 300
    height = len(picture)
    assert (picture[height - 18, 20:90].sum(axis=-1) < 200).all()  # the bar


def test_without_webgl_a_message_stands_there(browser, file):
    plain = browser(args=[*QUIET, "--disable-3d-apis"])
    page = plain.new_page()
    page.goto(file.as_uri())
    assert "no WebGL 2" in part(page, "message").inner_text()
    assert part(page, "canvas").is_hidden()
    assert part(page, "controls").is_hidden()
    plain.close()


def test_without_javascript_a_message_stands_there(window, file):
    page = window.new_page(java_script_enabled=False)
    page.goto(file.as_uri())
    text = re.sub(r"\s+", " ", part(page, "message").inner_text())
    assert "needs JavaScript and WebGL 2" in text
    page.close()
