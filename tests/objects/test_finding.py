"""Objects of whole volumes against cc3d, SciPy and scikit-image, and for any blocks."""

import csv
import math
import threading

import cc3d
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import euler_number, regionprops

from densem.blocks import EngineChoice
from densem.errors import ExistsError, InputError, SchemaError
from densem.object_table import read_table
from densem.objects import ObjectsOptions, Rules, find_objects
from densem.objects import finding as module
from densem.objects.block_components import scratch_layout
from densem.objects.cutting import Tiling
from densem.objects.scratch import Scratch
from densem.schema import LabelSchema
from densem.volumes import Volume

COMPONENTS = {name: {"method": "components"} for name in ("mitochondrion", "alpha_granule", "dense_granule")}
SMALL_TILES = Tiling(1000, (6, 20, 24), (2, 6, 6))


def found(volume, schema, folder, table=None, block=(99, 99, 99), workers=1, tiling=None, **more):
    options = ObjectsOptions(
        block=block, engine=EngineChoice(workers=workers), tiling=tiling or Tiling(), **more
    )
    return find_objects(volume, schema, Rules.of(schema, volume.voxel_size_nm, table), folder, options)


def first_voxels(ids):
    values, first = np.unique(ids, return_index=True)
    return values[values > 0], first[values > 0]


def same_partition(a, b):
    assert np.array_equal(a > 0, b > 0)
    pairs = np.unique(np.stack([a[a > 0], b[b > 0]], axis=1), axis=0)
    assert len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))


@pytest.mark.parametrize("connectivity", [6, 26])
def test_components_equal_one_pass_of_cc3d(ragged, schema, tmp_path, connectivity):
    table = {n: {**r, "connectivity": connectivity} for n, r in COMPONENTS.items()}
    table["cell"] = {"connectivity": connectivity}
    result = found(ragged, schema, tmp_path / "o", table, block=(5, 29, 40), workers=2)
    classes = ragged.array
    things = (np.isin(classes, range(1, 7)), np.where(np.isin(classes, (2, 3)), classes, 0))
    top = 0
    for volume, kinds in zip(result.volumes, things, strict=True):
        ids = volume.read()
        expected = cc3d.connected_components(
            np.ascontiguousarray(kinds.astype(np.uint8)), connectivity=connectivity
        )
        same_partition(ids.astype(np.int64), expected.astype(np.int64))
        values, first = first_voxels(ids)
        assert values.tolist() == list(range(top + 1, top + 1 + len(values)))
        assert (np.diff(first) > 0).all()  # numbered by first voxel
        top += len(values)
    assert top == len(result.table["id"]) > 20


@pytest.fixture(scope="module")
def whole(ragged, schema, tmp_path_factory):
    return found(ragged, schema, tmp_path_factory.mktemp("w") / "o", SWEPT, tiling=SMALL_TILES)


SWEPT = {
    "cell": {"fill_holes_nm3": 3e5, "min_volume_nm3": 1e5},
    "mitochondrion": {"method": "watershed", "h_nm": 5.0},
    "alpha_granule": {"h_nm": 8.0, "connectivity": 6},
}


@pytest.mark.parametrize(
    ("block", "workers"), [((5, 29, 40), 2), ((13, 47, 17), 1), ((1, 47, 61), 3), ((7, 24, 31), 1)]
)
def test_any_blocks_and_workers_give_the_same(ragged, schema, whole, tmp_path, block, workers):
    result = found(ragged, schema, tmp_path / "o", SWEPT, block, workers, SMALL_TILES)
    for a, b in zip(whole.volumes, result.volumes, strict=True):
        assert np.array_equal(a.read(), b.read())
    assert result.table == whole.table
    assert result.cells == whole.cells
    assert (tmp_path / "o/objects.csv").read_text() == (whole.folder / "objects.csv").read_text()
    assert not (tmp_path / "o/work").exists()


def test_measures_equal_scikit_image(whole, ragged):
    size, table = np.array(ragged.voxel_size_nm), whole.table
    ids = whole.volumes[1].read().astype(np.int32)
    rows = {i: n for n, i in enumerate(table["id"])}
    for region in regionprops(ids, spacing=ragged.voxel_size_nm):
        n = rows[region.label]
        assert table["voxels"][n] == region.num_pixels
        assert table["volume_nm3"][n] == pytest.approx(region.area)
        centre = [table[f"centroid_{a}_nm"][n] for a in "zyx"]
        assert centre == pytest.approx(np.array(region.centroid) + size / 2 + ragged.offset_nm)
        start = [table[f"box_{a}_start_nm"][n] for a in "zyx"]
        assert start == pytest.approx(np.array(region.bbox[:3]) * size + ragged.offset_nm)
        spread = (
            np.cov(region.coords.T * size[:, None], bias=True) if region.num_pixels > 1 else np.zeros((3, 3))
        )
        spread = spread + np.diag(size**2 / 12)
        axes = 2 * np.sqrt(5 * np.linalg.eigvalsh(spread))[::-1]
        assert [table[f"axis_{k}_nm"][n] for k in (1, 2, 3)] == pytest.approx(axes, rel=1e-6)
        turned = np.array([[table[f"axis_{k}_{a}"][n] for a in "zyx"] for k in (1, 2, 3)])
        np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(turned @ spread @ turned.T, np.diag((axes / 2) ** 2 / 5), atol=1e-4)
        assert (np.take_along_axis(turned, np.abs(turned).argmax(1)[:, None], 1) > 0).all()
        connectivity = 1 if table["class"][n] == "alpha_granule" else 3
        assert table["euler_number"][n] == euler_number(ids == region.label, connectivity)


def test_parents_borders_and_contacts(whole, ragged, schema):
    cells, organelles = (v.read() for v in whole.volumes)
    table = whole.table
    for n, (i, level) in enumerate(zip(table["id"], table["level"], strict=True)):
        mask = (cells, organelles)[level] == i
        inside = np.bincount(cells[mask])
        assert table["parent"][n] == (int(inside.argmax()) if level else 0)
        faces = [mask.take(k, a).any() for a in range(3) for k in (0, -1)]
        assert table["touches_border"][n] == any(faces)
        contacts = [table[f"contact_{c}_nm2"][n] for c in (*schema.names, "unlabelled")]
        assert (table["sphericity"][n] is None) == any(faces)
        assert sum(contacts) == pytest.approx(table["surface_nm2"][n])


def test_only_what_is_cut_in_plane_touches_the_border_of_a_single_slice(schema, tmp_path):
    classes = np.zeros((1, 40, 70), np.uint8)
    classes[0, 5:25, 8:28] = 1  # 200 x 100 nm, whole
    classes[0, 30:40, 40:60] = 1  # runs out of the slice
    classes[0, 10:20, 12:24] = 2
    result = found(Volume(classes, (40.0, 10.0, 5.0)), schema, tmp_path / "o")
    table = result.table
    assert table["class"] == ["cell", "cell", "mitochondrion"]
    assert table["touches_border"] == [False, True, False]
    assert result.cells["touches_border"] == [False, True]
    assert table["sphericity"] == [None] * 3
    assert table["surface_nm2"][0] == pytest.approx(2 * (200 + 100) * 40, rel=0.1)
    assert table["surface_nm2"][2] == table["contact_cell_nm2"][2]


NM = (40.0, 10.0, 8.0)


def placed(shape, centre, radius=100.0):
    """A ball of alpha granule, its centre in nm."""
    axes = ((np.arange(n) + 0.5) * s - c for n, s, c in zip(shape, NM, centre, strict=True))
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return Volume(np.where(z**2 + y**2 + x**2 < radius**2, 3, 0).astype(np.uint8), NM)


@pytest.mark.parametrize("block", [(99, 99, 99), (3, 13, 11)])
@pytest.mark.parametrize("low", [True, False])
def test_a_whole_object_beside_the_border_has_all_of_its_surface(schema, tmp_path, block, low):
    """Some lines through it go four or five voxels at a time, beyond the border."""
    far = found(placed((15, 60, 70), (303.0, 301.0, 289.0)), schema, tmp_path / "a", COMPONENTS).table
    shape, centre = (13, 40, 45), (143.0, 111.0, 113.0)
    if not low:
        centre = tuple(n * s - c for n, s, c in zip(shape, NM, (177.0, 109.0, 111.0), strict=True))
    near = found(placed(shape, centre), schema, tmp_path / "b", COMPONENTS, block).table
    assert (near["voxels"], near["touches_border"]) == (far["voxels"], [False, False])
    for column in ("surface_nm2", "sphericity", "contact_background_nm2"):
        assert near[column] == far[column]


def tube(length, axis):
    """Of alpha granule, straight through a volume that is `length` voxels long."""
    axes = [np.arange(-np.ceil(120 / s) - 3, np.ceil(120 / s) + 4) * s for s in NM]
    axes[axis] = np.zeros(length)
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return Volume(np.where(z**2 + y**2 + x**2 < 120**2, 3, 0).astype(np.uint8), NM)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_tube_that_the_border_cuts_at_both_ends_has_all_of_its_wall(schema, tmp_path, axis):
    short, middle, long = (
        found(tube(n, axis), schema, tmp_path / str(n), COMPONENTS).table for n in (8, 16, 24)
    )
    assert short["touches_border"] == [True, True]
    wall = long["surface_nm2"][0] - middle["surface_nm2"][0]  # of 8 voxels, far from both ends
    assert short["surface_nm2"] == pytest.approx([wall, wall], rel=0.01)
    assert wall == pytest.approx(2 * np.pi * 120 * 8 * NM[axis], rel=0.09)


def test_contact_is_shared_out_by_what_lies_beyond(schema, tmp_path):
    """A granule half in a cell and half outside of it: as much surface to either."""
    z, y, x = np.indices((9, 30, 33))
    classes = np.where(y < 15, 1, 0).astype(np.uint8)
    classes[(4 * (z - 4.0)) ** 2 + (y - 14.5) ** 2 + (x - 16.0) ** 2 <= 9.3**2] = 3
    volume = Volume(classes, (40.0, 10.0, 10.0))
    table = found(volume, schema, tmp_path / "o", block=(4, 13, 20)).table
    n = table["class"].index("alpha_granule")
    inside, outside = (table[f"contact_{name}_nm2"][n] for name in ("cell", "background"))
    assert inside == pytest.approx(outside)
    assert inside + outside == pytest.approx(table["surface_nm2"][n])
    assert table["surface_nm2"][n] == pytest.approx(4 * math.pi * 93**2, rel=0.05)


def test_cells_count_what_they_hold(whole, ragged):
    cells, table = whole.volumes[0].read(), whole.table
    for n, i in enumerate(whole.cells["id"]):
        held = [k for k, p in zip(table["class"], table["parent"], strict=True) if p == i]
        assert whole.cells["count_mitochondrion"][n] == held.count("mitochondrion")
        share = (ragged.array[cells == i] == 3).mean()
        assert whole.cells["fraction_alpha_granule"][n] == pytest.approx(share)
    assert {"count_dense_granule", "fraction_canalicular_vessel"} <= set(whole.cells)


def test_a_thing_in_a_thing_in_a_cell_carries_the_id_of_the_cell(tmp_path):
    (tmp_path / "schema.toml").write_text("""[classes]
outside = { id = 0, color = "#000000", background = true }
cell = { id = 1, color = "#0101e0", thing = true }
mitochondrion = { id = 2, color = "#01abfe", parent = "cell", thing = true }
crista = { id = 3, color = "#ffe000", parent = "mitochondrion", thing = true }
""")
    schema = LabelSchema.resolve(str(tmp_path / "schema.toml"))
    classes = np.zeros((5, 20, 50), np.uint8)
    for x in (1, 26):
        classes[:, 1:19, x : x + 22] = 1
        classes[1:4, 3:9, x + 2 : x + 20], classes[1:4, 11:17, x + 2 : x + 20] = 2, 2
        classes[2, 5:7, x + 4 : x + 8], classes[2, 13:15, x + 4 : x + 8] = 3, 3
    rules = {name: {"method": "components"} for name in ("cell", "mitochondrion", "crista")}
    result = found(Volume(classes, (40.0, 10.0, 5.0)), schema, tmp_path / "o", rules)
    assert result.table["parent"] == [0, 0, 1, 2, 1, 2, 3, 4, 5, 6]
    assert result.table["cell"] == [0, 0, 1, 2, 1, 2, 1, 2, 1, 2]
    assert result.cells["count_crista"] == [2, 2]
    assert read_table(tmp_path / "o/objects.csv") == result.table


def test_a_table_read_back_is_the_same(whole):
    assert read_table(whole.folder / "objects.csv") == whole.table
    assert read_table(whole.folder / "cells.csv") == whole.cells
    assert None in whole.table["sphericity"]


def test_parquet_equals_csv(whole):
    parquet = pytest.importorskip("pyarrow.parquet").read_table(whole.folder / "objects.parquet").to_pydict()
    with (whole.folder / "objects.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert parquet == whole.table
    assert [int(r["id"]) for r in rows] == parquet["id"]
    assert [float(r["surface_nm2"]) for r in rows] == parquet["surface_nm2"]


def shell(shape=(9, 14, 17)):
    """A cell with a hole of 2 x 2 x 3 voxels, and one whose hole opens to the outside at a face."""
    classes = np.zeros(shape, np.uint8)
    classes[1:8, 2:9, 2:9] = 1
    classes[3:5, 4:6, 4:7] = 0
    classes[2:7, 2:9, 11:16] = 1
    classes[3:5, 2:6, 13] = 0
    return classes


@pytest.mark.parametrize(
    ("block", "chunk"),
    [
        ((32, 512, 512), (16, 128, 128)),
        ((17, 131, 190), (17, 131, 95)),  # not 1 x 1 x 95: thousands of chunks
        ((1, 30, 250), (1, 30, 125)),
        ((10, 1009, 96), (10, 1009, 96)),
    ],
)
def test_chunks_of_the_block_components_are_no_specks(block, chunk):
    assert scratch_layout(block) == (chunk, block)


def test_holes_equal_scipy(schema, tmp_path):
    volume = Volume(shell(), (30.0, 10.0, 10.0))
    for block in ((99, 99, 99), (4, 5, 6)):
        result = found(volume, schema, tmp_path / f"o{block[0]}", {"cell": {"fill_holes_nm3": 1e9}}, block)
        expected = ndimage.binary_fill_holes(volume.array > 0)
        assert expected.sum() == (volume.array > 0).sum() + 12
        assert np.array_equal(result.volumes[0].read() > 0, expected)
    limited = found(volume, schema, tmp_path / "o", {"cell": {"fill_holes_nm3": 11 * 3000.0}})
    assert np.array_equal(limited.volumes[0].read() > 0, volume.array > 0)


def test_a_hole_with_an_unlabelled_voxel_stays_open(schema, tmp_path):
    classes = shell()
    classes[3, 4, 4] = 255
    result = found(
        Volume(classes, (30.0, 10.0, 10.0)), schema, tmp_path / "o", {"cell": {"fill_holes_nm3": 1e9}}
    )
    assert (result.volumes[0].read()[3:5, 4:6, 4:7] == 0).all()


def test_small_objects_are_left_away(schema, tmp_path):
    classes = np.zeros((5, 12, 13), np.uint8)
    classes[0, 0, 0] = 1
    classes[2:4, 5:9, 5:9] = 1
    result = found(
        Volume(classes, (30.0, 10.0, 10.0)), schema, tmp_path / "o", {"cell": {"min_volume_nm3": 3001.0}}
    )
    assert result.table["voxels"] == [32]
    assert result.volumes[0].read()[0, 0, 0] == 0


# ---- what is refused, and what goes on -------------------------------------------------------


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_to_find_is_an_empty_table(schema, tmp_path, value):
    volume = Volume(np.full((3, 4, 5), value, np.uint8), (30.0, 10.0, 10.0))
    result = found(volume, schema, tmp_path / "o", {"cell": {"fill_holes_nm3": 1e9}}, block=(2, 3, 5))
    assert (result.counts(), result.thing_voxels) == ({}, 0)
    assert [v.read().any() for v in result.volumes] == [False, False]
    table, cells = (read_table(tmp_path / "o" / name) for name in ("objects.csv", "cells.csv"))
    assert table == result.table
    assert cells == result.cells
    assert {"id", "contact_unlabelled_nm2"} < set(table)
    parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "o/objects.parquet")
    assert str(parquet.schema.field("voxels").type) == "int64"
    assert str(parquet.schema.field("sphericity").type) == "double"


def test_class_ids_that_are_no_uint8(schema, tmp_path):
    for dtype in (np.float32, np.uint16):
        with pytest.raises(InputError, match=f"expected class ids as uint8, found {np.dtype(dtype)}"):
            found(Volume(np.ones((3, 4, 5), dtype), (30.0, 10.0, 10.0)), schema, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_ids_that_are_no_class(schema, tmp_path):
    classes = np.ones((3, 4, 5), np.uint8)
    classes[0, 0, :2] = 9
    with pytest.raises(SchemaError, match=r"found 9 \(2 voxels\)"):
        found(Volume(classes, (30.0, 10.0, 10.0)), schema, tmp_path / "o")


def test_no_thing_class():
    membrane = LabelSchema.resolve("membrane")
    with pytest.raises(SchemaError, match="no class with  thing = true"):
        Rules.of(membrane, (30.0, 10.0, 10.0))


def test_more_than_uint32(ragged, schema, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_ID", 20)
    with pytest.raises(InputError, match="expected at most 20 objects, the largest id of uint32, found"):
        found(ragged, schema, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_objects_that_are_there(whole, ragged, schema, tmp_path):
    first = found(ragged, schema, tmp_path / "o", COMPONENTS)
    with pytest.raises(ExistsError, match="give another --name or --overwrite"):
        found(ragged, schema, tmp_path / "o", COMPONENTS)
    again = found(ragged, schema, tmp_path / "o", SWEPT, tiling=SMALL_TILES, overwrite=True)
    assert again.table == whole.table != first.table


def test_refused_input_leaves_the_objects_that_are_there(ragged, schema, tmp_path):
    found(ragged, schema, tmp_path / "o", COMPONENTS)
    before = {p: p.read_bytes() for p in sorted((tmp_path / "o").rglob("*")) if p.is_file()}
    wrong = Volume(np.full((3, 4, 5), 9, np.uint8), (30.0, 10.0, 10.0))
    with pytest.raises(SchemaError, match=r"found 9 \(60 voxels\)"):
        found(wrong, schema, tmp_path / "o", overwrite=True)
    assert {p: p.read_bytes() for p in sorted((tmp_path / "o").rglob("*")) if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "task", ["LabelTask", "SeamTask", "WholeTask", "TileTask", "PaintTask", "MeasureTask"]
)
def test_a_killed_run_goes_on(ragged, schema, whole, tmp_path, monkeypatch, task):
    real = getattr(module, task).__call__
    calls = []

    def dying(self, index, box):
        calls.append(index)
        if len(calls) == 2 or task == "PaintTask":
            raise Killed
        return real(self, index, box)

    with monkeypatch.context() as patch:
        patch.setattr(getattr(module, task), "__call__", dying)
        with pytest.raises(Killed):
            found(ragged, schema, tmp_path / "o", SWEPT, (13, 24, 61), 1, SMALL_TILES)
    assert not (tmp_path / "o/objects.csv").exists()
    result = found(ragged, schema, tmp_path / "o", SWEPT, (13, 24, 61), 1, SMALL_TILES)
    assert result.table == whole.table
    assert np.array_equal(result.volumes[1].read(), whole.volumes[1].read())
    assert threading.active_count() < 50
    assert math.isfinite(sum(result.table["surface_nm2"]))


def test_a_killed_replacement_goes_on_unless_the_settings_are_others(
    ragged, schema, whole, tmp_path, monkeypatch
):
    old = found(ragged, schema, tmp_path / "o", COMPONENTS)
    asked = {"block": (13, 24, 61), "tiling": SMALL_TILES, "overwrite": True}
    calls = {"LabelTask": 0, "MeasureTask": 0}

    def counted(name, last):
        real = getattr(module, name).__call__

        def call(self, index, box):
            calls[name] += 1
            if calls[name] > last:
                raise Killed
            return real(self, index, box)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(module.LabelTask, "__call__", counted("LabelTask", 99))
        patch.setattr(module.MeasureTask, "__call__", counted("MeasureTask", 1))
        with pytest.raises(Killed):
            found(ragged, schema, tmp_path / "o", SWEPT, **asked)
        assert read_table(tmp_path / "o/objects.csv") == old.table
        first = calls["LabelTask"]
        with pytest.raises(Killed):
            found(ragged, schema, tmp_path / "o", SWEPT, **asked)
        assert calls["LabelTask"] == first > 0
        with pytest.raises(Killed):
            found(ragged, schema, tmp_path / "o", {**SWEPT, "cell": {"connectivity": 6}}, **asked)
        assert calls["LabelTask"] == 2 * first
    assert found(ragged, schema, tmp_path / "o", SWEPT, **asked).table == whole.table
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


def test_of_thin_components_in_a_tile_little_is_kept(schema, tmp_path, monkeypatch):
    """Each is a row along x in its own plane, with a bar along y at its end: a box as large as the plane."""
    classes = np.zeros((23, 40, 90), np.uint8)
    for number, z in enumerate(range(1, 23, 2)):
        classes[z, 2 + 3 * number : 4 + 3 * number, 2:88] = 2
        classes[z, 1:39, 84:88] = 2
    kept, cut = [], []
    real = Scratch.save

    def measured(scratch, name, **arrays):
        if name.startswith("tiles/"):
            kept.append(arrays["labels"].size)
            cut.append(sum(np.prod(box[1] - box[0]) for box in arrays["box"]))
        real(scratch, name, **arrays)

    volume = Volume(classes, (40.0, 10.0, 10.0))
    settings = {"mitochondrion": {"method": "watershed", "h_nm": 1000.0, "connectivity": 6}}
    with monkeypatch.context() as patched:
        patched.setattr(Scratch, "save", measured)
        tiled = found(
            volume, schema, tmp_path / "tiled", settings, tiling=Tiling(100, (23, 40, 30), (2, 4, 6))
        )
    assert sum(kept) < 0.4 * sum(cut)
    assert kept[0] < 0.1 * cut[0]
    assert tiled.counts()["mitochondrion"] == 11
    whole = found(volume, schema, tmp_path / "whole", settings)
    assert np.array_equal(tiled.volumes[1].read(), whole.volumes[1].read())
