import numpy as np
import pytest
import tifffile
from PIL import Image

from densem.errors import FormatError, ShapeError
from densem.volumes import open_stack


def write(folder, voxels, name, numbers=None):
    folder.mkdir(exist_ok=True)
    for n, plane in zip(numbers or range(1, len(voxels) + 1), voxels, strict=True):
        path = folder / name.format(n)
        if path.suffix == ".png":
            Image.fromarray(plane).save(path)
        else:
            tifffile.imwrite(path, plane, metadata=None)


@pytest.mark.parametrize("name", ["slice_{}.png", "s{:04}.tif", "x10_{}_40nm.tiff"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_slices_come_in_the_order_of_their_numbers(tmp_path, name, dtype):
    voxels = np.random.default_rng(2).integers(0, 255, (12, 17, 9)).astype(dtype)
    write(tmp_path / "s", voxels, name)
    (tmp_path / "s" / "notes.txt").write_text("taken on a Monday")
    (tmp_path / "s" / ".hidden.png").write_bytes(b"")
    stack = open_stack(tmp_path / "s")
    assert (stack.shape, stack.dtype, stack.voxel_size_nm) == ((12, 17, 9), np.dtype(dtype), None)
    np.testing.assert_array_equal(stack.read(), voxels)


def test_every_tenth_number_has_no_gap(tmp_path, voxels):
    write(tmp_path / "s", voxels, "s{}.tif", [80, 90, 100, 110, 120])
    np.testing.assert_array_equal(open_stack(tmp_path / "s").read(), voxels)


def test_gaps_are_refused(tmp_path, voxels):
    write(tmp_path / "s", voxels, "s{}.tif", [8, 9, 12, 13, 15])
    with pytest.raises(
        FormatError, match="expected slices 8 to 15 without gaps, missing 10, 11, 14; put a copy"
    ):
        open_stack(tmp_path / "s")


def test_a_slice_of_another_size_is_named(tmp_path, voxels):
    write(tmp_path / "s", voxels, "s{}.tif")
    tifffile.imwrite(tmp_path / "s" / "s4.tif", voxels[3, :-1])
    with pytest.raises(
        ShapeError, match=r"s4\.tif: expected 37 x 23 uint16 as in s1\.tif, found 36 x 23 uint16"
    ):
        open_stack(tmp_path / "s")


def test_a_stack_among_the_slices_is_refused(tmp_path, voxels):
    write(tmp_path / "s", voxels, "s{}.tif")
    tifffile.imwrite(tmp_path / "s" / "s2.tif", voxels)
    with pytest.raises(ShapeError, match=r"s2\.tif: expected one slice in each file of the folder, found 5"):
        open_stack(tmp_path / "s")


def test_an_empty_folder(tmp_path):
    with pytest.raises(
        FormatError, match=r"expected numbered slices \(.png .tif .tiff .dm3 .dm4\), found none"
    ):
        open_stack(tmp_path)


def test_two_kinds_of_slices(tmp_path, voxels):
    write(tmp_path / "s", voxels, "s{}.tif")
    write(tmp_path / "s", voxels.astype(np.uint8), "s{}.png")
    with pytest.raises(FormatError, match=r"expected slices of one kind, found .png and .tif"):
        open_stack(tmp_path / "s")


def test_names_that_differ_in_more_than_a_number(tmp_path, voxels):
    write(tmp_path / "s", voxels, "s{}.tif")
    write(tmp_path / "s", voxels[:1], "overview{}.tif")
    with pytest.raises(
        FormatError, match=r"names that differ in a number only, found overview1.tif and s1.tif"
    ):
        open_stack(tmp_path / "s")


def test_tiles_are_no_stack(tmp_path, voxels):
    for row in (1, 2):
        write(tmp_path / "s", voxels, f"r{row}_c{{}}.tif")
    with pytest.raises(FormatError, match="one number that differs between all names, found none"):
        open_stack(tmp_path / "s")


def test_a_truncated_slice_is_named(tmp_path, image):
    write(tmp_path / "s", image, "s{}.png")
    path = tmp_path / "s" / "s3.png"
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(FormatError, match=r"s3\.png: .* cannot be read .*truncated or corrupt"):
        open_stack(tmp_path / "s").read()
    path.write_bytes(b"")
    with pytest.raises(FormatError, match=r"s3\.png: expected a PNG image, but it cannot be read"):
        open_stack(tmp_path / "s")


def test_colours_and_colour_tables(tmp_path):
    colors = np.random.default_rng(5).integers(0, 255, (3, 8, 11, 4), dtype=np.uint8)
    write(tmp_path / "rgba", colors, "{}.png")
    np.testing.assert_array_equal(open_stack(tmp_path / "rgba").read(), colors)
    picture = Image.fromarray(np.full((4, 6), 2, np.uint8), "P")
    picture.putpalette([0, 0, 0, 9, 8, 7, 250, 94, 1])
    picture.save(tmp_path / "p.png")
    stack = open_stack(tmp_path / "p.png")
    assert stack.colormap[2].tolist() == [250, 94, 1]
    assert (stack.read() == 2).all()
