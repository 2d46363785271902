"""Annotators: labels by name come in, follow their volume, and are compared with each other."""

import json

import numpy as np
import pytest
import tifffile
from sklearn.metrics import accuracy_score, jaccard_score

from densem.cli.app import run
from densem.errors import ExistsError, InputError, NotFoundError, SchemaError
from densem.evaluation import BlockTables, Boundaries, Scores
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.agreement import annotator_agreement
from densem.study.intake import ImportRequest, import_volume
from densem.study.manifest import locked

SHAPE, SIZE = (5, 12, 17), (40.0, 10.0, 5.0)


@pytest.fixture
def labels():
    """Those of main, anna and ben; each leaves other voxels unlabelled."""
    rng = np.random.default_rng(0)
    main = rng.integers(0, 3, SHAPE).astype(np.uint8)
    anna = np.where(rng.random(SHAPE) < 0.8, main, rng.integers(0, 3, SHAPE)).astype(np.uint8)
    ben = np.where(rng.random(SHAPE) < 0.6, main, 0).astype(np.uint8)
    main[0, :4], anna[1, :, :3], ben[:, 5] = 255, 255, 255
    return {"main": main, "anna": anna, "ben": ben}


@pytest.fixture
def study(tmp_path, labels):
    """A volume with two annotations."""
    made = Study.create(tmp_path / "s", LabelSchema.from_names(["inside", "membrane", "vesicle"]))
    tifffile.imwrite(tmp_path / "image.tif", np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE))
    for name, array in labels.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
    bring(made, image=tmp_path / "image.tif", labels=tmp_path / "main.tif", voxel_size_nm=SIZE)
    bring(made, labels=tmp_path / "anna.tif", annotator="anna")
    return made


def bring(study, name="v", **request):
    return import_volume(study, name, ImportRequest(**request), lambda done, total: None)


# ---- importing -------------------------------------------------------------------------------


def test_labels_by_name_lie_beside_the_main_ones(study, labels, tmp_path):
    said = bring(study, labels=tmp_path / "ben.tif", annotator="ben")
    assert said[1].startswith("Labels by ben, % of the voxels: inside")
    assert study.annotators("v") == ["main", "anna", "ben"]
    for name, array in labels.items():
        assert np.array_equal(study.annotation("v", name).read(), array)
    assert np.array_equal(study.labels("v").read(), labels["main"])
    assert sorted(p.name for p in (study.folder / "annotations/v").iterdir()) == [
        "semantic.anna.zarr", "semantic.ben.zarr", "semantic.zarr",
    ]  # fmt: skip
    assert study.entry("v").role == "train"


def test_they_follow_their_volume_when_it_is_renamed_or_removed(study, labels):
    study.rename_volume("v", "w")
    assert np.array_equal(study.annotation("w", "anna").read(), labels["anna"])
    assert [p.name for p in (study.folder / "annotations").iterdir()] == ["w"]
    assert study.remove_annotation("w") == ["annotations/w/semantic.zarr", "annotations/w/semantic.anna.zarr"]
    assert study.annotators("w") == []
    assert not (study.folder / "annotations/w").exists()


def test_labels_that_are_there_are_replaced_only_if_asked(study, labels, tmp_path):
    with pytest.raises(
        ExistsError, match="volume 'v' has labels by anna already; give another name, or --ov"
    ):
        bring(study, labels=tmp_path / "ben.tif", annotator="anna")
    bring(study, labels=tmp_path / "ben.tif", annotator="anna", overwrite=True)
    assert np.array_equal(study.annotation("v", "anna").read(), labels["ben"])
    assert np.array_equal(study.labels("v").read(), labels["main"])
    bring(study, labels=tmp_path / "ben.tif", overwrite=True)
    assert study.annotators("v") == ["main", "anna"]


def test_a_new_image_never_drops_them_in_passing(study, tmp_path):
    with pytest.raises(InputError, match="replacing the image of 'v' would drop its labels by anna; first"):
        bring(
            study,
            image=tmp_path / "image.tif",
            labels=tmp_path / "main.tif",
            voxel_size_nm=SIZE,
            overwrite=True,
        )
    assert study.annotators("v") == ["main", "anna"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"annotator": "main", "labels": "ben.tif"},
            "that is what the labels without an annotator are called",
        ),
        ({"annotator": "../ben", "labels": "ben.tif"}, "annotator name '../ben': expected letters, digits"),
        (
            {"annotator": "ben", "instances": "ben.tif"},
            "expected it with --labels FILE, and without --instances",
        ),
    ],
)
def test_names_that_cannot_be_are_refused(study, tmp_path, request_, message):
    paths = {k: v if k == "annotator" else tmp_path / v for k, v in request_.items()}
    with pytest.raises(InputError, match=message):
        bring(study, **paths)
    assert study.annotators("v") == ["main", "anna"]


# ---- comparing -------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [("main", "anna"), ("anna", "main")])
def test_agreement_is_over_voxels_that_both_have_labelled(study, labels, pair):
    found = annotator_agreement(study.folder, "v", pair)
    both = (labels["main"] != 255) & (labels["anna"] != 255)
    first, second = (labels[name][both] for name in pair)
    assert found.scores.miou == pytest.approx(jaccard_score(first, second, average="macro"))
    assert found.scores.accuracy == pytest.approx(accuracy_score(first, second))
    assert (found.scores.voxels, found.scores.left_out) == (both.sum(), (~both).sum())
    assert all(row[-1] == 0 for row in found.scores.confusion)  # nobody is wrong for what they left out
    assert (found.reference, found.other) == pair
    assert np.array_equal(found.tables.whole().counts, np.array(found.scores.confusion))


def test_precision_and_recall_change_places_and_all_else_is_the_same(study):
    one, other = (annotator_agreement(study.folder, "v", p, with_boundaries=True)
                  for p in (("main", "anna"), ("anna", "main")))  # fmt: skip
    for a, b in zip(one.scores.classes, other.scores.classes, strict=True):
        assert (a.iou, a.f1, a.precision, a.recall) == (b.iou, b.f1, b.recall, b.precision)
    assert (one.scores.miou, one.scores.accuracy) == (other.scores.miou, other.scores.accuracy)
    assert one.scores.ari == pytest.approx(other.scores.ari)
    for a, b in zip(one.boundaries.classes, other.boundaries.classes, strict=True):
        assert (a.mean_nm, a.surface_dice) == (pytest.approx(b.mean_nm), pytest.approx(b.surface_dice))
        assert a.hausdorff95_nm == b.hausdorff95_nm


def test_two_annotations_are_found_by_themselves(study, tmp_path):
    found = annotator_agreement(study.folder, "v")
    assert (found.reference, found.other) == ("main", "anna")
    bring(study, labels=tmp_path / "ben.tif", annotator="ben")
    with pytest.raises(
        InputError, match="has annotations by main, anna, ben; say which two with  --annotators"
    ):
        annotator_agreement(study.folder, "v")


def test_the_command_prints_a_table_and_json(study, capsys):
    assert run(["agreement", str(study.folder), "v", "--boundaries"]) == 0
    said = capsys.readouterr().out
    assert "Volume v: anna against main, the reference of precision and recall" in said
    assert "MIoU 0." in said
    assert (
        run(["agreement", str(study.folder), "v", "--annotators", "anna", "main", "--boundaries", "--json"])
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert (record["volume"], record["reference"], record["other"]) == ("v", "anna", "main")
    expected = annotator_agreement(study.folder, "v", ("anna", "main"), with_boundaries=True)
    assert Scores.from_dict(record) == expected.scores
    assert Boundaries.from_dict(record["boundaries"]) == expected.boundaries


def test_the_tables_can_be_kept(study, tmp_path):
    tables = annotator_agreement(study.folder, "v").tables
    assert np.array_equal(BlockTables.load(tables.save(tmp_path / "b.npz")).counts, tables.counts)


def test_refusals(study, tmp_path):
    def agree(*names, volume="v"):
        return annotator_agreement(study.folder, volume, names or None)

    with pytest.raises(NotFoundError, match=r"no annotation by 'ana'\. Did you mean 'anna'"):
        agree("main", "ana")
    with pytest.raises(NotFoundError, match="no volume 'w'"):
        agree(volume="w")
    with pytest.raises(
        InputError, match="annotators anna and anna: expected two different ones of volume 'v'"
    ):
        agree("anna", "anna")
    bring(study, "alone", image=tmp_path / "image.tif", labels=tmp_path / "main.tif", voxel_size_nm=SIZE)
    with pytest.raises(
        InputError, match=r"'alone' has one annotation \(main\), and agreement needs two; add an"
    ):
        agree(volume="alone")
    bring(study, "bare", image=tmp_path / "image.tif", voxel_size_nm=SIZE)
    with pytest.raises(InputError, match="volume 'bare' has no annotation, and agreement needs two"):
        agree(volume="bare")
    nowhere = np.full(SHAPE, 255, np.uint8)
    nowhere[0, 0] = 1  # where main has nothing
    tifffile.imwrite(tmp_path / "nowhere.tif", nowhere)
    bring(study, labels=tmp_path / "nowhere.tif", annotator="cleo")
    with pytest.raises(InputError, match="there is no labelled voxel to score"):
        agree("main", "cleo")


def test_labels_of_other_classes_are_refused(study):
    with locked(study.path) as manifest:
        manifest.schema_ = LabelSchema.from_names(["inside", "vesicle", "membrane"])
    with pytest.raises(
        SchemaError, match="annotation of 'v' by main was made with other classes: found 1 = memb"
    ):
        annotator_agreement(study.folder, "v")
