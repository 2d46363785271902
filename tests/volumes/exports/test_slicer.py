"""NRRD and NIfTI for 3D Slicer, read back by nibabel, and by pynrrd, SimpleITK and slicerio where they are."""

import nibabel
import numpy as np
import pytest

from densem.errors import ExistsError, InputError
from densem.schema import LabelSchema
from densem.volumes import Volume
from densem.volumes.exports import ExportOptions, Source, export_volume, nifti

CENTRE_MM = (75e-6, -20e-6, 100e-6)
"""Centre of the first voxel in x, y, z: offset and half a voxel."""
SIDES_MM = (10e-6, 8e-6, 40e-6)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nibabel_reads_affine_unit_and_voxels(gray, tmp_path, ending):
    export_volume(gray, "nifti", tmp_path / f"a{ending}")
    image = nibabel.load(tmp_path / f"a{ending}")
    x, y, z = SIDES_MM
    expected = np.diag([-x, -y, z, 1.0])
    expected[:3, 3] = -CENTRE_MM[0], -CENTRE_MM[1], CENTRE_MM[2]
    for affine in (image.affine, image.get_sform(), image.get_qform()):
        assert affine == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header.get_zooms() == pytest.approx(SIDES_MM)
    assert image.header["descrip"].item() == b"densem: gray"
    found = np.asarray(image.dataobj)
    assert found.dtype == np.uint16
    assert np.array_equal(found.transpose(2, 1, 0), gray.volume.read())


def test_nifti_in_micrometres_with_labels_and_their_colours(classes, objects, tmp_path):
    said = export_volume(classes, "nifti", tmp_path / "a.nii.gz", ExportOptions(unit="um"))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.header.get_xyzt_units()[0] == "micron"
    assert image.header.get_zooms() == pytest.approx((0.01, 0.008, 0.04))
    assert image.header.get_intent()[0] == "label"
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), classes.volume.read())
    table = (tmp_path / "a.ctbl").read_text().splitlines()
    assert table[:2] == ["# Color table file a.ctbl", "# 8 values"]
    assert table[2] == "0 background 0 0 0 0"
    assert table[4] == "2 mitochondrion 1 171 254 255"
    assert table[-1] == "255 unlabelled 128 128 128 255"
    assert f"{tmp_path / 'a.ctbl'}: colours and names, for 3D Slicer's module Colors" in said
    export_volume(objects, "nifti", tmp_path / "b.nii")
    found = np.asarray(nibabel.load(tmp_path / "b.nii").dataobj)
    assert found.dtype == np.uint32
    assert np.array_equal(found.transpose(2, 1, 0), objects.volume.read())


def test_a_side_too_long_for_nifti_is_refused(gray, tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "LONGEST_SIDE", 17)
    with pytest.raises(InputError) as caught:
        export_volume(gray, "nifti", tmp_path / "a.nii")
    assert str(caught.value) == (
        "gray: expected sides of at most 17 voxels, the longest of NIfTI-1, found 5 x 13 x 18; export a --box, a "
        "coarser --scale, or take nrrd"
    )


HEADER = """\
NRRD0005
# densem: gray
type: uint16
dimension: 3
space: left-posterior-superior
sizes: 18 13 5
space directions: (1e-05,0,0) (0,8e-06,0) (0,0,4e-05)
kinds: domain domain domain
endian: little
encoding: gzip
space units: "mm" "mm" "mm"
space origin: (7.5e-05,-2e-05,0.0001)

"""


def test_nrrd_literally(gray, tmp_path):
    export_volume(gray, "nrrd", tmp_path / "a.nrrd")
    assert (tmp_path / "a.nrrd").read_bytes().startswith(HEADER.encode())
    assert [p.name for p in tmp_path.iterdir()] == ["a.nrrd"]


def test_pynrrd_reads_nrrd(gray, objects, tmp_path):
    nrrd = pytest.importorskip("nrrd")
    export_volume(gray, "nrrd", tmp_path / "a.nrrd")
    found, header = nrrd.read(str(tmp_path / "a.nrrd"), index_order="C")
    assert found.dtype == np.uint16
    assert np.array_equal(found, gray.volume.read())
    assert header["space"] == "left-posterior-superior"
    assert header["space directions"] == pytest.approx(np.diag(SIDES_MM))
    assert header["space origin"] == pytest.approx(CENTRE_MM)
    assert header["space units"] == ["mm", "mm", "mm"]
    export_volume(objects, "nrrd", tmp_path / "b.nrrd", ExportOptions(unit="um"))
    found, header = nrrd.read(str(tmp_path / "b.nrrd"), index_order="C")
    assert np.array_equal(found, objects.volume.read())
    assert header["space directions"] == pytest.approx(np.diag([0.01, 0.008, 0.04]))
    assert header["space units"] == ["um", "um", "um"]


@pytest.mark.parametrize(("to", "name"), [("nrrd", "a.nrrd"), ("nifti", "a.nii.gz")])
def test_simpleitk_finds_both_at_the_same_place(gray, tmp_path, to, name):
    sitk = pytest.importorskip("SimpleITK")
    export_volume(gray, to, tmp_path / name)
    image = sitk.ReadImage(str(tmp_path / name))  # ITK speaks LPS
    assert image.GetOrigin() == pytest.approx(CENTRE_MM, rel=1e-5)
    assert image.GetSpacing() == pytest.approx(SIDES_MM, rel=1e-5)
    assert image.GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1), abs=1e-6)
    assert np.array_equal(sitk.GetArrayFromImage(image), gray.volume.read())


def segments(path):
    """Key/value lines of an NRRD header by key."""
    head = path.read_bytes().split(b"\n\n", 1)[0].decode()
    return dict(line.split(":=", 1) for line in head.splitlines() if ":=" in line)


def test_a_segmentation_names_and_colours_its_segments(classes, tmp_path):
    export_volume(classes, "nrrd", tmp_path / "a.seg.nrrd")
    found = segments(tmp_path / "a.seg.nrrd")
    assert [found[f"Segment{i}_LabelValue"] for i in range(7)] == ["1", "2", "3", "4", "5", "6", "255"]
    assert found["Segment1_Name"] == "mitochondrion"
    assert [round(255 * float(v)) for v in found["Segment1_Color"].split()] == [1, 171, 254]
    assert found["Segment6_Name"] == "unlabelled"
    assert found["Segment6_Extent"] == "0 17 0 12 0 4"
    assert found["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert [p.name for p in tmp_path.iterdir()] == ["a.seg.nrrd"]


def test_slicerio_reads_the_segmentation(classes, objects, tmp_path):
    slicerio = pytest.importorskip("slicerio")
    for source in (classes, objects):
        path = tmp_path / f"{source.title}.seg.nrrd"
        export_volume(source, "nrrd", path)
        found = slicerio.read_segmentation(str(path))
        assert np.array_equal(found["voxels"].transpose(2, 1, 0), source.volume.read())
        names = {s["labelValue"]: s["name"] for s in found["segments"]}
        assert names[12 if source is objects else 5] == (
            "mitochondrion 12" if source is objects else "dense_granule"
        )


def test_a_label_map_has_a_colour_table_beside_it(classes, tmp_path):
    export_volume(classes, "nrrd", tmp_path / "a.nrrd")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ctbl", "a.nrrd"]


def test_too_many_segments_and_images_as_segments_are_refused(schema, gray, tmp_path):
    voxels = np.arange(1500, dtype=np.uint32).reshape(3, 20, 25)
    many = Source(
        Volume(voxels, (1.0, 1.0, 1.0)), "objects", "many", schema, dict.fromkeys(range(1, 1500), "cell")
    )
    with pytest.raises(InputError) as caught:
        export_volume(many, "nrrd", tmp_path / "a.seg.nrrd")
    assert str(caught.value) == (
        "many: expected at most 1000 segments, more than which Slicer does not handle, found 1499 objects; give "
        "--out a name that ends in .nrrd (a label map), or export classes"
    )
    with pytest.raises(
        InputError, match=r"gray: expected labels for a segmentation \(.seg.nrrd\), found an image"
    ):
        export_volume(gray, "nrrd", tmp_path / "a.seg.nrrd")
    assert not list(tmp_path.iterdir())


def test_ids_of_64_bits_are_narrowed_or_refused(tmp_path):
    schema = LabelSchema.resolve("membrane")
    wide = np.zeros((2, 3, 4), np.uint64)
    wide[1, 2, 3] = 2**32 - 1
    export_volume(
        Source(Volume(wide, (1.0, 1.0, 1.0)), "objects", "wide", schema), "nifti", tmp_path / "a.nii"
    )
    assert int(np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)[3, 2, 1]) == 2**32 - 1
    wide[0, 0, 0] = 2**40
    with pytest.raises(
        InputError, match="expected ids up to 4294967295, the largest that NRRD holds, found 1099511627776"
    ):
        export_volume(
            Source(Volume(wide, (1.0, 1.0, 1.0)), "objects", "wide", schema), "nrrd", tmp_path / "b.nrrd"
        )


def test_both_formats_share_an_equal_table_of_colours(classes, tmp_path):
    """Of one name they would both write it; another one is not replaced unasked."""
    export_volume(classes, "nifti", tmp_path / "a.nii")
    table = (tmp_path / "a.ctbl").read_text()
    export_volume(classes, "nrrd", tmp_path / "a.nrrd")
    assert (tmp_path / "a.ctbl").read_text() == table
    (tmp_path / "a.nii").unlink()
    (tmp_path / "a.ctbl").write_text("mine")
    with pytest.raises(ExistsError, match=r"a\.ctbl: exists already; give another --out or --overwrite"):
        export_volume(classes, "nifti", tmp_path / "a.nii")
    assert not (tmp_path / "a.nii").exists()
    export_volume(classes, "nifti", tmp_path / "a.nii", overwrite=True)
    assert (tmp_path / "a.ctbl").read_text() == table
