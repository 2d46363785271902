import numpy as np
import pytest
import tifffile

from densem.errors import FormatError
from densem.schema import LabelSchema
from densem.volumes import Writing, import_image, import_labels, import_objects, open_stack, summary
from densem.volumes.summary import describe_file

VOXEL = (40.0, 10.0, 12.0)


@pytest.fixture
def path(tmp_path, image):
    tifffile.imwrite(tmp_path / "a.tif", image, metadata=None)
    return tmp_path / "a.tif"


def test_an_image_file(path, image):
    assert describe_file(path) == {
        "path": str(path),
        "format": "TIFF",
        "shape": [6, 40, 70],
        "dtype": "uint8",
        "voxel size nm": "none stored",
        "range": [int(image.min()), int(image.max())],
    }


def test_a_label_file(tmp_path):
    labels = np.zeros((3, 9, 8), np.uint16)
    labels[1, 2:4, :3], labels[2] = 7, 300
    meta = {"axes": "ZYX", "spacing": 40, "unit": "nm"}
    tifffile.imwrite(tmp_path / "l.tif", labels, imagej=True, metadata=meta, resolution=(1 / 12, 1 / 10))
    facts = describe_file(tmp_path / "l.tif")
    assert facts["labels"] == {"0": 3 * 72 - 6 - 72, "7": 6, "300": 72}
    assert facts["voxel size nm"] == pytest.approx([40, 10, 12])


def test_imported_volumes_tell_what_is_stored(tmp_path, path, image):
    writing = Writing(provenance={"command": "densem import"})
    volume = import_image(open_stack(path), tmp_path / "i.zarr", VOXEL, writing)
    facts = describe_file(tmp_path / "i.zarr")
    assert facts["voxel size nm"] == [40, 10, 12]
    assert facts["range"] == [image.min(), image.max()]
    assert facts["mean"] == pytest.approx(image.mean(), abs=1e-3)
    assert (facts["id"], facts["kind"]) == (volume.id, "image")
    assert facts["provenance"]["command"] == "densem import"
    labels = (image > 120).astype(np.uint8)
    labels[0] = 255
    tifffile.imwrite(path, labels, metadata=None)
    import_labels(open_stack(path), tmp_path / "l.zarr", LabelSchema.resolve("membrane"), volume)
    told = describe_file(tmp_path / "l.zarr")["labels"]
    assert told == {
        "0 inside": (labels == 0).sum(),
        "1 membrane": (labels == 1).sum(),
        "255 unlabelled": 2800,
    }
    import_objects(open_stack(path), tmp_path / "o.zarr", volume)
    assert describe_file(tmp_path / "o.zarr")["objects"] == 2


def test_large_files_are_sampled(path, image, monkeypatch):
    monkeypatch.setattr(summary, "WHOLE_BYTES", 100)
    facts = describe_file(path)
    some = image[[0, 3, 5]]
    assert facts["range"] == [some.min(), some.max()]
    assert facts["sampled"] == "range of three slices; the file is large"


def test_colours_and_parts_of_files(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((2, 5, 6, 3), np.uint8), photometric="rgb", metadata=None)
    assert describe_file(tmp_path / "c.tif")["dtype"] == "uint8 x 3 colours"
    (tmp_path / "b.tif").write_bytes(b"not a tiff")
    with pytest.raises(FormatError, match="expected a TIFF file"):
        describe_file(tmp_path / "b.tif")
