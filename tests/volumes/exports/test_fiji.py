"""TIFF for Fiji, read back by tifffile and imageio, and by ImageJ itself where IMAGEJ_JAR names it."""

import os
import subprocess
from dataclasses import replace
from xml.etree import ElementTree

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from densem.errors import InputError
from densem.volumes import Volume
from densem.volumes.exports import export_volume, fiji


def test_imagej_reads_voxel_size_unit_origin_and_colours(classes, tmp_path):
    path = tmp_path / "a.tif"
    export_volume(classes, "fiji", path)
    with tifffile.TiffFile(path) as file:
        told, page = file.imagej_metadata, file.pages[0]
        assert (told["unit"], told["spacing"], told["slices"]) == ("nm", 40.0, 5)
        assert (told["zorigin"], told["yorigin"], told["xorigin"]) == (-2.0, 3.0, -7.0)
        assert page.resolution == pytest.approx((0.1, 0.125))  # pixels per nm, x first
        assert not file.is_bigtiff
        colors = page.colormap[:, [1, 3, 6, 255]].T // 257
        assert colors.tolist() == [[1, 1, 224], [1, 254, 1], [245, 0, 203], [128, 128, 128]]
        assert "3 = alpha_granule" in told["Info"]
        assert np.array_equal(file.asarray(), classes.volume.read())
    assert np.array_equal(iio.imread(path, plugin="pillow", index=2)[..., :3], _painted(classes)[2])


def _painted(classes):
    return classes.schema.rgb_of_id[classes.volume.read()]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_images_keep_their_type(schema, gray, tmp_path, dtype):
    voxels = (gray.volume.read() // 2 % 251).astype(dtype) - (7 if dtype in ("int16", "float32") else 0)
    source = replace(gray, volume=Volume(voxels, (40.0, 8.0, 10.0)))
    export_volume(source, "fiji", tmp_path / "a.tif")
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == dtype
    assert np.array_equal(found, voxels)
    assert np.array_equal(iio.imread(tmp_path / "a.tif", plugin="tifffile"), voxels)


def test_object_ids_are_narrowed_where_they_fit(objects, tmp_path):
    small = replace(objects, volume=objects.volume.part(_first_rows(objects)))
    export_volume(small, "fiji", tmp_path / "a.tif")
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == np.uint16
    assert np.array_equal(found, small.volume.read())


def _first_rows(source):
    return replace(source.volume.box, stop=(5, 7, 18))


def test_ids_that_do_not_fit_are_refused_in_plain_words(objects, tmp_path):
    with pytest.raises(InputError) as caught:
        export_volume(objects, "fiji", tmp_path / "a.tif")
    assert str(caught.value) == (
        "found: expected ids up to 65535, the largest that an ImageJ TIFF holds, found 70001; give --out a name "
        "that ends in .ome.tif: OME-TIFF holds 32 bits"
    )
    assert not list(tmp_path.iterdir())


def test_ome_tiff_keeps_32_bits_place_and_unit(objects, tmp_path):
    path = tmp_path / "a.ome.tif"
    export_volume(objects, "fiji", path)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE
        pixels = next(e for e in ElementTree.fromstring(file.ome_metadata).iter() if e.tag.endswith("Pixels"))
        assert [pixels.get(f"PhysicalSize{a}") for a in "ZYX"] == ["40.0", "8.0", "10.0"]
        assert {pixels.get(f"PhysicalSize{a}Unit") for a in "ZYX"} == {"nm"}
        planes = [e for e in pixels if e.tag.endswith("Plane")]
        assert [p.get("PositionZ") for p in planes] == ["80.0", "120.0", "160.0", "200.0", "240.0"]
        assert {(p.get("PositionY"), p.get("PositionX"), p.get("PositionYUnit")) for p in planes} == {
            ("-24.0", "70.0", "nm")
        }
        assert np.array_equal(file.asarray(), objects.volume.read())


def test_above_4_gb_imagej_is_refused_and_ome_tiff_is_a_bigtiff(gray, tmp_path, monkeypatch):
    monkeypatch.setattr(fiji, "LARGEST_TIFF", gray.nbytes - 1)
    with pytest.raises(
        InputError, match=r"expected less than 4 GB, where ImageJ TIFF ends, found .* GB of voxels"
    ):
        export_volume(gray, "fiji", tmp_path / "a.tif")
    export_volume(gray, "fiji", tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_bigtiff
        assert np.array_equal(file.asarray(), gray.volume.read())


def test_bioio_reads_ome_tiff(gray, tmp_path):
    bioio = pytest.importorskip("bioio")
    pytest.importorskip("bioio_ome_tiff")
    export_volume(gray, "fiji", tmp_path / "a.ome.tif")
    image = bioio.BioImage(tmp_path / "a.ome.tif")
    size = image.physical_pixel_sizes
    assert (size.Z, size.Y, size.X) == (40.0, 8.0, 10.0)
    assert np.array_equal(image.get_image_data("ZYX"), gray.volume.read())


JAVA = """
import ij.*; import ij.io.*; import ij.measure.*; import ij.process.*;
public class Look { public static void main(String[] a) {
  ImagePlus i = new Opener().openImage(a[0]); Calibration c = i.getCalibration();
  System.out.println(i.getWidth()+" "+i.getHeight()+" "+i.getStackSize()+" "+c.getUnit());
  System.out.println(c.pixelDepth+" "+c.pixelHeight+" "+c.pixelWidth);
  System.out.println(c.getZ(0)+" "+c.getY(0)+" "+c.getX(0));
  StringBuilder b = new StringBuilder();
  for (int z=1; z<=i.getStackSize(); z++) { ImageProcessor p = i.getStack().getProcessor(z);
    for (int y=0; y<i.getHeight(); y++) for (int x=0; x<i.getWidth(); x++) b.append(p.get(x,y)).append(' '); }
  System.out.println(b);
  byte[] r = new byte[256], g = new byte[256], u = new byte[256];
  IndexColorModelOf.get(i, r, g, u);
  System.out.println((r[3]&255)+" "+(g[3]&255)+" "+(u[3]&255)+" "+i.getDisplayRangeMin()+" "+i.getDisplayRangeMax());
}}
class IndexColorModelOf { static void get(ImagePlus i, byte[] r, byte[] g, byte[] b) {
  java.awt.image.IndexColorModel m = (java.awt.image.IndexColorModel) i.getProcessor().getColorModel();
  m.getReds(r); m.getGreens(g); m.getBlues(b); }}
"""


@pytest.mark.skipif(not os.environ.get("IMAGEJ_JAR"), reason="IMAGEJ_JAR does not name ij.jar")
def test_imagej_itself(classes, tmp_path):
    export_volume(classes, "fiji", tmp_path / "a.tif")
    (tmp_path / "Look.java").write_text(JAVA)
    command = ["java", "-Djava.awt.headless=true", "-cp", os.environ["IMAGEJ_JAR"], "Look.java", "a.tif"]
    said = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[:3] == ["18 13 5 nm", "40.0 8.0 10.0", "80.0 -24.0 70.0"]
    assert np.array_equal(np.array(said[3].split(), int).reshape(5, 13, 18), classes.volume.read())
    assert said[4] == "1 254 1 0.0 255.0"
