"""Archives of the structure in which the registry's data sets are published, made of small phantoms.

The entries are the registry's own; only shapes, sizes, checksums and addresses are those of the small files.
"""

import hashlib
import io
import json
import tomllib
import zipfile

import numpy as np
import tifffile
import tomli_w
from PIL import Image

from densem.blocks import Box
from densem.datasets.catalogue import find
from densem.datasets.phantom import Phantom, PhantomConfig
from densem.volumes import Palette, Volume
from densem.volumes.palettes import write_rgba
from densem.volumes.run_length import write_run_length

SIZE = (40.0, 10.0, 10.0)
COARSE = (120.0, 80.0, 80.0)
"""What the phantom is drawn at, so that several cells fit into few voxels."""
CONFIGS = {
    "train": {"shape": (4, 44, 52), "seed": 3, "packing": 1.3, "dense_granules": 10.0},
    "eval": {"shape": (3, 40, 48), "seed": 9, "packing": 1.3, "dense_granules": 10.0},
    "test": {"shape": (5, 60, 36), "seed": 5, "donor": "b", "packing": 1.3, "labelled_cells": 1},
}
NUMBERS = {"train": "50", "eval": "24"}


def make_blocks():
    """Image and truth of the three volumes; in the test volume one cell is labelled, the rest is 0."""
    made = {}
    for name, table in CONFIGS.items():
        config = PhantomConfig(voxel_size_nm=COARSE, unlabelled_value=0, **table)
        made[name] = Phantom(config).annotated(Box.of_shape(config.shape))
    return made


def zip_of(members):
    """A zip with folder entries, as programs for people make them."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        folders = {"/".join(n.split("/")[:d]) + "/" for n in members for d in range(1, n.count("/") + 1)}
        for folder in sorted(folders):
            archive.writestr(zipfile.ZipInfo(folder), b"")
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


def tiff(values):
    target = io.BytesIO()
    tifffile.imwrite(target, values, photometric="minisblack", metadata=None)
    return target.getvalue()


def tiff_1219(blocks):
    """platelet_data_1219.zip."""
    members = {}
    for name, block in blocks.items():
        members[f"platelet_data/{name}-images.tif"] = tiff(block.image)
        members[f"platelet_data/{name}-labels.tif"] = tiff(block.semantic.astype(np.int32))
    members["platelet_data/train-error-weights.tif"] = tiff(np.ones(blocks["train"].image.shape, np.float32))
    return members


def _written(folder, name, write):
    path = folder / name
    write(path)
    data = path.read_bytes()
    path.unlink()
    return data


def rgba(blocks, folder):
    """images_and_labels_rgba.zip: classes in the published colours, each object in a colour of its own."""
    members = {}
    for name, number in NUMBERS.items():
        block = blocks[name]
        semantic, palette = Volume(block.semantic, SIZE), Palette.resolve("platelet-em", Phantom.schema)
        members[f"platelet-em/images/{number}-images.tif"] = tiff(block.image)
        members[f"platelet-em/labels-semantic/{number}-semantic.tif"] = _written(
            folder, "x.tif", lambda path, s=semantic, p=palette: write_rgba(s, path, p)
        )
        for kind, ids in (("cell", block.cells), ("organelle", block.organelles)):
            members[f"platelet-em/labels-instance/{number}-instance-{kind}.tif"] = coloured(ids)
    return members


def coloured(ids):
    """Objects as RGBA TIFF; no object is transparent black."""
    known = np.unique(np.append(ids.ravel(), 0))
    place = np.searchsorted(known, ids).astype(np.uint32)
    color = place * 40503 % 2**24
    samples = [color >> 16, color >> 8 & 255, color & 255, np.where(ids > 0, 255, 0)]
    target = io.BytesIO()
    tifffile.imwrite(
        target, np.stack(samples, -1).astype(np.uint8), photometric="rgb", extrasamples=["unassalpha"]
    )
    return target.getvalue()


def run_lengths(blocks, folder):
    """images_and_labels_json.zip."""
    members = {}
    for name, number in NUMBERS.items():
        block = blocks[name]
        members[f"platelet-em/images/{number}-images.tif"] = tiff(block.image)
        kinds = {
            "semantic": block.semantic,
            "instance-cell": block.cells,
            "instance-organelle": block.organelles,
        }
        for kind, values in kinds.items():
            text = _written(folder, "x.json", lambda path, v=values: write_run_length(Volume(v, SIZE), path))
            table = json.loads(text)
            table[".info"]["dtype"] = "np.int"
            members[f"platelet-em/labels-{kind.split('-')[0]}/{number}-{kind}.json"] = json.dumps(
                table
            ).encode()
    return members


def lucchi():
    """lucchi_pp.zip: PNG slices; masks in grey for one volume, in RGBA for the other."""
    rng, members, truth = np.random.default_rng(0), {}, {}
    for name in ("Train", "Test"):
        images, masks = rng.integers(0, 255, (12, 20, 28), np.uint8), rng.random((12, 20, 28)) < 0.2
        truth[name.lower()] = (images, masks.astype(np.uint8))
        for z in range(12):
            grey = masks[z].astype(np.uint8) * 255
            rgba = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
            members[f"Lucchi++/{name}_In/mask{z:04d}.png"] = png(images[z])
            members[f"Lucchi++/{name}_Out/{z}.png"] = png(grey if name == "Train" else rgba)
    return members, truth


def png(values):
    target = io.BytesIO()
    Image.fromarray(values).save(target, "PNG")
    return target.getvalue()


def entry(name, packaging, members, address, shapes, **archive):
    """The registry's file for small archives: everything but shapes, sizes, checksums and addresses is kept."""
    table = tomllib.loads(find(name).text)
    data = zip_of(members)
    for volume, shape in shapes.items():
        table["volumes"][volume]["shape"] = list(shape)
    chosen = table["packagings"][packaging]
    fetched = chosen["archives"][0]
    fetched["urls"] = [address]
    if "bytes" in fetched:
        fetched["bytes"] = len(data)
    if "checksum" in fetched:
        fetched["checksum"] = _sum(fetched["checksum"], data)
    for files in chosen["volumes"].values():
        for member in files.values():
            if "checksum" in member:
                name = next(n for n in members if n.endswith(member["member"]))
                member["checksum"] = _sum(member["checksum"], members[name])
    fetched.update(archive)
    return tomli_w.dumps(table), data


def _sum(old, data):
    algorithm = old.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
