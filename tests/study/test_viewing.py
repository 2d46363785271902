"""What of a study is shown, and what is said where there is nothing to show."""

import json
import shutil

import numpy as np
import pytest

from densem.errors import DensemWarning, InputError, NotFoundError
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import ObjectsEntry, PredictionEntry, VolumeEntry, locked
from densem.study.viewing import ViewRequest, view_of_study
from densem.viewer import state_of
from densem.volumes import ome_zarr

SIZE, OFFSET = (40.0, 10.0, 12.5), (400.0, 50.0, -25.0)
COLUMNS = (
    "id,class,level,parent,volume_nm3,centroid_z_nm,centroid_y_nm,centroid_x_nm,box_z_start_nm,box_z_stop_nm,"
    "box_y_start_nm,box_y_stop_nm,box_x_start_nm,box_x_stop_nm"
)
ROWS = (
    "1,cell,0,0,9e6,480,100,75,400,560,60,140,50,100",
    "2,alpha_granule,1,1,3e5,470,90,70,440,480,80,110,60,85",
    "3,alpha_granule,1,1,2e5,470,90,70,440,480,80,110,60,85",
    "4,mitochondrion,1,0,1e5,500,95,75,480,520,90,100,62.5,87.5",
)


def write(path, array, size=SIZE, record=None):
    part = ome_zarr.create(path, array.shape, array.dtype)
    part[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", size)], OFFSET, record or {})
    return ome_zarr.finish(path)


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr("densem.study.viewing.find_client", lambda: tmp_path)
    made = Study.create(tmp_path / "st", LabelSchema.resolve("platelet"))
    classes = np.ones((4, 12, 14), np.uint8)
    grey = np.arange(classes.size, dtype=np.uint8).reshape(classes.shape)
    home = made.folder
    for name in ("vol", "bare"):
        write(home / f"volumes/{name}.zarr", grey)
    write(home / "annotations/vol/semantic.zarr", classes)
    write(home / "predictions/first/classes.zarr", classes, record={"complete": True})
    write(home / "predictions/first/confidence.zarr", grey[:, ::2], (40.0, 20.0, 12.5), {"complete": True})
    for level in (0, 1):
        write(home / f"objects/first/objects-{level}.zarr", classes.astype(np.uint32))
    (home / "objects/first/objects.csv").write_text("\n".join((COLUMNS, *ROWS)) + "\n")
    with locked(made.path) as manifest:
        manifest.volumes["bare"] = VolumeEntry(role="train", image="volumes/bare.zarr")
        manifest.volumes["vol"] = VolumeEntry(
            role="eval", image="volumes/vol.zarr", semantic="annotations/vol/semantic.zarr"
        )
        manifest.predictions["first"] = PredictionEntry(
            models=["m"], model_id="x", volume="vol", volume_id="y"
        )
        manifest.objects["first"] = ObjectsEntry(
            source="prediction", name="first", volume="vol", classes_id="z"
        )
    return made


def shown(study, **request):
    view = view_of_study(study.folder, ViewRequest(**request))
    state = state_of(view.site.scene, "http://h", "T")
    return view, state, {layer["name"]: layer for layer in state["layers"]}


def test_the_volume_with_most_to_see(study):
    view, state, layers = shown(study)
    assert list(layers) == [
        "image", "labels", "first", "first: confidence", "first: cell", "first: things in cell",
    ]  # fmt: skip
    assert [n for n, layer in layers.items() if layer["visible"]] == [
        "image", "first: cell", "first: things in cell",
    ]  # fmt: skip
    assert view.lines == (
        "Volume vol of study st: image, labels, first, first: confidence, first: cell, first: things in cell",
        "Other volumes (--volume): bare",
        "Objects first have no meshes for Neuroglancer; make them with  "
        f"densem mesh {study.folder} --objects first --format precomputed",
    )
    # the middle: 400 + 80, 50 + 60, -25 + 87.5 nm, in voxels
    assert state["position"] == [5.0, 11.0, 12.0]
    assert state["title"] == "st vol"
    assert state["showSlices"] is True


def test_classes_have_the_colours_and_names_of_the_schema(study):
    view, _, layers = shown(study)
    classes = layers["labels"]
    assert classes["segments"] == ["1", "2", "3", "4", "5", "6"]  # neither background nor unlabelled
    assert classes["segmentColors"]["2"] == "#01abfe"
    assert classes["hideSegmentZero"] is True
    assert classes["source"][1] == "http://h/names/T/classes/|neuroglancer-precomputed:"
    inline = view.site.names["classes"]()["inline"]
    assert dict(zip(inline["ids"], inline["properties"][0]["values"], strict=True))["5"] == "dense_granule"


def test_a_class_with_id_0_that_is_no_background_is_drawn(study):
    schema = LabelSchema.from_names(["soma", "axon"])
    with locked(study.path) as manifest:
        manifest.schema_ = schema
    _, _, layers = shown(study)
    assert layers["labels"]["segments"] == ["0", "1"]
    assert layers["labels"]["hideSegmentZero"] is False


def test_objects_have_the_colours_of_their_class(study):
    view, _, layers = shown(study)
    inner = layers["first: things in cell"]
    assert inner["segments"] == ["2", "3", "4"]
    assert (inner["segmentDefaultColor"], inner["segmentColors"]) == ("#01fe01", {"4": "#01abfe"})
    assert (layers["first: cell"]["objectAlpha"], inner["objectAlpha"]) == (0.25, 1.0)
    inline = view.site.names["objects.first.1"]()["inline"]
    label, tags, volume, parent = inline["properties"]
    assert label["values"] == ["alpha_granule 2", "alpha_granule 3", "mitochondrion 4"]
    assert [tags["tags"][v[0]] for v in tags["values"]] == ["alpha_granule", "alpha_granule", "mitochondrion"]
    assert (volume["values"], parent["values"]) == ([0.0003, 0.0002, 0.0001], [1, 1, 0])


def test_what_lies_two_deep_names_its_parent_and_its_cell(study):
    folder = study.folder / "objects/first"
    write(folder / "objects-2.zarr", np.ones((4, 12, 14), np.uint32))
    with (folder / "objects.csv").open("a") as handle:
        handle.write("5,dense_granule_core,2,3,1e5,470,90,70,440,480,80,110,60,85\n")
    view, _, _ = shown(study)
    numbers = view.site.names["objects.first.2"]()["inline"]["properties"][2:]
    assert [(n["id"], n["values"]) for n in numbers] == [
        ("volume_um3", [0.0001]),
        ("parent", [3]),
        ("cell", [1]),
    ]


def test_other_voxel_sizes_overlay(study):
    _, _, layers = shown(study)
    fine, coarse = layers["image"]["source"]["transform"], layers["first: confidence"]["source"]["transform"]
    assert fine["outputDimensions"]["y"] == [1e-8, "m"]
    assert coarse["outputDimensions"]["y"] == [2e-8, "m"]
    # Neuroglancer takes the offset for the centre of a voxel of either size: half of each brings both back
    assert [row[-1] for row in fine["matrix"]] == [row[-1] for row in coarse["matrix"]] == [0.5, 0.5, 0.5]


def test_opened_at_an_object(study):
    _, state, layers = shown(study, object=2)
    assert state["position"] == [5.6, 9.0, 11.75]
    assert state["crossSectionScale"] == 0.06389  # 20 voxels of 10 nm over 360 pixels, and some room
    assert layers["first: cell"]["segments"] == ["1"]
    assert layers["first: things in cell"]["segments"] == ["2"]
    assert state["selectedLayer"]["layer"] == "first: things in cell"
    assert state["selection"] == {"layers": {"first: things in cell": {"value": "2"}}}
    _, _, layers = shown(study, object=1)
    assert layers["first: things in cell"]["segments"] == ["2", "3"]


def test_opened_at_an_object_that_holds_nothing_no_other_is_drawn(study):
    _, _, layers = shown(study, object=4)
    assert layers["first: cell"]["segments"] == []  # 4 lies in no cell
    # otherwise Neuroglancer takes no segment for all of them
    assert layers["first: cell"]["ignoreNullVisibleSet"] is False
    assert layers["first: things in cell"]["ignoreNullVisibleSet"] is False
    _, _, layers = shown(study)
    assert layers["first: cell"]["ignoreNullVisibleSet"] is True


def test_meshes_where_they_are(study):
    folder = study.folder / "objects/first/meshes/precomputed"
    folder.mkdir(parents=True)
    (folder / "info").write_text(json.dumps({"@type": "neuroglancer_legacy_mesh"}))
    (folder / "1:0").write_text("{}")
    view, state, layers = shown(study)
    assert not [line for line in view.lines if "densem mesh" in line]
    url = "http://h/data/T/objects.first.meshes/|neuroglancer-precomputed:"
    assert [layers[name]["source"][2]["url"] for name in ("first: cell", "first: things in cell")] == [
        url,
        url,
    ]
    assert state["showSlices"] is False
    share = view.site.shares["objects.first.meshes"]
    assert share.find(["info"]) == (folder / "info").resolve()
    assert share.find(["1:0"]) is not None
    assert share.find([".hidden"]) is None


def test_meshes_in_other_formats_alone_are_said_with_the_command_that_keeps_them(study):
    folder = study.folder / "objects/first/meshes"
    folder.mkdir()
    (folder / "meshes.json").write_text(json.dumps({"meshes": [{"files": {"stl": "a.stl", "glb": "a.glb"}}]}))
    view, _, layers = shown(study)
    assert len(layers["first: cell"]["source"]) == 2  # ids and names
    assert view.lines[-1].endswith(
        f"densem mesh {study.folder} --objects first --format glb --format stl --format precomputed --overwrite"
    )
    (study.folder / "objects/first/objects.csv").write_text(COLUMNS + "\n")
    view, _, _ = shown(study)
    assert "mesh" not in view.lines[-1]  # there is nothing to mesh


def test_nothing_else_of_the_study_is_served(study):
    view, _, _ = shown(study)
    folders = {str(s.folder.relative_to(study.folder.resolve())) for s in view.site.shares.values()}
    assert folders == {
        "volumes/vol.zarr", "annotations/vol/semantic.zarr", "predictions/first/classes.zarr",
        "predictions/first/confidence.zarr", "objects/first/objects-0.zarr", "objects/first/objects-1.zarr",
    }  # fmt: skip


def test_without_objects_the_prediction_is_switched_on_and_without_that_the_labels(study):
    with locked(study.path) as manifest:
        manifest.objects.clear()
    _, _, layers = shown(study)
    assert [n for n, layer in layers.items() if layer["visible"]] == ["image", "first"]
    with locked(study.path) as manifest:
        manifest.predictions.clear()
    _, _, layers = shown(study)
    assert [n for n, layer in layers.items() if layer["visible"]] == ["image", "labels"]
    _, _, layers = shown(study, volume="bare")
    assert list(layers) == ["image"]


def test_probabilities_are_a_layer_for_each_class(study):
    import zarr

    path = study.folder / "predictions/first/probabilities.zarr"
    zarr.open_group(path, mode="w").create_array("s0", shape=(7, 4, 12, 14), dtype="float32")
    _, _, layers = shown(study)
    made = layers["first: probability of mitochondrion"]
    assert made["localPosition"] == [2.5]
    assert list(made["source"]["transform"]["outputDimensions"]) == ["c'", "z", "y", "x"]
    assert "0.004, 0.671, 0.996" in made["shader"]
    assert made["visible"] is False


def test_grey_window(study):
    from densem.volumes.ome_zarr import update_attributes

    facts = {"mean": 1, "std": 1, "minimum": 0, "maximum": 9, "low": 2.0, "high": 8.0, "sharpness": 0}
    update_attributes(study.folder / "volumes/vol.zarr", intensity=facts)
    _, _, layers = shown(study)
    assert layers["image"]["shaderControls"] == {"normalized": {"range": [2.0, 8.0]}}
    rng = np.random.default_rng(0)
    deep = rng.integers(1000, 1100, (4, 40, 50)).astype(np.uint16)
    write(study.folder / "volumes/deep.zarr", deep)
    with locked(study.path) as manifest:
        manifest.volumes["deep"] = VolumeEntry(role="train", image="volumes/deep.zarr")
    low, high = shown(study, volume="deep")[2]["image"]["shaderControls"]["normalized"]["range"]
    assert 1000 <= low < 1005
    assert 1095 < high <= 1100


# ---- what is said where it cannot be ----------------------------------------------------------


def refused(study, error, match, **request):
    with pytest.raises(error, match=match):
        view_of_study(study.folder, ViewRequest(**request))


def test_names_that_are_not_there(study):
    refused(study, NotFoundError, "no prediction 'frist'. Did you mean 'first'", predictions=("frist",))
    refused(study, NotFoundError, "no objects 'x'. Known: first", objects="x")
    refused(study, NotFoundError, "no volume 'vole'. Did you mean 'vol'", volume="vole")
    refused(study, NotFoundError, r"objects 'first' have no object 17: ids go from 1 to 4", object=17)
    refused(study, NotFoundError, "have no object -1", object=-1)


def test_names_that_do_not_go_together(study):
    refused(
        study, InputError, "prediction first is of volume 'vol', --volume is 'bare'; look at one",
        volume="bare", predictions=("first",),
    )  # fmt: skip
    refused(study, InputError, "--object 1, but volume 'bare' has no objects yet", volume="bare", object=1)


def test_nothing_to_see(tmp_path, study):
    empty = Study.create(tmp_path / "empty", LabelSchema.resolve("platelet"))
    refused(empty, InputError, "nothing to see, it has no volumes yet; bring one in with  densem import")
    with pytest.raises(NotFoundError, match="no study there"):
        view_of_study(tmp_path / "nowhere", ViewRequest())


def test_what_is_unfinished_or_gone_is_left_out_or_refused(study):
    shutil.rmtree(study.folder / "predictions/first")
    (study.folder / "objects/first/objects.csv").unlink()
    with pytest.warns(DensemWarning) as said:
        _, _, layers = shown(study, volume="vol")
    assert list(layers) == ["image", "labels"]
    assert "left out: study st: prediction 'first' stands in study.toml, but its folder" in str(
        said[0].message
    )
    assert "left out: study st: objects 'first' stand in study.toml, but are not finished" in str(
        said[1].message
    )
    with pytest.warns(DensemWarning):
        refused(study, NotFoundError, "was the study moved without it", predictions=("first",))
    (study.folder / "predictions/first").mkdir()
    with pytest.warns(DensemWarning):
        refused(study, InputError, "prediction 'first' is not finished; run its", predictions=("first",))
    with pytest.warns(DensemWarning):
        refused(study, NotFoundError, "objects 'first' stand in study.toml", objects="first")


def test_a_study_that_was_moved_is_still_seen(study, tmp_path):
    moved = shutil.move(study.folder, tmp_path / "elsewhere")
    view = view_of_study(tmp_path / "elsewhere", ViewRequest())
    assert all(str(s.folder).startswith(str(moved)) for s in view.site.shares.values())


def test_an_image_that_is_referred_to(study, tmp_path):
    shutil.move(study.folder / "volumes/vol.zarr", tmp_path / "far.zarr")
    with locked(study.path) as manifest:
        entry = manifest.volumes["vol"]
        manifest.volumes["vol"] = entry.model_copy(update={"image": str(tmp_path / "far.zarr")})
    view, _, _ = shown(study)
    assert view.site.shares["image"].folder == tmp_path / "far.zarr"
    shutil.rmtree(tmp_path / "far.zarr")
    refused(study, NotFoundError, r"its image .*far.zarr is gone; put it back or import the volume anew")


def test_links_out_of_the_study_are_refused(study, tmp_path):
    shutil.move(study.folder / "predictions/first/classes.zarr", tmp_path / "classes.zarr")
    (study.folder / "predictions/first/classes.zarr").symlink_to(tmp_path / "classes.zarr")
    refused(
        study,
        InputError,
        r"classes.zarr: leads out of the study, to .*; densem view serves only what lies in it",
    )


def test_an_object_of_several_sets_is_ambiguous(study):
    """Ids of other objects mean something else."""
    shutil.copytree(study.folder / "objects/first", study.folder / "objects/again")
    with locked(study.path) as manifest:
        manifest.objects["again"] = manifest.objects["first"]
    with pytest.raises(
        InputError,
        match=r"--object 2, but volume 'vol' has objects first, again, .* say which with --objects",
    ):
        shown(study, object=2)
    _, _, layers = shown(study, objects="first", object=2)
    assert "first: cell" in layers
    assert not any(name.startswith("again") for name in layers)
