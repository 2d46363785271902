import numpy as np
import pytest
import tifffile

from densem.errors import ExistsError, InputError, NotFoundError, SchemaError, ShapeError, VoxelSizeError
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.intake import ImportRequest, import_volume, parse_slices
from densem.volumes import ome_zarr

SHAPE, SIZE = (5, 12, 17), (40.0, 10.0, 5.0)


@pytest.fixture
def study(tmp_path):
    return Study.create(tmp_path / "s", LabelSchema.from_names(["inside", "membrane"]))


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, SHAPE, dtype=np.uint8)
    labels = rng.integers(0, 2, SHAPE).astype(np.uint8)
    labels[0] = 255
    tifffile.imwrite(tmp_path / "image.tif", image)
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    tifffile.imwrite(tmp_path / "objects.tif", np.arange(labels.size, dtype=np.uint16).reshape(SHAPE))
    return tmp_path, image, labels


def bring(study, name="v", **request):
    return import_volume(study, name, ImportRequest(**request), lambda done, total: None)


def state(study):
    return sorted(
        str(p.relative_to(study.folder)) for p in study.folder.rglob("*") if p.name != ".study.lock"
    )


def test_image_labels_and_instances_come_in_together(study, files):
    folder, image, labels = files
    said = bring(
        study, image=folder / "image.tif", labels=folder / "labels.tif", instances=folder / "objects.tif",
        voxel_size_nm=SIZE,
    )  # fmt: skip
    assert said[0] == "Volume v (train): 5 x 12 x 17 voxels of 40 x 10 x 5 nm (z y x), uint8."
    assert "unlabelled 20" in said[1]
    assert np.array_equal(study.image("v").read(), image)
    assert np.array_equal(study.labels("v").read(), labels)
    assert study.objects("v").read().max() == labels.size - 1
    assert study.labels("v").voxel_size_nm == SIZE
    assert study.image("v").provenance["command"] == "densem import"


def test_any_value_of_a_wide_type_can_mean_unlabelled(study, files):
    folder, _, labels = files
    wide = labels.astype(np.uint16)
    wide[wide == 255] = 65535
    tifffile.imwrite(folder / "wide.tif", wide)
    bring(
        study,
        image=folder / "image.tif",
        labels=folder / "wide.tif",
        voxel_size_nm=SIZE,
        unlabelled_value=65535,
    )
    assert np.array_equal(study.labels("v").read(), labels)


def test_slices_cut_both_and_labels_of_the_part_are_taken_whole(study, files):
    folder, image, labels = files
    common = {"image": folder / "image.tif", "voxel_size_nm": SIZE, "slices": parse_slices("1:3")}
    bring(study, "both", labels=folder / "labels.tif", **common)
    tifffile.imwrite(folder / "part.tif", labels[1:3])
    bring(study, "part", labels=folder / "part.tif", **common)
    for name in ("both", "part"):
        assert np.array_equal(study.image(name).read(), image[1:3])
        assert np.array_equal(study.labels(name).read(), labels[1:3])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            np.zeros((5, 12, 16), np.uint8),
            ShapeError,
            r"expected labels of 5 x 12 x 17 voxels .*found 5 x 12 x 16",
        ),
        (np.full(SHAPE, 7, np.uint8), SchemaError, r"found 7 \(1020 voxels\)"),
    ],
)
def test_wrong_labels_leave_the_study_as_it_was(study, files, labels, error, message):
    folder, _, _ = files
    tifffile.imwrite(folder / "wrong.tif", labels)
    before = state(study)
    with pytest.raises(error, match=message):
        bring(study, image=folder / "image.tif", labels=folder / "wrong.tif", voxel_size_nm=SIZE)
    assert state(study) == before
    assert study.manifest.volumes == {}


def test_a_failed_replacement_keeps_what_was_there(study, files):
    folder, image, labels = files
    bring(study, image=folder / "image.tif", labels=folder / "labels.tif", voxel_size_nm=SIZE)
    tifffile.imwrite(folder / "wrong.tif", np.full(SHAPE, 7, np.uint8))
    with pytest.raises(SchemaError):
        bring(
            study, image=folder / "image.tif", labels=folder / "wrong.tif", voxel_size_nm=SIZE, overwrite=True
        )
    assert np.array_equal(study.labels("v").read(), labels)
    assert np.array_equal(study.image("v").read(), image)


def test_replacing_needs_overwrite_and_never_drops_labels_in_passing(study, files):
    folder, image, _ = files
    bring(study, image=folder / "image.tif", labels=folder / "labels.tif", voxel_size_nm=SIZE)
    with pytest.raises(ExistsError, match=r"volume 'v' has image already; give another name, or --overwrite"):
        bring(study, image=folder / "image.tif", voxel_size_nm=SIZE)
    with pytest.raises(ExistsError, match="has labels already"):
        bring(study, labels=folder / "labels.tif")
    tifffile.imwrite(folder / "new.tif", 255 - image)
    with pytest.raises(
        InputError, match=r"would drop its labels; give --labels as well, or first  densem remove"
    ):
        bring(study, image=folder / "new.tif", voxel_size_nm=SIZE, overwrite=True)
    bring(study, image=folder / "new.tif", labels=folder / "labels.tif", voxel_size_nm=SIZE, overwrite=True)
    assert np.array_equal(study.image("v").read(), 255 - image)
    assert [p.name for p in (study.folder / "volumes").iterdir()] == ["v.zarr"]


def test_labels_can_follow_later(study, files):
    folder, _, labels = files
    bring(study, image=folder / "image.tif", voxel_size_nm=SIZE)
    assert study.entry("v").role == "unlabelled"
    bring(study, labels=folder / "labels.tif", role="train")
    assert np.array_equal(study.labels("v").read(), labels)
    assert study.entry("v").role == "train"


def test_a_zarr_volume_is_referred_to_unless_copied(study, files, tmp_path):
    _, image, labels = files
    path = tmp_path / "far.zarr"
    target = ome_zarr.create(path, SHAPE, np.uint8)
    target[:] = image
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], (0.0, 0.0, 0.0), {})
    ome_zarr.finish(path)
    said = bring(study, "far", image=path, labels=tmp_path / "labels.tif")
    assert "referred to, not copied" in said[0]
    assert study.entry("far").referred
    assert np.array_equal(study.labels("far").read(), labels)
    bring(study, "near", image=path, copy=True)
    assert not study.entry("near").referred
    assert np.array_equal(study.image("near").read(), image)


def test_what_is_missing_is_named(study, files):
    folder, _, _ = files
    with pytest.raises(VoxelSizeError, match=r"found none.*--voxel-size Z Y X"):
        bring(study, image=folder / "image.tif")
    with pytest.raises(VoxelSizeError, match=r"must be above zero, found 40 0 5 nm"):
        bring(study, image=folder / "image.tif", voxel_size_nm=(40.0, 0.0, 5.0))
    with pytest.raises(InputError, match="give --image FILE"):
        bring(study)
    with pytest.raises(NotFoundError, match="there is no volume 'v' to add labels to"):
        bring(study, labels=folder / "labels.tif")
    with pytest.raises(InputError, match=r"volume name '\.\./v'"):
        bring(study, "../v", image=folder / "image.tif", voxel_size_nm=SIZE)
    assert not (study.folder.parent / "v.zarr").exists()


@pytest.mark.parametrize("text", ["3", "5:2", "2:2", "-1:3", "a:b", "1:3:2"])
def test_slices_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="expected FIRST:END"):
        parse_slices(text)
