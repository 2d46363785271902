"""Meshes of objects on disk: the same for any blocks and workers, resumed, refused."""

import csv
import json

import numpy as np
import pytest

from densem.blocks import EngineChoice
from densem.errors import (
    ConfigError,
    ExistsError,
    FormatError,
    IncompleteError,
    InputError,
    NotFoundError,
    SchemaError,
)
from densem.meshes import making
from densem.meshes.making import MeshOptions, make_meshes
from densem.meshes.surface import surface

SIZE, OFFSET = (40.0, 10.0, 7.0), (100.0, 0.0, 50.0)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_blocks_and_workers_change_nothing(objects, schema):
    formats = ("stl", "glb", "precomputed")
    first = make_meshes(objects, schema, MeshOptions(formats=formats))
    whole = contents(first.folder)
    assert not any(name.startswith("work") for name in whole)
    for block, workers in (((3, 8, 7), 1), ((4, 29, 5), 2)):
        engine = EngineChoice("local", workers)
        options = MeshOptions(formats=formats, block=block, engine=engine, overwrite=True)
        assert contents(make_meshes(objects, schema, options).folder) == whole


def test_rows_agree_with_the_objects_and_with_surfaces_in_memory(objects, schema, made):
    found = make_meshes(objects, schema, MeshOptions(error_nm=0, smooth_nm=0, block=(5, 16, 20)))
    index = json.loads((found.folder / "meshes.json").read_text())
    assert index["unit"] == "nanometer"
    assert index["voxel_size_nm_zyx"] == list(SIZE)
    with (objects / "objects.csv").open() as handle:
        rows = {int(r["id"]): r for r in csv.DictReader(handle)}
    assert [r["id"] for r in index["meshes"]] == sorted(rows)
    for row in index["meshes"]:
        known = rows[row["id"]]
        assert row["class"] == known["class"]
        assert row["color"] == schema[row["class"]].color
        assert row["parent"] == int(known["parent"])
        assert row["euler_number"] == 2 * int(known["euler_number"])
        assert row["volume_nm3"] == pytest.approx(float(known["volume_nm3"]), rel=1e-3)
        assert (found.folder / row["files"]["glb"]).is_file()
    largest = max((r for r in index["meshes"] if r["class"] == "cell"), key=lambda r: r["volume_nm3"])
    alone = surface(made.volumes[0].read(), largest["id"], SIZE, OFFSET, smooth_nm=0)
    assert alone.area_nm2 == pytest.approx(largest["area_nm2"], rel=1e-6)
    assert alone.box_nm.tolist() == largest["box_nm"]


def test_choice_by_class_and_id(objects, schema):
    found = make_meshes(objects, schema, MeshOptions(classes=("mitochondrion",), ids=(1,)))
    assert {r["class"] for r in found.rows if r["id"] != 1} == {"mitochondrion"}
    assert 1 in [r["id"] for r in found.rows]
    assert {p.suffix for p in found.folder.iterdir()} == {".glb", ".json"}


def test_what_is_refused_leaves_nothing(objects, schema, tmp_path):
    def refused(kind, match, **options):
        with pytest.raises(kind, match=match):
            make_meshes(objects, schema, MeshOptions(**options))
        assert not (objects / "meshes").exists()

    refused(SchemaError, "no class 'mitochondrium' in the schema. Did you mean", classes=("mitochondrium",))
    refused(InputError, "no object is a 'dense_granule'; there are objects of", classes=("dense_granule",))
    refused(InputError, r"no object has the id 9999; ids are 1 to \d+", ids=(1, 9999))
    for key, name in (("smooth_nm", "smooth"), ("error_nm", "error")):
        with pytest.raises(ConfigError, match=f"--{name} -1: expected a length in nm"):
            MeshOptions(**{key: -1.0})
    with pytest.raises(NotFoundError, match="no finished objects there"):
        make_meshes(tmp_path, schema)


def change_row(objects, **entries):
    path = objects / "objects.csv"
    with path.open() as handle:
        rows = list(csv.DictReader(handle))
    rows[0].update(entries)
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_empty_objects(objects, schema):
    change_row(objects, voxels="0")
    with pytest.raises(InputError, match=r"line 2: object 1 \(\w+\) has no voxel, so it has no surface"):
        make_meshes(objects, schema)
    change_row(objects, voxels="many")
    with pytest.raises(InputError, match="line 2: damaged or cut off"):
        make_meshes(objects, schema)
    change_row(objects, voxels="5", id="5000")
    with pytest.raises(InputError, match=r"no voxel of it is in the volume, though objects\.csv has 5"):
        make_meshes(objects, schema, MeshOptions(ids=(5000,)))
    assert not (objects / "meshes").exists()


def test_existing_meshes_are_kept_until_new_ones_are_finished(objects, schema, monkeypatch):
    make_meshes(objects, schema, MeshOptions(classes=("mitochondrion",)))
    before = contents(objects / "meshes")
    with pytest.raises(ExistsError, match="meshes lie there already; give --overwrite"):
        make_meshes(objects, schema)
    with monkeypatch.context() as patched:
        patched.setattr(making, "write_mesh", lambda *_: 1 / 0)
        with pytest.raises(IncompleteError):
            make_meshes(objects, schema, MeshOptions(classes=("cell",), overwrite=True))
    assert contents(objects / "meshes") == before
    made = make_meshes(objects, schema, MeshOptions(classes=("cell",), overwrite=True))
    assert {r["class"] for r in made.rows} == {"cell"}
    assert not list((objects / "meshes").glob("mito*"))
    assert not list(objects.glob(".meshes*"))


def test_killed_while_new_meshes_take_the_place_of_old_ones(objects, schema):
    """Between the two renamings: the old ones are put back, so they are still refused or replaced."""
    wanted = MeshOptions(classes=("mitochondrion",))
    before = contents(make_meshes(objects, schema, wanted).folder)
    (objects / "meshes").rename(objects / ".meshes.old")
    with pytest.raises(ExistsError, match="meshes lie there already"):
        make_meshes(objects, schema, wanted)
    assert contents(objects / "meshes") == before
    assert not list(objects.glob(".meshes*"))


def test_interrupted_and_resumed(objects, schema, monkeypatch):
    wanted = MeshOptions(classes=("alpha_granule",), formats=("ply",), block=(4, 20, 20))
    reference = contents(make_meshes(objects, schema, wanted).folder)
    (objects / "meshes").rename(objects / "reference")
    real, calls = making.write_mesh, []

    def stops(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments)
        real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(making, "write_mesh", stops)
        with pytest.raises(KeyboardInterrupt):
            make_meshes(objects, schema, wanted)
    assert not (objects / "meshes/meshes.json").exists()
    with pytest.raises(Exception, match=r"begun with another smooth_nm .*give --overwrite"):
        make_meshes(objects, schema, MeshOptions(**{**wanted.__dict__, "smooth_nm": 50.0}))
    again = []
    monkeypatch.setattr(making, "write_mesh", lambda *a: (again.append(a), real(*a)))
    assert contents(make_meshes(objects, schema, wanted).folder) == reference
    assert 0 < len(again) == len([n for n in reference if n.endswith("ply")]) - 2


def test_an_interrupted_replacement_goes_on(objects, schema, monkeypatch):
    wanted = MeshOptions(classes=("alpha_granule",), formats=("ply",), block=(4, 20, 20), overwrite=True)
    reference = contents(make_meshes(objects, schema, wanted).folder)
    real, written = making.write_mesh, []

    def stops(*arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(arguments)
        real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(making, "write_mesh", stops)
        with pytest.raises(KeyboardInterrupt):
            make_meshes(objects, schema, wanted)
    assert contents(objects / "meshes") == reference
    with monkeypatch.context() as patched:
        patched.setattr(making, "write_mesh", lambda *a: (written.append(a), real(*a)))
        patched.setattr(making.FacetTask, "__call__", lambda *_: 1 / 0)  # all facets are there
        assert contents(make_meshes(objects, schema, wanted).folder) == reference
    assert len(written) == len([n for n in reference if n.endswith("ply")])
    assert not list(objects.glob(".meshes*"))


@pytest.mark.parametrize("failures", [1, 99])
def test_a_block_that_cannot_be_read_is_tried_again_and_the_others_kept(
    objects, schema, monkeypatch, failures
):
    wanted = MeshOptions(classes=("alpha_granule",), formats=("ply",), block=(4, 20, 20))
    reference = contents(make_meshes(objects, schema, wanted).folder)
    (objects / "meshes").rename(objects / "reference")
    real, calls = making.FacetTask.__call__, []

    def shaky(task, index, box):
        calls.append(index)
        if index == 2 and calls.count(2) <= failures:
            raise FormatError("objects-1: box cannot be read (input/output error)")
        return real(task, index, box)

    with monkeypatch.context() as patched:
        patched.setattr(making.FacetTask, "__call__", shaky)
        if failures == 1:
            assert contents(make_meshes(objects, schema, wanted).folder) == reference
            return
        with pytest.raises(IncompleteError, match="cannot be read"):
            make_meshes(objects, schema, wanted)
    calls.clear()
    monkeypatch.setattr(making.FacetTask, "__call__", lambda *a: (calls.append(a[1]), real(*a))[1])
    assert contents(make_meshes(objects, schema, wanted).folder) == reference
    assert calls == [2]


def test_facets_of_blocks_are_those_of_the_volume():
    from densem.blocks import Box, Grid
    from densem.meshes.facets import Lattice, facets

    labels = np.random.default_rng(2).integers(0, 4, (7, 9, 8))
    lattice, grid = Lattice(labels.shape), Grid(labels.shape, (3, 4, 5))
    padded = np.pad(labels, 1)
    every = facets(padded, (-1, -1, -1), lattice)
    parts = []
    for box in grid:
        cubes = lattice.cubes(box)
        part = facets(padded[cubes.shift((1, 1, 1)).slices], cubes.start, lattice)
        parts += [(int(i), *row) for p, i in enumerate(part.ids) for row in part.of(p).tolist()]
    assert sorted(parts) == sorted(
        (int(i), *r) for p, i in enumerate(every.ids) for r in every.of(p).tolist()
    )
    assert lattice.cubes(Box((0, 0, 0), labels.shape)) == Box((-1, -1, -1), (8, 10, 9))


def test_a_level_that_is_gone_is_told(objects, schema):
    import shutil

    shutil.rmtree(objects / "objects-1.zarr")
    with pytest.raises(NotFoundError, match=r"objects-1\.zarr: this volume is gone, though objects\.csv has"):
        make_meshes(objects, schema)
    assert not (objects / "meshes").exists()


def test_status_of_unfinished_and_finished_meshes(objects, schema, monkeypatch):
    from densem.study.progress import statuses

    (objects.parent / "study.toml").write_text("")
    home = objects.parent / "objects" / "first"
    home.parent.mkdir()
    objects.rename(home)
    wanted = MeshOptions(classes=("alpha_granule",), block=(4, 20, 20))

    def stopped(name, stop):
        with monkeypatch.context() as patched:
            patched.setattr(*stop)
            with pytest.raises(KeyboardInterrupt):
                make_meshes(home, schema, wanted)
        (status,) = statuses(objects.parent)
        assert status.folder == f"{home / 'meshes'}: {name}"
        assert statuses(home / "meshes") == [status]
        return status

    def interrupts(*_):
        raise KeyboardInterrupt

    facets = stopped("pass 1, level 1, facets", (making.FacetTask, "__call__", interrupts))
    assert (facets.state, facets.done, facets.planned) == ("stopped", 0, 12)
    each = stopped("pass 2, meshes, a block is an object", (making, "write_mesh", interrupts))
    assert each.planned == len(make_meshes(home, schema, wanted).rows) > 0
    assert statuses(objects.parent) == []
    (done,) = statuses(home / "meshes")
    assert (done.state, done.done, done.planned) == ("finished", each.planned, each.planned)
