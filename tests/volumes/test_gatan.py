"""ncempy reads DM files but writes none, so a small writer of the published tag structure stands here."""

import struct

import numpy as np
import pytest

from densem.blocks import Box
from densem.errors import FormatError
from densem.volumes import open_stack

TYPES = {"int16": 1, "float32": 2, "uint8": 6, "int32": 7, "uint16": 10}
ARRAY_ITEM = {"int16": 2, "float32": 6, "uint8": 8, "int32": 3, "uint16": 4}


class Writer:
    """Tags of a DM3 (4-byte) or DM4 (8-byte) file, big-endian tags around little-endian values."""

    def __init__(self, version):
        self.word = ">I" if version == 3 else ">Q"
        self.version = version

    def n(self, *values):
        return b"".join(struct.pack(self.word, v) for v in values)

    def entry(self, name, body, group):
        size = b"" if self.version == 3 else self.n(len(body))
        return struct.pack(">BH", 20 if group else 21, len(name)) + name.encode() + size + body

    def group(self, name, *entries):
        return self.entry(name, b"\x01\x00" + self.n(len(entries)) + b"".join(entries), True)

    def number(self, name, value, code=5, fmt="<I"):
        return self.entry(name, b"%%%%" + self.n(1, code) + struct.pack(fmt, value), False)

    def array(self, name, code, count, data):
        return self.entry(name, b"%%%%" + self.n(3, 20, code, count) + data, False)

    def text(self, name, value):
        return self.array(name, 4, len(value), value.encode("utf-16-le"))

    def image(self, values, scales, units):
        axes = zip(scales, units, strict=True)
        calibration = self.group(
            "Dimension",
            *(
                self.group(
                    "",
                    self.number("Origin", 0.0, 6, "<f"),
                    self.number("Scale", s, 6, "<f"),
                    self.text("Units", u),
                )
                for s, u in axes
            ),
        )
        sides = [self.number("", n) for n in reversed(values.shape)]
        kind = values.dtype.name
        return self.group(
            "",
            self.group(
                "ImageData",
                self.group("Calibrations", calibration),
                self.array("Data", ARRAY_ITEM[kind], values.size, values.tobytes()),
                self.number("DataType", 23 if values.ndim == 2 and kind == "int32" else TYPES[kind]),
                self.group("Dimensions", *sides),
                self.number("PixelDepth", values.itemsize),
            ),
        )

    def file(self, *images):
        root = self.group("ImageList", *images)
        body = b"\x01\x00" + self.n(1) + root
        return struct.pack(">I", self.version) + self.n(len(body)) + struct.pack(">I", 1) + body + bytes(8)


def write(path, values, scales=(12.0, 10.0, 40.0), units=("nm", "nm", "nm")):
    """A file with a thumbnail first, as the microscope writes it; scales in x, y, z."""
    writer = Writer(int(path.suffix[-1]))
    thumbnail = writer.image(np.zeros((8, 6), np.int32), (1.0, 1.0), ("", ""))
    path.write_bytes(writer.file(thumbnail, writer.image(values, scales, units)))


@pytest.mark.parametrize("suffix", ["dm3", "dm4"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "int32"])
def test_voxels_and_voxel_size(tmp_path, voxels, suffix, dtype):
    values = (voxels // 300).astype(dtype)
    write(tmp_path / f"a.{suffix}", values)
    stack = open_stack(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(stack.read(), values)
    box = Box((1, 5, 3), (4, 30, 20))
    np.testing.assert_array_equal(stack.read(box), values[box.slices])
    assert (stack.dtype, stack.voxel_size_nm) == (np.dtype(dtype), pytest.approx((40, 10, 12)))


@pytest.mark.parametrize("suffix", ["dm3", "dm4"])
def test_ncempy_reads_the_same(tmp_path, voxels, suffix):
    from ncempy.io.dm import dmReader

    write(tmp_path / f"a.{suffix}", voxels)
    read = dmReader(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read["data"], voxels)
    np.testing.assert_allclose(read["pixelSize"], (40, 10, 12))


def test_micrometres_and_no_distance_of_slices(tmp_path, voxels):
    write(tmp_path / "a.dm4", voxels, (0.012, 0.01, 0.04), ("µm", "µm", "µm"))
    assert open_stack(tmp_path / "a.dm4").voxel_size_nm == pytest.approx((40, 10, 12))
    write(tmp_path / "a.dm4", voxels, (0.012, 0.01, 1.0), ("µm", "µm", ""))
    stack = open_stack(tmp_path / "a.dm4")
    assert stack.voxel_size_nm is None
    assert stack.notes == ("it says 10 x 12 nm in y and x, but no distance of slices",)


def test_a_single_image_is_a_slice_of_a_folder(tmp_path, voxels):
    for z, plane in enumerate(voxels):
        write(tmp_path / f"3view_{z:04}.dm3", plane, (12.0, 10.0), ("nm", "nm"))
    stack = open_stack(tmp_path)
    np.testing.assert_array_equal(stack.read(), voxels)


def test_truncated_and_foreign(tmp_path, voxels):
    path = tmp_path / "a.dm4"
    write(path, voxels)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"a\.dm4: .*truncated"):
        open_stack(path)
    path.write_bytes(b"something else entirely")
    with pytest.raises(FormatError, match="expected a Gatan DM3 or DM4 file, but its tags cannot be read"):
        open_stack(path)
    writer = Writer(4)
    path.write_bytes(writer.file(writer.image(np.zeros((8, 6), np.int32), (1.0, 1.0), ("", ""))))
    with pytest.raises(FormatError, match="expected a DM file with a grey image, found none in it"):
        open_stack(path)
