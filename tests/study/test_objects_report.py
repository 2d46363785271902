"""`densem report-objects`: the page of a study's objects, and what is refused."""

import html
import json
import re
import shlex
import shutil

import numpy as np
import pytest

from densem.cli.app import run
from densem.report.view3d import decode
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import VolumeEntry, locked
from densem.volumes import ome_zarr, open_volume

SIZE = (40.0, 10.0, 8.0)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def write(path, array):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], (0.0, 0.0, 0.0), {})
    return ome_zarr.finish(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study with the objects of the labels of a volume: two cells, one with a mitochondrion and a vessel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        made = Study.create(tmp_path_factory.mktemp("studies") / "st", LabelSchema.resolve("platelet"))
        classes = np.zeros((8, 34, 41), np.uint8)
        classes[1:7, 4:25, 3:24] = 1
        classes[3:5, 8:14, 6:12] = 2
        classes[3:5, 17:20, 8:20] = 4
        classes[:, 28:, 30:] = 1
        write(made.folder / "volumes/vol.zarr", (classes * 20 + 3).astype(np.uint8))
        write(made.folder / "annotations/vol/semantic.zarr", classes)
        with locked(made.path) as manifest:
            manifest.volumes["vol"] = VolumeEntry(
                role="eval", image="volumes/vol.zarr", semantic="annotations/vol/semantic.zarr"
            )
        assert run(["objects", str(made.folder), "--labels", "vol"]) == 0
    return made


@pytest.fixture
def study(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "st")
    return Study(tmp_path / "st")


def surfaces(page):
    text = page.read_text()
    scene, payload = (
        re.search(rf'<script type="[\w/]+" data-part="{name}">(.*?)</script>', text)[1]
        for name in ("scene", "surfaces")
    )
    return json.loads(scene), decode(scene, payload)


def test_the_page_has_surfaces_where_the_objects_are(study, capsys):
    assert run(["report-objects", str(study.folder)]) == 0
    page = study.folder / "reports/vol-labels.objects.html"
    assert str(page) in capsys.readouterr().out
    record, meshes = surfaces(page)
    names = [record["classes"][kind]["name"] for kind in record["kind"]]
    found = {(name, number): mesh for name, number, mesh in zip(names, record["id"], meshes, strict=True)}
    assert set(found) == {("cell", 1), ("cell", 2), ("mitochondrion", 3), ("canalicular vessel", 0)}
    mitochondrion = found["mitochondrion", 3]
    np.testing.assert_allclose(mitochondrion.vertices.mean(axis=0), [9 * 8, 11 * 10, 4 * 40], atol=6)
    assert mitochondrion.volume_nm3 == pytest.approx(2 * 6 * 6 * 3200, rel=0.08)
    assert found["cell", 1].vertices.max(axis=0).tolist() == pytest.approx([41 * 8, 340, 320], abs=0.1)
    text = page.read_text()
    assert "cut by the border" in text
    assert "connected voxels" in text
    assert "8 x 34 x 41 voxels of 40 x 10 x 8 nm" in text


def test_a_cell_alone_has_a_page_beside_that_of_all_objects(study, capsys):
    assert run(["report-objects", str(study.folder)]) == 0
    all_objects = (study.folder / "reports/vol-labels.objects.html").read_bytes()
    assert run(["report-objects", str(study.folder), "--objects", "vol-labels", "--cell", "1"]) == 0
    assert "shows 1 of 2 outermost objects" in capsys.readouterr().out
    assert surfaces(study.folder / "reports/vol-labels-cell-1.objects.html")[0]["id"] == [1]
    assert (study.folder / "reports/vol-labels.objects.html").read_bytes() == all_objects


def test_objects_cut_by_affinities_are_described_for_a_methods_section(study):
    outermost = study.folder / "objects/vol-labels/objects-0.zarr"
    record = dict(open_volume(outermost).provenance)
    record["rules"]["cell"] |= {"method": "mutex", "mutex_bias": 0.35}
    ome_zarr.update_attributes(outermost, provenance=record)
    assert run(["report-objects", str(study.folder)]) == 0
    text = (study.folder / "reports/vol-labels.objects.html").read_text()
    assert "from its class ids and the affinities between voxels that a network predicted. Cell:" in text
    assert "Cell: mutex watershed of the affinities (Wolf et al. 2018), bias 0.35;" in text


def test_what_is_suggested_next_works_as_typed(study):
    folder = study.folder.with_name("of mine")
    study.folder.rename(folder)

    def suggested():
        assert run(["report-objects", str(folder)]) == 0
        text = html.unescape((folder / "reports/vol-labels.objects.html").read_text())
        return [
            shlex.split(line)[1:]
            for line in re.findall(r"densem evaluate-objects [^<]* --objects [^<]*", text)
        ]

    expected = ["evaluate-objects", str(folder), "--objects", "vol-labels"]
    assert suggested() == [[*expected, "--level", "0"], [*expected, "--level", "1"]]
    shutil.rmtree(folder / "objects/vol-labels/objects-1.zarr")
    table = folder / "objects/vol-labels/objects.csv"
    rows = table.read_text().splitlines()
    level = rows[0].split(",").index("level")
    table.write_text("\n".join(r for r in rows if r.split(",")[level] in ("level", "0")) + "\n")
    assert suggested() == [expected]


def test_labels_that_were_replaced_are_said(study, capsys):
    shutil.rmtree(study.folder / "annotations/vol/semantic.zarr")
    write(study.folder / "annotations/vol/semantic.zarr", np.ones((8, 34, 41), np.uint8))
    assert run(["report-objects", str(study.folder)]) == 0
    assert "The labels vol was replaced since these objects were found" in capsys.readouterr().out
    record, _ = surfaces(study.folder / "reports/vol-labels.objects.html")
    assert 0 not in record["id"]
    shutil.rmtree(study.folder / "annotations")
    assert run(["report-objects", str(study.folder)]) == 0
    assert "no longer in the study, so that its 3D view shows objects alone" in capsys.readouterr().out


def refused(study, capsys, *arguments):
    before = set(study.folder.rglob("*.html"))
    assert run(["report-objects", str(study.folder), *arguments]) == 2
    assert set(study.folder.rglob("*")) & set(study.folder.rglob("*.html")) == before
    return " ".join(capsys.readouterr().err.split())


def test_what_is_refused(study, capsys):
    assert "no objects 'vol-label'. Did you mean 'vol-labels'?" in refused(
        study, capsys, "--objects", "vol-label"
    )
    assert "--cell 9: no cell has that id; cells.csv lists them, such as 1, 2" in refused(
        study, capsys, "--cell", "9"
    )
    assert "--megabytes 0: expected 0.5 to 200" in refused(study, capsys, "--megabytes", "0")
    with locked(study.path) as manifest:
        manifest.objects["other"] = manifest.objects["vol-labels"]
    assert "there are several objects; give --objects vol-labels|other" in refused(study, capsys)
    said = refused(study, capsys, "--objects", "other")
    assert "They stand in study.toml, but their folder" in said
    assert "is gone" in said


def test_unfinished_and_damaged_objects_are_refused(study, capsys):
    home = study.folder / "objects/vol-labels"
    table = (home / "objects.csv").read_text()
    (home / "objects.csv").write_text(table[:-40])
    assert "objects.csv, line 4: damaged or cut off" in refused(study, capsys)
    (home / "objects.csv").unlink()
    said = refused(study, capsys)
    assert "objects 'vol-labels' are not finished; run their densem objects command again to go on" in said
    (home / "objects.csv").write_text(table)
    for path in home.glob("objects-*.zarr"):
        shutil.rmtree(path)
    assert "objects-0.zarr: this volume is gone, though objects.csv has" in refused(study, capsys)
    shutil.rmtree(home)


def test_a_study_without_objects(tmp_path, capsys):
    bare = Study.create(tmp_path / "bare", LabelSchema.resolve("platelet"))
    said = refused(bare, capsys)
    assert "it has no objects yet; find them with densem objects" in said


def test_a_volume_without_objects_has_a_page(study, capsys):
    shutil.rmtree(study.folder / "annotations/vol/semantic.zarr")
    write(study.folder / "annotations/vol/semantic.zarr", np.zeros((8, 34, 41), np.uint8))
    assert run(["objects", str(study.folder), "--labels", "vol", "--name", "none"]) == 0
    assert run(["report-objects", str(study.folder), "--objects", "none"]) == 0
    text = (study.folder / "reports/none.objects.html").read_text()
    assert "0 objects in all" in text
    assert "<script" not in text
