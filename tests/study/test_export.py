"""Exports out of a study: what is named, which part of it, where it may lie, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from densem.cli.app import run
from densem.meshes.formats import Label, write_mesh
from densem.meshes.surface import surface
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import ObjectsEntry, PredictionEntry, VolumeEntry, locked
from densem.volumes import ome_zarr, open_volume, pyramid

SIZE, OFFSET = (40.0, 8.0, 10.0), (80.0, -24.0, 70.0)
SHAPE = (3, 40, 300)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def write(path, array, kind, record=None):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    levels = pyramid.build(ome_zarr.temporary(path), SIZE, kind)
    ome_zarr.describe(ome_zarr.temporary(path), levels, OFFSET, record or {})
    return ome_zarr.finish(path)


@pytest.fixture
def study(tmp_path):
    made = Study.create(tmp_path / "st", LabelSchema.resolve("platelet"))
    home, random = made.folder, np.random.default_rng(0)
    classes = random.integers(0, 7, SHAPE).astype(np.uint8)
    image = write(home / "volumes/vol.zarr", random.integers(0, 999, SHAPE).astype(np.uint16), "image")
    write(home / "annotations/vol/semantic.zarr", classes[::-1].copy(), "labels")
    write(home / "annotations/vol/semantic.bo.zarr", classes[:, ::-1].copy(), "labels")
    write(home / "annotations/vol/objects.zarr", classes.astype(np.uint16) * 9, "labels")
    write(home / "predictions/first/classes.zarr", classes, "labels", {"provenance": {"input": image.id}})
    write(home / "predictions/first/confidence.zarr", classes * 30, "image")
    cells, organelles = np.zeros(SHAPE, np.uint32), np.zeros(SHAPE, np.uint32)
    cells[:, 2:30, 3:200], organelles[1, 5:9, 7:20] = 1, 2
    write(home / "objects/first/objects-0.zarr", cells, "labels")
    write(home / "objects/first/objects-1.zarr", organelles, "labels")
    (home / "objects/first/objects.csv").write_text("id,class,level\n1,cell,0\n2,mitochondrion,1\n")
    with locked(made.path) as manifest:
        manifest.volumes["vol"] = VolumeEntry(
            role="eval", image="volumes/vol.zarr", semantic="annotations/vol/semantic.zarr",
            annotators={"bo": "annotations/vol/semantic.bo.zarr"}, objects="annotations/vol/objects.zarr",
        )  # fmt: skip
        manifest.volumes["bare"] = VolumeEntry(role="eval", image="volumes/vol.zarr")
        manifest.predictions["first"] = PredictionEntry(
            models=["m"], model_id="x", volume="vol", volume_id=image.id
        )
        manifest.objects["first"] = ObjectsEntry(
            source="prediction", name="first", volume="vol", classes_id="x"
        )
    return made


@pytest.mark.parametrize(
    ("named", "path"),
    [
        (("--volume", "vol"), "volumes/vol.zarr"),
        (("--labels", "vol"), "annotations/vol/semantic.zarr"),
        (("--labels", "vol", "--annotator", "bo"), "annotations/vol/semantic.bo.zarr"),
        (("--instances", "vol"), "annotations/vol/objects.zarr"),
        (("--prediction", "first"), "predictions/first/classes.zarr"),
        (("--prediction", "first", "--part", "confidence"), "predictions/first/confidence.zarr"),
        (("--objects", "first", "--level", "1"), "objects/first/objects-1.zarr"),
    ],
)
def test_each_thing_by_its_name(study, tmp_path, capsys, named, path):
    out = tmp_path / "a.tif"
    assert run(["export", str(study.folder), *named, "--to", "fiji", "--out", str(out)]) == 0
    assert np.array_equal(tifffile.imread(out), open_volume(study.folder / path).read())
    with tifffile.TiffFile(out) as file:
        told = file.imagej_metadata
        assert (told["spacing"], told["unit"], told["zorigin"]) == (40.0, "nm", -2.0)
        assert (file.pages[0].colormap is not None) == ("semantic" in path or "classes" in path)
    assert f"{out}: TIFF for Fiji: ImageJ's own, or OME-TIFF, 3 x 40 x 300 voxels of 40 x 8 x 10 nm" in (
        capsys.readouterr().out
    )


def test_a_box_of_a_coarser_level_keeps_its_place(study, tmp_path):
    out = tmp_path / "a.tif"
    where = ["--scale", "1", "--box", "1:3,5:,10:60"]
    assert (
        run(["export", str(study.folder), "--volume", "vol", "--to", "fiji", "--out", str(out), *where]) == 0
    )
    coarse = open_volume(study.folder / "volumes/vol.zarr", 1)
    assert np.array_equal(tifffile.imread(out), coarse.read()[1:3, 5:, 10:60])
    with tifffile.TiffFile(out) as file:
        told = file.imagej_metadata
        assert file.pages[0].resolution == pytest.approx((1 / 20, 1 / 16))
        # corner of the first voxel: z 80 + 40, y -24 + 5 * 16, x 70 + 10 * 20 nm
        assert (told["zorigin"], told["yorigin"], told["xorigin"]) == pytest.approx((-3.0, -3.5, -13.5))


@pytest.mark.parametrize("what", ["--objects", "--meshes"])
def test_objects_that_are_not_finished_are_refused(study, tmp_path, capsys, what):
    """As a kill in level 1 leaves them: the volume of level 0 is there, the table is not."""
    (study.folder / "objects/first/objects.csv").unlink()
    to = "fiji" if what == "--objects" else "stl"
    assert run(["export", str(study.folder), what, "first", "--to", to, "--out", str(tmp_path / "a")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "objects 'first' are not finished; run their densem objects command again to go on" in said
    assert not (tmp_path / "a").exists()


def test_segments_are_named_after_the_table(study, tmp_path):
    pytest.importorskip("tensorstore")
    out = tmp_path / "cells"
    named = ["--objects", "first", "--level", "1", "--to", "neuroglancer"]
    assert run(["export", str(study.folder), *named, "--out", str(out)]) == 0
    told = json.loads((out / "segment_properties/info").read_text())["inline"]
    assert (told["ids"], told["properties"][0]["values"]) == (["2"], ["mitochondrion 2"])


def test_colours_and_runs_come_back_by_import(study, tmp_path):
    home = str(study.folder)
    truth = study.labels("vol").read()
    for to, name, extra in (
        ("rgba-tiff", "a.tif", ["--palette", "platelet-em"]),
        ("run-length", "a.json", []),
    ):
        out = str(tmp_path / name)
        assert run(["export", home, "--labels", "vol", "--to", to, "--out", out, *extra]) == 0
        assert run(["import", home, "vol", "--labels", out, *extra, "--overwrite"]) == 0
        assert np.array_equal(study.labels("vol").read(), truth)


@pytest.fixture
def meshed(study):
    """With a mesh of the organelle, in a format that the test may change, and one of the cell for Neuroglancer."""
    pytest.importorskip("trimesh")
    folder = study.folder / "objects/first/meshes"
    folder.mkdir()
    organelles = open_volume(study.folder / "objects/first/objects-1.zarr")
    made = surface(organelles.read(), 2, organelles.voxel_size_nm, organelles.offset_nm)
    facts = {"class": "mitochondrion", "color": "#01abfe", "level": 1}
    rows = [
        {"id": 1, "name": "cell-1", "class": "cell", "color": "#0101e0", "level": 0,
         "files": {"precomputed": "precomputed/1"}},
        {"id": 2, "name": "mitochondrion-2", **facts, "files": {}},
    ]  # fmt: skip

    def write(*formats):
        for name in formats:
            path = folder / f"mitochondrion-2.{name}"
            write_mesh(made, path, Label("mitochondrion-2", 2, "mitochondrion", (1, 171, 254)))
        rows[1]["files"] = {name: f"mitochondrion-2.{name}" for name in formats}
        (folder / "meshes.json").write_text(json.dumps({"meshes": rows}))
        return made

    return write


def exported(study, out, *more):
    return run(["export", str(study.folder), "--meshes", "first", "--level", "1", "--out", str(out), *more])


@pytest.mark.parametrize("kind", ["ply", "glb", "obj", "stl"])
def test_meshes_of_objects_from_any_of_their_files(study, meshed, tmp_path, kind):
    made, out = meshed(kind), tmp_path / "a.surf"
    assert exported(study, out, "--to", "amira-surface") == 0
    raw = out.read_bytes()
    at = raw.index(b"\nVertices ") + 10
    count, start = int(raw[at : raw.index(b"\n", at)]), raw.index(b"\n", at) + 1
    vertices = np.frombuffer(raw[start : start + 12 * count], ">f4").reshape(-1, 3)
    assert b"InnerRegion mitochondrion_2\n" in raw
    assert b"Color 0.00392157 0.670588 0.996078," in raw
    assert count == len(made.vertices)  # merged, where a format keeps triangles alone
    assert [vertices.min(axis=0), vertices.max(axis=0)] == pytest.approx(made.box_nm, abs=1e-3)
    # the box in nm: x 140 to 270, y 16 to 48, z 120 to 160
    assert vertices.mean(axis=0) == pytest.approx((205, 32, 140), abs=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--meshes", "frist"], "study st: no objects 'frist'. Did you mean 'first'?"),
        (["--meshes", "first"], "objects 'first' have no meshes yet; make them with densem mesh"),
        (
            ["--meshes", "first", "--scale", "1"],
            "--meshes: expected no --box and no --scale, as meshes are of whole",
        ),
    ],
)
def test_mistakes_with_meshes_are_refused_in_plain_words(study, tmp_path, capsys, arguments, message):
    out = tmp_path / "a.mod"
    assert run(["export", str(study.folder), *arguments, "--to", "imod-mesh", "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_meshes_that_are_gone_or_broken_are_refused(study, meshed, tmp_path, capsys):
    out, folder = tmp_path / "a.mod", study.folder / "objects/first/meshes"
    meshed("ply")
    assert (
        run(["export", str(study.folder), "--meshes", "first", "--to", "imod-mesh", "--out", str(out)]) == 2
    )
    again = f"make them with densem mesh {study.folder} --objects first"
    assert (
        f"mesh cell-1: expected one of ply, glb, obj, stl, found precomputed; {again} "
        "--format ply --format precomputed --overwrite"
    ) in capsys.readouterr().err
    (folder / "mitochondrion-2.ply").write_text("no mesh")
    assert exported(study, out, "--to", "imod-mesh") == 2
    assert "mitochondrion-2.ply: expected a mesh, but it cannot be read" in capsys.readouterr().err
    (folder / "mitochondrion-2.ply").unlink()
    assert exported(study, out, "--to", "imod-mesh") == 2
    assert (
        f"the mesh stands in meshes.json, but is gone; {again} --format ply --format precomputed --overwrite"
    ) in capsys.readouterr().err
    (folder / "meshes.json").write_text('{"meshes": [{"id": 3}]}')
    assert exported(study, out, "--to", "imod-mesh") == 2
    assert "meshes.json: expected the index of meshes, but it cannot be read" in capsys.readouterr().err
    (folder / "meshes.json").write_text('{"meshes": []}')
    assert exported(study, out, "--to", "imod-mesh") == 2
    assert "--level 1: expected meshes of that level in" in capsys.readouterr().err
    assert not out.exists()


def test_without_trimesh_meshes_are_refused(study, meshed, tmp_path, capsys, monkeypatch):
    meshed("ply")
    monkeypatch.setitem(sys.modules, "trimesh", None)
    assert exported(study, tmp_path / "a.mod", "--to", "imod-mesh") == 2
    assert "expected the package trimesh, which reads meshes; install it with pip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "densem export: expected one of --volume, --labels, --instances, --prediction, --objects, --meshes, found none"),
        (["--volume", "vol", "--labels", "vol"], "--prediction, --objects, --meshes, found --volume and --labels"),
        (["--volume", "vool"], "study st: no volume 'vool'. Did you mean 'vol'?"),
        (["--labels", "bare"], "study st: volume 'bare' has no labels; add them with densem import"),
        (["--instances", "bare"], "study st: volume 'bare' has no annotated objects; add them with densem import"),
        (["--prediction", "frist"], "study st: no prediction 'frist'. Did you mean 'first'?"),
        (["--prediction", "first", "--part", "confidense"],
         "--part confidense: expected classes, confidence, entropy. Did you mean 'confidence'?"),
        (["--prediction", "first", "--part", "entropy"],
         "study st: prediction 'first' has no entropy; it is written where densem predict --save entropy asked for it"),
        (["--objects", "secnd"], "study st: no objects 'secnd'. Known: first."),
        (["--objects", "first", "--level", "2"], "--level 2: objects 'first' have the levels 0, 1"),
        (["--volume", "vol", "--scale", "7"], "no pyramid level 7, it has 0 to 1"),
        (["--volume", "vol", "--box", "0:9,:,:"], "--box 0:9,0:40,0:300: expected ranges with at least one voxel"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_in_plain_words(study, tmp_path, capsys, arguments, message):
    out = tmp_path / "out"
    out.mkdir()
    assert run(["export", str(study.folder), *arguments, "--to", "fiji", "--out", str(out / "a.tif")]) == 2
    assert message in capsys.readouterr().err
    assert not list(out.iterdir())


@pytest.mark.parametrize("place", ["volumes/vol.zarr", "predictions/first/a.zarr", "../st", ".."])
def test_the_studys_own_folders_are_no_place_for_exports(study, tmp_path, capsys, place):
    out = study.folder / place
    named = ["--volume", "vol", "--to", "ome-zarr", "--overwrite"]
    assert run(["export", str(study.folder), *named, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "expected a place outside the study's own folders, which densem alone writes in" in said
    assert study.image("vol").shape == SHAPE


def test_interrupted_by_a_signal_nothing_is_left(study, tmp_path):
    """A deep volume of ones, stopped once the hidden file is there."""
    big = np.ones((200, 600, 700), np.uint8)
    array = ome_zarr.create(study.folder / "volumes/deep.zarr", big.shape, big.dtype)
    array[:] = big
    part = ome_zarr.temporary(study.folder / "volumes/deep.zarr")
    ome_zarr.describe(part, [("s0", SIZE)], OFFSET, {})
    ome_zarr.finish(study.folder / "volumes/deep.zarr")
    with locked(study.path) as manifest:
        manifest.volumes["deep"] = VolumeEntry(role="eval", image="volumes/deep.zarr")
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable,
        "-m",
        "densem",
        "export",
        str(study.folder),
        "--volume",
        "deep",
        "--to",
        "nrrd",
    ]
    process = subprocess.Popen([*command, "--out", str(out / "a.nrrd")], stderr=subprocess.PIPE, text=True)
    while not list(out.iterdir()) and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    if process.returncode == 0:  # it had finished before the signal came
        assert [p.name for p in out.iterdir()] == ["a.nrrd"]
        return
    assert process.returncode == 130, said
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--volume", "vol", "--annotator", "bo"],
            "--annotator bo: expected it with --labels, found --volume",
        ),
        (["--labels", "vol", "--part", "entropy"], "--part entropy: expected it with --prediction, found"),
        (["--labels", "vol", "--level", "1"], "--level 1: expected it with --objects or --meshes, found"),
    ],
)
def test_an_option_of_something_else_is_refused(study, tmp_path, capsys, arguments, message):
    command = ["export", str(study.folder), "--to", "nifti", "--out", str(tmp_path / "a.nii")]
    assert run([*command, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.nii").exists()
