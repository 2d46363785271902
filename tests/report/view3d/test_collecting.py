"""Collecting: surfaces lie where the objects are, at any level of the pyramid, and fit the budget."""

from dataclasses import replace

import numpy as np
import pytest

from densem.blocks import LocalCrew
from densem.errors import NotFoundError
from densem.report.view3d import collecting, source
from densem.report.view3d.collecting import ViewOptions, collect
from densem.report.view3d.source import Source, wanted
from densem.schema import LabelSchema
from densem.volumes import ome_zarr, open_volume, pyramid

SIZE, OFFSET, SHAPE = (40.0, 10.0, 8.0), (100.0, 50.0, -30.0), (16, 62, 74)
CELL, GRANULE, SMALL = ((8, 30, 36), (6, 25, 30)), ((8, 26, 30), (3, 9, 10)), ((8, 42, 48), (2, 5, 5))


def ellipsoid(centre, radii):
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, radii, strict=True)) <= 1


def write(path, array, kind):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    made = pyramid.build(ome_zarr.temporary(path), SIZE, "labels", LocalCrew(1))
    made = made if len(made) > 1 else [*made, *coarser(path, array)]
    ome_zarr.describe(ome_zarr.temporary(path), made, OFFSET, {"kind": kind})
    return ome_zarr.finish(path)


def coarser(path, array):
    """A second level, which small volumes would not have: every second voxel in y and x."""
    import zarr

    group = zarr.open_group(ome_zarr.temporary(path), mode="r+")
    group.create_array("s1", data=np.ascontiguousarray(array[:, ::2, ::2]), chunks=(8, 64, 64))
    return [("s1", (SIZE[0], 2 * SIZE[1], 2 * SIZE[2]))]


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """A cell with two granules and a vessel, and a piece of another cell at the border."""
    home = tmp_path_factory.mktemp("objects")
    cells = np.where(ellipsoid(*CELL), 1, 0).astype(np.uint32)
    cells[:, :5, :7] = 2
    inner = np.zeros(SHAPE, np.uint32)
    inner[ellipsoid(*GRANULE)], inner[ellipsoid(*SMALL)] = 3, 4
    classes = np.where(cells > 0, 1, 0).astype(np.uint8)
    classes[inner > 0] = 3
    classes[6:9, 20:24, 42:56] = 4
    masks = [cells == 1, cells == 2, inner == 3, inner == 4]
    write(home / "objects-0.zarr", cells, "objects")
    write(home / "objects-1.zarr", inner, "objects")
    write(home / "classes.zarr", classes, "labels")
    table = {
        "id": [1, 2, 3, 4], "class": ["cell", "cell", "alpha_granule", "alpha_granule"], "level": [0, 0, 1, 1],
        "parent": [0, 0, 1, 1], "volume_nm3": [float(m.sum() * np.prod(SIZE)) for m in masks],
        "touches_border": [False, True, False, False],
    }  # fmt: skip
    for axis, name in enumerate("zyx"):
        spans = [np.nonzero(m)[axis] for m in masks]
        table[f"box_{name}_start_nm"] = [float(s.min() * SIZE[axis] + OFFSET[axis]) for s in spans]
        table[f"box_{name}_stop_nm"] = [float((s.max() + 1) * SIZE[axis] + OFFSET[axis]) for s in spans]
    vessel = float((classes == 4).sum() / masks[0].sum())
    cell_table = {
        "id": [1, 2], "class": ["cell", "cell"], "volume_nm3": table["volume_nm3"][:2],
        "touches_border": [False, True], "fraction_canalicular_vessel": [vessel, 0.0],
        "fraction_alpha_granule": [0.1, 0.0],
    }  # fmt: skip
    levels = (home / "objects-0.zarr", home / "objects-1.zarr")
    return Source(table, cell_table, levels, home / "classes.zarr", LabelSchema.resolve("platelet"))


@pytest.fixture(scope="module")
def whole(objects):
    return collect(objects, ViewOptions())


def test_surfaces_lie_where_the_objects_are(objects, whole):
    scene = whole.scene
    assert [o.id for o in scene.objects] == [1, 2, 3, 4, 0]  # largest first, cells before all others
    assert [scene.classes[o.kind].name for o in scene.objects][4] == "canalicular vessel"
    for shown in scene.objects:
        if shown.id:
            n = objects.table["id"].index(shown.id)
            low, high = (
                np.array([objects.table[f"box_{a}_{end}_nm"][n] for a in "xyz"]) for end in ("start", "stop")
            )
            found = shown.mesh.box_nm
            assert (found[0] >= low - 10).all()  # a quarter of the longest side of a voxel
            assert (found[1] <= high + 10).all()
            assert (np.abs(np.array([low, high]) - found) < np.array(SIZE[::-1])).all()
        assert shown.mesh.volume_nm3 == pytest.approx(shown.volume_nm3, rel=0.05)
    corner = np.array(SHAPE[::-1]) * np.array(SIZE[::-1])
    np.testing.assert_allclose(scene.low_nm, OFFSET[::-1])
    np.testing.assert_allclose(scene.high_nm, np.array(OFFSET[::-1]) + corner)


def test_cells_are_glass_and_what_is_in_them_is_not(whole):
    scene = whole.scene
    assert [(c.name, c.translucent) for c in scene.classes] == [
        ("cell", True), ("alpha granule", False), ("canalicular vessel", False)
    ]  # fmt: skip
    assert scene.classes[1].color == "#01fe01"


def test_what_the_border_cuts_is_flat_there(whole):
    cut = next(o for o in whole.scene.objects if o.id == 2)
    assert cut.touches_border
    assert cut.mesh.box_nm[0].tolist() == pytest.approx(list(OFFSET[::-1]), abs=0.05)


def test_a_coarser_level_lies_at_the_same_place(objects, whole, monkeypatch):
    fine = whole.scene.objects[0].mesh
    monkeypatch.setattr(source, "VOXELS", 20_000)
    shown = collect(objects, ViewOptions(cells=(1,)))
    coarse = shown.scene.objects[0].mesh
    assert len(coarse.faces) != len(fine.faces)
    np.testing.assert_allclose(coarse.box_nm, fine.box_nm, atol=2 * SIZE[1])
    assert coarse.volume_nm3 == pytest.approx(fine.volume_nm3, rel=0.05)
    assert not any("coarser voxels" in text for text in shown.accuracy)  # 40 nm along z as before


def test_the_pyramids_own_offset_is_that_of_voxel_centres(objects):
    """Why `Source` takes the corner of full resolution for every level."""
    fine, coarse = (open_volume(objects.levels[0], n) for n in (0, 1))
    shift = np.array(coarse.offset_nm) - np.array(fine.offset_nm)
    np.testing.assert_allclose(shift, (np.array(coarse.voxel_size_nm) - np.array(fine.voxel_size_nm)) / 2)


def test_they_fit_the_budget_and_the_page_says_what_was_done(objects, whole):
    size = len(whole.scene.payload())
    assert whole.missing == ()
    less = collect(objects, ViewOptions(megabytes=0.75 * size / 1e6))
    assert len(less.scene.payload()) <= 0.75 * size
    assert less.missing == ()
    assert less.scene.triangles < whole.scene.triangles


def test_what_does_not_fit_is_left_out_and_counted(objects, whole, monkeypatch):
    monkeypatch.setattr(collecting, "COARSEST", collecting.FINEST)  # nothing is simplified further
    sizes = [len(replace(whole.scene, objects=(o,)).payload()) for o in whole.scene.objects]
    tight = collect(objects, ViewOptions(megabytes=(sum(sizes[:3]) + 3) / 1e6))
    assert [o.id for o in tight.scene.objects] == [1, 2, 3]
    (said,) = tight.missing
    assert said.startswith(
        "The 3D view leaves out 1 of 4 objects and 1 of 1 pieces of stuff (such as vessels), to stay"
    )


def test_how_far_surfaces_moved_is_said_and_true(objects, whole):
    from scipy.spatial import KDTree

    shown = whole
    moved = float(shown.accuracy[0].split("more than ")[1].split(" nm")[0])
    first, _ = wanted(objects)[0].mesh(objects)
    mesh = shown.scene.objects[0].mesh
    rng = np.random.default_rng(0)
    weights = rng.dirichlet((1, 1, 1), (len(mesh.faces), 60))
    points = np.einsum("nkc,nca->nka", weights, mesh.vertices[mesh.faces].astype(float)).reshape(-1, 3)
    away = KDTree(points).query(first.vertices)[0].max()  # a little too large: points are not dense
    assert moved > 0
    assert away <= moved + 6


def test_everything_left_out(objects):
    shown = collect(objects, ViewOptions(megabytes=1e-4))
    assert shown.scene is None
    assert "leaves out 4 of 4 objects" in shown.missing[0]


def test_a_cell_alone(objects):
    shown = collect(objects, ViewOptions(cells=(2,)))
    assert [o.id for o in shown.scene.objects] == [2]
    assert not shown.scene.classes[0].translucent  # nothing in it to be seen
    assert shown.missing == ("The 3D view shows 1 of 2 outermost objects, with what lies in them.",)
    with pytest.raises(
        NotFoundError, match=r"--cell 3: no cell has that id; cells.csv lists them, such as 1, 2"
    ):
        collect(objects, ViewOptions(cells=(3,)))


def test_at_most_so_many_surfaces(objects, monkeypatch):
    monkeypatch.setattr(collecting, "MOST", 3)
    shown = collect(objects, ViewOptions())
    assert [o.id for o in shown.scene.objects] == [1, 2, 3]
    assert "leaves out 1 of 4 objects" in shown.missing[0]


def test_without_class_ids_there_is_no_stuff(objects):
    bare = Source(objects.table, objects.cells, objects.levels, None, objects.schema)
    assert [o.id for o in collect(bare, ViewOptions()).scene.objects] == [1, 2, 3, 4]


def test_progress_is_told(objects):
    told = []
    collect(objects, ViewOptions(), lambda done, total: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]
