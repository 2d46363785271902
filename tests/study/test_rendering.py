"""`densem render` in a study: its pictures, and what it says to a person who asks for something else."""

import shutil

import numpy as np
import pytest
from PIL import Image

from densem.cli.app import run
from densem.errors import DensemWarning, InputError
from densem.report.render import has_opengl
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import PredictionEntry, VolumeEntry, locked
from densem.study.objects import ObjectsRequest, find_in_study
from densem.study.render_scenes import Choice, Wanted, region_of, scenes_of
from densem.study.render_sources import open_other, open_source
from densem.study.rendering import RenderRequest, render_study
from densem.volumes import ome_zarr

SIZE, OFFSET = (40.0, 10.0, 8.0), (80.0, 0.0, 400.0)
BLUE, CYAN, GREEN, YELLOW = (1, 1, 224), (1, 171, 254), (1, 254, 1), (255, 224, 0)


def write(path, array, record=None):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], OFFSET, record or {})
    return ome_zarr.finish(path)


def truth():
    """Two cells; the first holds a mitochondrion, two touching granules and a vessel, the second nothing."""
    classes = np.zeros((12, 60, 96), np.uint8)
    classes[1:11, 4:36, 4:60] = 1
    classes[3:8, 8:18, 8:24] = 2
    classes[3:9, 22:32, 8:20] = 3
    classes[4:8, 8:14, 30:52] = 4
    classes[2:9, 42:58, 62:94] = 1
    return classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Objects of the labels `truth`, of a network that takes the vessel for cell, and both as predictions.

    And of one that finds a corner of the second cell alone.
    """
    base = tmp_path_factory.mktemp("render")
    made = Study.create(base / "st", LabelSchema.resolve("platelet"))
    classes = truth()
    wrong = np.where(classes == 4, 1, classes)
    part = np.zeros_like(classes)
    part[4:8, 44:52, 80:94] = 1
    image = write(made.folder / "volumes/vol.zarr", (classes * 20 + 60 + np.arange(96)).astype(np.uint8))
    write(made.folder / "annotations/vol/semantic.zarr", classes)
    write(made.folder / "predictions/net/classes.zarr", wrong, {"provenance": {"input": image.id}})
    write(made.folder / "predictions/blank/classes.zarr", classes * 0, {"provenance": {"input": image.id}})
    write(made.folder / "predictions/part/classes.zarr", part, {"provenance": {"input": image.id}})
    write(made.folder / "volumes/small.zarr", classes[:, :50])
    write(made.folder / "predictions/elsewhere/classes.zarr", classes[:, :50])
    with locked(made.path) as manifest:
        manifest.volumes["vol"] = VolumeEntry(
            role="eval", image="volumes/vol.zarr", semantic="annotations/vol/semantic.zarr"
        )
        manifest.volumes["small"] = VolumeEntry(role="test", image="volumes/small.zarr")
        for name, volume in (("net", "vol"), ("blank", "vol"), ("part", "vol"), ("elsewhere", "small")):
            manifest.predictions[name] = PredictionEntry(
                models=["m"], model_id="x", volume=volume, volume_id="x"
            )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        find_in_study(made.folder, ObjectsRequest(labels="vol", name="mine"))
        find_in_study(made.folder, ObjectsRequest(prediction="net"))
        find_in_study(made.folder, ObjectsRequest(prediction="part"))
    return made.folder


@pytest.fixture
def opengl():
    pytest.importorskip("pyvista")
    if not has_opengl():
        pytest.skip("no OpenGL here")


def scene_of(folder, wanted=None, kind="objects", name="mine", compare=()):
    study = Study.open(folder)
    first = open_source(study, kind, name)
    others = [open_other(study, words, first) for words in compare]
    choice = Choice.of(first, study.schema, wanted or Wanted())
    return scenes_of(first, others, choice, region_of(first, others, choice), "")


def shown(scene):
    return sorted((body.name, body.translucent) for body in scene.bodies)


# ---- what is drawn ---------------------------------------------------------------------------


def test_a_cell_comes_with_all_it_holds(folder):
    (scene,) = scene_of(folder, Wanted(cells=(1,)))
    assert shown(scene) == [
        ("alpha_granule", False), ("canalicular_vessel", False), ("cell", True), ("mitochondrion", False),
    ]  # fmt: skip
    cell = next(b for b in scene.bodies if b.name == "cell")
    corner = np.array(OFFSET)[::-1]
    assert cell.mesh.box_nm - corner == pytest.approx(np.array([[32, 40, 40], [480, 360, 440]]), abs=20)
    vessel = next(b for b in scene.bodies if b.name == "canalicular_vessel")
    assert vessel.mesh.volume_nm3 == pytest.approx(4 * 6 * 22 * 3200, rel=1e-3)


def test_objects_alone_classes_alone_and_everything(folder):
    (scene,) = scene_of(folder, Wanted(ids=(1,)))
    assert shown(scene) == [("cell", False)]
    (scene,) = scene_of(folder, Wanted(cells=(1,), classes=("mitochondrion", "canalicular_vessel")))
    assert shown(scene) == [("canalicular_vessel", False), ("mitochondrion", False)]
    (scene,) = scene_of(folder)
    assert [name for name, _ in shown(scene)].count("cell") == 2


def test_labels_without_objects(folder):
    (scene,) = scene_of(folder, kind="labels", name="vol")
    assert shown(scene) == [
        ("alpha_granule", False), ("canalicular_vessel", False), ("cell", True), ("mitochondrion", False),
    ]  # fmt: skip
    volumes = {b.name: b.mesh.volume_nm3 / 3200 for b in scene.bodies}
    assert volumes["cell"] == pytest.approx((truth() > 0).sum(), rel=1e-3)


def test_compared_are_the_counterpart_and_what_a_prediction_says_within_the_cell(folder):
    first, objects, classes, labels = scene_of(
        folder, Wanted(cells=(1,)), compare=("net", "Net=prediction:net", "labels")
    )
    without_vessel = [("alpha_granule", False), ("cell", True), ("mitochondrion", False)]
    assert shown(objects) == shown(classes) == without_vessel
    assert shown(labels) == shown(first)
    assert [s.title for s in (objects, classes, labels)] == ["net", "Net", "truth"]
    of_cell = {s.title: max(b.mesh.volume_nm3 for b in s.bodies) for s in (first, objects, classes)}
    assert list(of_cell.values()) == pytest.approx([10 * 32 * 56 * 3200] * 3, rel=1e-3)


def test_compared_without_objects(folder):
    first, other = scene_of(folder, kind="labels", name="vol", compare=("net",))
    assert [n for n, _ in shown(other)] == [n for n, _ in shown(first) if n != "canalicular_vessel"]


def test_without_a_chosen_cell_others_are_compared_where_the_first_one_has_nothing_too(folder):
    first, labels, objects = scene_of(folder, name="part", compare=("labels", "Truth=objects:mine"))
    assert shown(first) == [("cell", False)]
    cells = (truth() > 0).sum() * np.prod(SIZE)
    for scene in (labels, objects):
        found = [body.mesh.volume_nm3 for body in scene.bodies if body.name == "cell"]
        assert sum(found) == pytest.approx(cells, rel=1e-3)


def test_an_empty_prediction_in_a_comparison_is_warned_of(folder):
    with pytest.warns(DensemWarning, match="nothing of 'blank' lies where 'truth' has what was chosen"):
        scenes = scene_of(folder, Wanted(cells=(1,)), compare=("blank",))
    assert scenes[1].bodies == []


def test_vessels_are_left_out_and_said_where_the_classes_have_changed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "st")
    with locked(copy / "study.toml") as manifest:
        manifest.objects["mine"].classes_id = "another"
    with pytest.warns(
        DensemWarning,
        match="are gone or have changed, so canalicular_vessel, dense_granule_core cannot be drawn",
    ):
        (scene,) = scene_of(copy, Wanted(cells=(1,)))
    assert "canalicular_vessel" not in [name for name, _ in shown(scene)]
    with pytest.raises(InputError, match="find the objects anew"):
        scene_of(copy, Wanted(cells=(1,), classes=("canalicular_vessel",)))


def test_a_study_can_be_moved(folder, tmp_path):
    (scene,) = scene_of(shutil.copytree(folder, tmp_path / "elsewhere"), Wanted(cells=(2,)))
    assert shown(scene) == [("cell", False)]


# ---- pictures --------------------------------------------------------------------------------


def near(pixels, color, most=60):
    """Pixels in about the direction of a colour, whatever the light."""
    given = pixels.astype(float) / np.maximum(np.linalg.norm(pixels.astype(float), axis=2), 1)[..., None]
    wanted = np.array(color) / np.linalg.norm(color)
    return ((given @ wanted) > np.cos(np.radians(10))) & (pixels.min(axis=2) < most)


def test_a_picture_from_the_command_line(folder, tmp_path, opengl, capsys):
    out = tmp_path / "cell.png"
    command = [
        "render",
        str(folder),
        "--objects",
        "mine",
        "--cell",
        "1",
        "--out",
        str(out),
        "--size",
        "480",
        "360",
    ]
    assert run([*command, "--camera", "z", "--class", "mitochondrion,alpha_granule,canalicular_vessel"]) == 0
    said = capsys.readouterr().out
    assert "Surfaces from voxels of 40 x 10 x 8 nm (full resolution)." in said
    assert f"Picture: {out}" in said
    with Image.open(out) as file:
        assert file.size == (480, 360)
        assert "objects mine, cell 1; azimuth 0, elevation 90" in file.info["Description"]
        pixels = np.asarray(file)
    for color in (CYAN, GREEN, YELLOW):
        assert near(pixels[:280], color).sum() > 300
    assert [p.name for p in tmp_path.iterdir()] == ["cell.png"]


def test_default_place_planes_and_black(folder, tmp_path, opengl):
    copy = shutil.copytree(folder, tmp_path / "st")
    done = render_study(
        copy, RenderRequest(objects="mine", size=(320, 240), planes=True, background=(0, 0, 0))
    )
    assert done.files == (copy / "reports/mine.png",)
    pixels = np.asarray(Image.open(done.files[0]))
    grey = (np.ptp(pixels.astype(int), axis=2) == 0) & (pixels[..., 0] > 0)
    assert grey[:180].sum() > 2000
    assert (pixels[0] == 0).all()
    cut = render_study(
        copy, RenderRequest(objects="mine", size=(320, 240), planes_at=(5, 20, 30), out=tmp_path / "cut.png")
    )
    assert cut.nm_per_pixel > 0


def test_a_turntable(folder, tmp_path, opengl, capsys):
    film = tmp_path / "turn.gif"
    command = ["render", str(folder), "--objects", "mine", "--cell", "2", "--turntable", str(film)]
    assert run([*command, "--frames", "3", "--size", "200", "160"]) == 0
    assert f"Turntable: {film}" in capsys.readouterr().out
    with Image.open(film) as frames:
        assert (frames.n_frames, frames.size) == (3, (200, 160))
    assert [p.name for p in tmp_path.iterdir()] == ["turn.gif"]


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of --objects NAME, --prediction NAME and --labels VOLUME"),
        (["--objects", "mine", "--labels", "vol"], "give one of --objects NAME"),
        (["--objects", "mien"], "no objects 'mien'. Did you mean 'mine'?"),
        (["--prediction", "nett"], "no prediction 'nett'. Did you mean 'net'?"),
        (["--labels", "small"], "volume 'small' has no labels"),
        (["--labels", "vok"], "no volume 'vok'. Did you mean 'vol'?"),
        (["--labels", "vol", "--cell", "1"], "--cell and --ids: expected them with --objects NAME"),
        (["--objects", "mine", "--cell", "9"], "--cell 9: objects 'mine' have no such one"),
        (["--objects", "mine", "--cell", "3"], "3 is of class mitochondrion, in object 1; show it with --ids"),
        (["--objects", "mine", "--ids", "77"], "--ids 77: objects 'mine' have no such one"),
        (["--objects", "mine", "--cell", "two"], "--cell two: expected ids of objects, such as 3 or 3,7"),
        (["--objects", "mine", "--cell", "1", "--ids", "3"], "give either --cell (with all it holds) or --ids"),
        (["--objects", "mine", "--class", "mitochondria"], "Did you mean 'mitochondrion'?"),
        (["--objects", "mine", "--size", "100", "90"], "--size 100 90: expected 160 to 8192 pixels each way"),
        (["--objects", "mine", "--size", "200", "9000"], "--size 200 9000: expected 160 to 8192 pixels each"),
        (["--objects", "mine", "--planes", "--planes-at", "5", "20", "9"], "give either --planes (behind"),
        (["--objects", "mine", "--camera", "topp"], "--camera topp: expected one of oblique, z, y, x"),
        (["--objects", "mine", "--elevation", "95"], "--elevation 95: expected -90"),
        (["--objects", "mine", "--background", "pink"], "--background pink: expected white or black"),
        (["--objects", "mine", "--frames", "1"], "--frames 1: expected at least 2"),
        (["--objects", "mine", "--out", "a.jpg"], "--out a.jpg: expected a name that ends with .png"),
        (["--objects", "mine", "--turntable", "a.avi"], "expected a name that ends with .mp4 or .gif"),
        (["--objects", "mine", "--out", "no/a.png"], "there is no folder no; make it first"),
        (["--objects", "mine", "--out", "is.png"], "--out is.png: is there already; give another name or --overwrite"),
        (["--objects", "mine", "--out", "folder.png"], "a folder of that name is there"),
        (["--objects", "mine", "--compare", "nte"], "neither objects nor a prediction of that name. Did you mean 'net'?"),
        (["--objects", "mine", "--compare", "A="], "expected [TITLE=]NAME, such as"),
        (["--objects", "mine", "--compare", "model:net"], "expected objects:NAME, prediction:NAME or labels"),
        (["--objects", "mine", "--ids", "3", "--compare", "net"], "expected it with --cell"),
        (
            ["--objects", "mine", "--compare", "elsewhere"],
            "expected something of volume 'vol', as 'truth' is; found a prediction of volume 'small'",
        ),
    ],
)  # fmt: skip
def test_refused_in_one_line_and_nothing_is_written(folder, tmp_path, monkeypatch, capsys, options, message):
    (tmp_path / "is.png").write_text("precious")
    (tmp_path / "folder.png").mkdir()
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert run(["render", str(folder), *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.png", "is.png"]
    assert (tmp_path / "is.png").read_text() == "precious"
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objects", "mine", "--cell", "2", "--class", "mitochondrion"],
         "objects 'mine': nothing of class mitochondrion to draw; what was chosen holds 1 cell."),
        (["--prediction", "blank"], "blank: not a voxel in it but background, so there is nothing to draw"),
        (["--objects", "mine", "--cell", "1", "--planes-at", "5", "20", "90"],
         "--planes-at 5 20 90: expected x from 0 to"),
    ],
)  # fmt: skip
def test_nothing_to_draw(folder, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.setattr("densem.report.render.check_opengl", lambda: None)
    pytest.importorskip("pyvista")
    assert run(["render", str(folder), *options, "--out", str(tmp_path / "a.png")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_opengl_and_no_package(folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyvista")
    command = ["render", str(folder), "--objects", "mine", "--out", str(tmp_path / "a.png")]
    monkeypatch.setattr("densem.report.render.opengl.has_opengl", lambda: False)
    assert run(command) == 2
    assert "no OpenGL on this machine" in capsys.readouterr().err
    monkeypatch.setattr("densem.report.render.opengl.find_spec", lambda name: None)
    assert run(command) == 2
    assert (
        "expected pyvista and vtkmodules, not installed here; pip install 'densem[render]'"
        in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_objects_that_are_gone_or_not_finished(folder, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "st")
    (copy / "objects/mine/objects.csv").unlink()
    assert run(["render", str(copy), "--objects", "mine"]) == 2
    assert (
        "objects 'mine' are not finished; run their densem objects command again" in capsys.readouterr().err
    )
    shutil.rmtree(copy / "objects/mine")
    assert run(["render", str(copy), "--objects", "mine"]) == 2
    assert "objects 'mine' stand in study.toml, but their folder" in capsys.readouterr().err
    with locked(copy / "study.toml") as manifest:
        manifest.objects.clear()
    assert run(["render", str(copy), "--objects", "mine"]) == 2
    assert "It has none yet; find them with densem objects" in capsys.readouterr().err
