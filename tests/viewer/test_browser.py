"""The real viewer in a real browser: layers are loaded, and drawn where and as they should be.

Needs Chromium and playwright (`pip install playwright`); skipped where one is missing.
"""

import io
import json
import shutil
import threading

import numpy as np
import pytest

from densem.blocks import LocalCrew
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import ObjectsEntry, VolumeEntry, locked
from densem.study.viewing import ViewRequest, view_of_study
from densem.viewer import open_server
from densem.volumes import ome_zarr, pyramid

pytestmark = pytest.mark.slow
SIZE, OFFSET = (40.0, 10.0, 20.0), (400.0, 1000.0, -2000.0)
FLAGS = (
    "--headless=new --no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --disable-quic "
    "--no-first-run --disable-background-networking --disable-component-update --disable-sync"
)
COLUMNS = (
    "id,class,level,parent,volume_nm3,centroid_z_nm,centroid_y_nm,centroid_x_nm,box_z_start_nm,box_z_stop_nm,"
    "box_y_start_nm,box_y_stop_nm,box_x_start_nm,box_x_stop_nm"
)


FROM_ABOVE = """() => {
  const state = viewer.state.toJSON();
  state.layout = {type: "3d", orthographicProjection: true};
  state.projectionOrientation = [0, 0, 0, 1];
  viewer.state.reset();
  viewer.state.restoreState(state);
}"""


PANEL = "document.querySelector('.neuroglancer-rendered-data-panel').getBoundingClientRect().toJSON()"


def write(path, array, kind):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    levels = pyramid.build(ome_zarr.temporary(path), SIZE, kind, LocalCrew())
    ome_zarr.describe(ome_zarr.temporary(path), levels, OFFSET, {})
    return ome_zarr.finish(path)


def brick(start, stop):
    """Vertices x, y, z in nm, float32 (8, 3), and triangles uint32 (12, 3), of a box of voxels."""
    corners = np.array([[(start, stop)[(n >> k) & 1][k] for k in range(3)] for n in range(8)])  # z, y, x
    nm = corners * np.array(SIZE) + np.array(OFFSET)
    faces = [(0, 2, 1), (1, 2, 3), (4, 5, 6), (5, 7, 6), (0, 1, 4), (1, 5, 4),
             (2, 6, 3), (3, 6, 7), (0, 4, 2), (2, 4, 6), (1, 3, 5), (3, 7, 5)]  # fmt: skip
    return nm[:, ::-1].astype("<f4"), np.array(faces, "<u4")


@pytest.fixture
def study(tmp_path):
    """Grey 128, and one object of colour #01fe01 in the voxels (4:20, 40:120, 30:60), with a mesh."""
    made = Study.create(tmp_path / "st", LabelSchema.resolve("platelet"))
    objects = np.zeros((24, 160, 90), np.uint32)
    objects[4:20, 40:120, 30:60] = 7
    home = made.folder / "objects/found"
    write(made.folder / "volumes/vol.zarr", np.full(objects.shape, 128, np.uint8), "image")
    write(home / "objects-0.zarr", objects, "labels")
    (home / "objects.csv").write_text(
        f"{COLUMNS}\n7,alpha_granule,0,0,1e8,880,1800,-1100,560,1200,1400,2200,-1400,-800\n"
    )
    meshes = home / "meshes/precomputed"
    meshes.mkdir(parents=True)
    vertices, faces = brick((4, 40, 30), (20, 120, 60))
    (meshes / "info").write_text(json.dumps({"@type": "neuroglancer_legacy_mesh"}))
    (meshes / "7:0").write_text(json.dumps({"fragments": ["7:0:all"]}))
    (meshes / "7:0:all").write_bytes(np.uint32(8).tobytes() + vertices.tobytes() + faces.tobytes())
    with locked(made.path) as manifest:
        manifest.volumes["vol"] = VolumeEntry(role="eval", image="volumes/vol.zarr")
        manifest.objects["found"] = ObjectsEntry(source="labels", name="vol", volume="vol", classes_id="z")
    return made


@pytest.fixture
def page():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=chromium, args=FLAGS.split())
        opened = browser.new_page(viewport={"width": 1200, "height": 800})
        opened.set_default_timeout(120_000)
        yield opened
        browser.close()


def picture(page):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def section_of(pixels):
    """Where the object is drawn over the image: 40 % of #01fe01 over grey 128."""
    return np.abs(pixels - (77, 178, 77)).max(axis=-1) < 12


def solid_of(pixels):
    """Where a mesh of that colour is drawn, lit or not, or an axis that looks like it."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return (green > red + 20) & (green > blue + 20) & (red < 60)


def extent(mask):
    """Rows and columns of what is marked, as (first, last); single pixels do not count."""
    lines = [np.flatnonzero(mask.sum(axis=axis) > 10) for axis in (1, 0)]
    return [(int(found[0]), int(found[-1])) for found in lines]


def drawn(page, enough):
    """The picture once it shows what is waited for. Asked from here: the page evaluates no text by itself."""
    for _ in range(120):
        pixels = picture(page)
        if enough(pixels):
            return pixels
        page.wait_for_timeout(500)
    raise AssertionError("nothing was drawn within a minute")


def test_object_is_drawn_in_its_colour_in_sections_and_3d(study, page):
    pytest.importorskip("neuroglancer")
    view = view_of_study(study.folder, ViewRequest(object=7))
    server = open_server(view.site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    failed = []
    page.on(
        "response", lambda a: failed.append(a.url) if a.status >= 400 and "favicon" not in a.url else None
    )
    page.on("pageerror", lambda error: failed.append(str(error)))
    outside = []
    page.on(
        "request",
        lambda r: outside.append(r.url) if "127.0.0.1" not in r.url and "blob" not in r.url else None,
    )
    try:
        page.goto(server.url)
        quarter = drawn(
            page, lambda p: section_of(p[:420, :445]).sum() > 5000 and solid_of(p[425:, :445]).sum() > 5000
        )
        names = page.evaluate("viewer.layerManager.managedLayers.map(l => l.name)")
        place = page.evaluate("Array.from(viewer.navigationState.position.value)")
        bounds = page.evaluate(
            "viewer.layerManager.managedLayers.map(l => l.layer.dataSources[0].loadState.transform.value"
            ".outputSpace.bounds).map(b => [Array.from(b.lowerBounds), Array.from(b.upperBounds)])"
        )
        page.evaluate(FROM_ABOVE)
        whole = drawn(page, lambda p: solid_of(p[60:, :880]).sum() > 20000)
        box = page.evaluate(PANEL)
        flat = whole[int(box["top"]) : int(box["bottom"]), int(box["left"]) : int(box["right"])]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert failed == []
    assert outside == []
    assert names == ["image", "found: alpha_granule"]
    assert place == pytest.approx([-55.0, 180.0, 22.0])  # the centroid over 20, 10, 40 nm
    # both volumes lie where their corner is: 400, 1000, -2000 nm, in voxels
    assert bounds == [[[10.0, 100.0, -100.0], [34.0, 260.0, -10.0]]] * 2
    section = section_of(quarter[:420, :445])
    (top, bottom), (left, right) = extent(section)
    assert section[top : bottom + 1, left : right + 1].mean() > 0.97  # a filled rectangle, less the axes
    assert (bottom - top + 1) / (right - left + 1) == pytest.approx(800 / 600, rel=0.02)
    # the mesh from above, alone in the window: as large as its voxels, and in the middle as they are
    (top, bottom), (left, right) = extent(solid_of(flat))
    tall, wide = bottom - top + 1, right - left + 1
    assert tall / wide == pytest.approx(800 / 600, rel=0.02)
    y, x = flat.shape[0] / 2, flat.shape[1] / 2
    assert (top + bottom + 1) / 2 == pytest.approx(y, abs=tall / 80 / 2)  # half a voxel of 80
    assert (left + right + 1) / 2 == pytest.approx(x, abs=wide / 30 / 4)  # a quarter of one of 30
