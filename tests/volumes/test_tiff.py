import struct

import numpy as np
import pytest
import tifffile

from densem.blocks import Box
from densem.errors import FormatError, ShapeError
from densem.volumes import open_stack
from densem.volumes.raw import RawArray
from densem.volumes.tiff import PageArray

BOX = Box((1, 5, 3), (4, 30, 20))


def check(path, voxels, voxel_size_nm=None, reader=None):
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read(), voxels)
    np.testing.assert_array_equal(stack.read(BOX), voxels[BOX.slices])
    assert stack.dtype == voxels.dtype
    assert stack.dtype.isnative
    if voxel_size_nm is None:
        assert stack.voxel_size_nm is None
    else:
        assert stack.voxel_size_nm == pytest.approx(voxel_size_nm, rel=1e-6)
    assert reader is None or isinstance(stack.array, reader)


@pytest.mark.parametrize(
    ("unit", "nm"),
    [("nm", 1), ("um", 1e3), ("micron", 1e3), ("\\u00B5m", 1e3), ("mm", 1e6), ("cm", 1e7), ("inch", 2.54e7)],
)
def test_imagej_voxel_sizes_in_any_unit(tmp_path, voxels, unit, nm):
    meta = {"axes": "ZYX", "spacing": 40 / nm, "unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", voxels, imagej=True, metadata=meta, resolution=(nm / 12, nm / 10))
    check(tmp_path / "a.tif", voxels, (40, 10, 12), RawArray)


@pytest.mark.parametrize("unit", ["pixel", "", "furlong"])
def test_a_resolution_without_a_unit_is_none(tmp_path, voxels, unit):
    meta = {"axes": "ZYX", "spacing": 40, "unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", voxels, imagej=True, metadata=meta, resolution=(1 / 12, 1 / 10))
    check(tmp_path / "a.tif", voxels)


def test_pixels_per_inch_are_no_voxel_size(tmp_path, voxels):
    tifffile.imwrite(tmp_path / "a.tif", voxels, metadata=None, resolution=(72, 72), resolutionunit="INCH")
    check(tmp_path / "a.tif", voxels)


def test_a_missing_distance_of_slices_is_told(tmp_path, voxels):
    meta = {"axes": "ZYX", "unit": "nm"}
    tifffile.imwrite(tmp_path / "a.tif", voxels, imagej=True, metadata=meta, resolution=(1 / 12, 1 / 10))
    stack = open_stack(tmp_path / "a.tif")
    assert stack.voxel_size_nm is None
    assert stack.notes == ("it says 10 x 12 nm in y and x, but no distance of slices",)


@pytest.mark.parametrize(("unit", "nm"), [("nm", 1), ("µm", 1e3), ("mm", 1e6), ("Å", 0.1), (None, 1e3)])
def test_ome_voxel_sizes(tmp_path, voxels, unit, nm):
    meta = {"axes": "ZYX", **{f"PhysicalSize{a}": v / nm for a, v in zip("ZYX", (40, 10, 12), strict=True)}}
    if unit:
        meta |= {f"PhysicalSize{a}Unit": unit for a in "ZYX"}
    tifffile.imwrite(tmp_path / "a.ome.tif", voxels, metadata=meta)
    check(tmp_path / "a.ome.tif", voxels, (40, 10, 12))


def test_ome_in_pixels_is_none(tmp_path, voxels):
    meta = {"axes": "ZYX"}
    for a in "ZYX":
        meta |= {f"PhysicalSize{a}": 4.0, f"PhysicalSize{a}Unit": "pixel"}
    tifffile.imwrite(tmp_path / "a.ome.tif", voxels, metadata=meta)
    check(tmp_path / "a.ome.tif", voxels)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "lzw", "bigtiff": True, "tile": (16, 16)},
        {"byteorder": ">", "rowsperstrip": 7},
        {"byteorder": ">", "compression": "zlib", "predictor": True, "rowsperstrip": 7},
    ],
)
def test_ways_of_storing(tmp_path, voxels, options):
    tifffile.imwrite(tmp_path / "a.tif", voxels, metadata=None, **options)
    check(tmp_path / "a.tif", voxels, None, PageArray if "compression" in options else None)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_types(tmp_path, voxels, dtype):
    values = (voxels // 300).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata=None)
    check(tmp_path / "a.tif", values)


def imagej_with_one_directory(path, voxels):
    """As ImageJ writes above 4 GB: one directory, the other slices follow as bare voxels."""
    deep, height, width = voxels.shape
    text = f"ImageJ=1.53t\nimages={deep}\nslices={deep}\nunit=nm\nspacing=40.0\n\0".encode()
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (270, 2, len(text), 200), (273, 4, 1, 400), (277, 3, 1, 1), (278, 4, 1, height),
        (279, 4, 1, 2 * height * width), (282, 5, 1, 360), (283, 5, 1, 368), (296, 3, 1, 1),
    ]  # fmt: skip
    head = struct.pack(">2sHI", b"MM", 42, 8) + struct.pack(">H", len(tags))
    for code, kind, count, value in tags:
        packed = struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        head += struct.pack(">HHI", code, kind, count) + packed
    head += struct.pack(">I", 0)
    body = head.ljust(200, b"\0") + text
    body = body.ljust(360, b"\0") + struct.pack(">IIII", 1, 12, 1, 10)
    path.write_bytes(body.ljust(400, b"\0") + voxels.astype(">u2").tobytes())


def test_imagej_with_one_directory_for_all_slices(tmp_path, voxels):
    imagej_with_one_directory(tmp_path / "a.tif", voxels)
    check(tmp_path / "a.tif", voxels, (40, 10, 12), RawArray)


def test_truncated_imagej_with_one_directory(tmp_path, voxels):
    path = tmp_path / "a.tif"
    imagej_with_one_directory(path, voxels)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(
        FormatError, match="expected 5 slices as its ImageJ header says, found 1; the file is trunc"
    ):
        open_stack(path)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"imagej": True}, {"bigtiff": True}])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9, 0.97])
def test_truncated_anywhere(tmp_path, voxels, options, share):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FormatError, match="truncated"):
        open_stack(path).read()


def test_corrupt_voxels_are_named_by_slice(tmp_path, voxels):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels, compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[2].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[start : start + 200] = bytes(200)
    path.write_bytes(bytes(data))
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read(Box((0, 0, 0), (2, 37, 23))), voxels[:2])
    with pytest.raises(FormatError, match=r"a.tif: TIFF slices 2:3 cannot be read .*truncated or corrupt"):
        stack.read(Box((2, 0, 0), (3, 37, 23)))


def test_not_a_tiff(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"this is no image at all")
    with pytest.raises(FormatError, match=r"a\.tif: expected a TIFF file, but it cannot be read"):
        open_stack(tmp_path / "a.tif")


def test_a_thumbnail_first_is_passed_over(tmp_path, voxels):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((9, 6, 3), np.uint8), photometric="rgb", subfiletype=1, metadata=None)
        for plane in voxels:
            file.write(plane, metadata=None, contiguous=False)
    check(tmp_path / "a.tif", voxels)


def test_one_slice_of_another_size_is_refused(tmp_path, voxels):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for z, plane in enumerate(voxels):
            file.write(plane[: -1 if z == 2 else None], metadata=None, contiguous=False)
    with pytest.raises(
        FormatError,
        match=r"expected one image series, found 2 \(0: 4 x 37 x 23 uint16; 1: 36 x 23 uint16\)",
    ):
        open_stack(tmp_path / "a.tif")


def test_series_by_number_and_name(tmp_path, voxels):
    other = voxels[:2, :20] // 3
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        sides = {"PhysicalSizeZ": 0.04, "PhysicalSizeY": 0.01, "PhysicalSizeX": 0.012}
        file.write(voxels, metadata={"axes": "ZYX", "Name": "stack", **sides})
        file.write(other, metadata={"axes": "ZYX", "Name": "overview"})
    with pytest.raises(FormatError, match=r"found 2 .*name a series with --dataset"):
        open_stack(tmp_path / "a.ome.tif")
    first = open_stack(tmp_path / "a.ome.tif", dataset="stack")
    np.testing.assert_array_equal(first.read(), voxels)
    assert first.voxel_size_nm == pytest.approx((40, 10, 12))
    np.testing.assert_array_equal(open_stack(tmp_path / "a.ome.tif", dataset="1").read(), other)
    with pytest.raises(FormatError, match=r"no image series 'overviw' in it. Did you mean 'overview'\?"):
        open_stack(tmp_path / "a.ome.tif", dataset="overviw")


def test_channels_are_refused(tmp_path, voxels):
    both = np.stack([voxels, voxels], 1)
    tifffile.imwrite(tmp_path / "a.tif", both, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(ShapeError, match="found axes Z 5, C 2, Y 37, X 23; take out one channel"):
        open_stack(tmp_path / "a.tif")


def test_one_page_is_one_slice(tmp_path, voxels):
    tifffile.imwrite(tmp_path / "a.tif", voxels[0], metadata=None)
    np.testing.assert_array_equal(open_stack(tmp_path / "a.tif").read(), voxels[:1])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_are_read_as_such(tmp_path, planar):
    colors = np.random.default_rng(1).integers(0, 255, (4, 11, 13, 3), dtype=np.uint8)
    stored = colors if planar == "contig" else np.moveaxis(colors, -1, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, metadata=None)
    stack = open_stack(tmp_path / "a.tif")
    assert (stack.shape, stack.samples) == ((4, 11, 13), 3)
    np.testing.assert_array_equal(stack.read(), colors)


def test_colour_table_is_kept(tmp_path):
    table = np.zeros((3, 256), np.uint16)
    table[:, 7] = (255 << 8, 94 << 8, 3 << 8)
    labels = np.full((3, 9, 8), 7, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="palette", colormap=table, metadata=None)
    stack = open_stack(tmp_path / "a.tif")
    assert stack.colormap[7].tolist() == [255, 94, 3]
    np.testing.assert_array_equal(stack.read(), labels)


def test_inverted_images_are_told(tmp_path, voxels):
    tifffile.imwrite(tmp_path / "a.tif", voxels, photometric="miniswhite", metadata=None)
    assert "0 is white" in open_stack(tmp_path / "a.tif").notes[0]
