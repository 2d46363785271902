"""Formats: what can be exported as what, and who writes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densem.errors import ConfigError, InputError, nearest

IMAGE, CLASSES, OBJECTS, MESHES = "image", "classes", "objects", "meshes"
ANY = (IMAGE, CLASSES, OBJECTS)
LABELS = (CLASSES, OBJECTS)
KINDS = {IMAGE: "an image", CLASSES: "class labels", OBJECTS: "object ids", MESHES: "meshes"}


@dataclass(frozen=True)
class Format:
    """A format that densem writes.

    Attributes:
        title: what it is, for people.
        endings: of its file's or folder's name, the usual one first.
        kinds: what it can hold.
        writer: module of this folder and its function `(Source, Staging, ExportOptions, Progress | None)`,
            which gives lines for people.
        units: units that lengths can be written in; empty where the format has its own.
        palette: whether its labels are colours that can be chosen.
        folder: what an earlier export of this format holds; empty for files.
        raw: whether voxels are stored uncompressed, whatever their number.
    """

    title: str
    endings: tuple[str, ...]
    kinds: tuple[str, ...]
    writer: tuple[str, str] = ("", "")
    units: tuple[str, ...] = ()
    palette: bool = False
    folder: tuple[str, ...] = ()
    raw: bool = False

    def write(self) -> Callable[..., list[str]]:
        """The function that writes it."""
        module = importlib.import_module(f"densem.volumes.exports.{self.writer[0]}")
        function: Callable[..., list[str]] = getattr(module, self.writer[1])
        return function

    def replaceable(self, path: Path) -> bool:
        """Whether a folder holds what an earlier export of this format left."""
        return any((path / name).is_file() for name in self.folder)


FORMATS: dict[str, Format] = {
    "fiji": Format(
        "TIFF for Fiji: ImageJ's own, or OME-TIFF", (".tif", ".tiff", ".ome.tif", ".ome.tiff"), ANY,
        ("fiji", "write_fiji"),
    ),
    "amira": Format(
        "Amira mesh: a uniform lattice", (".am",), ANY, ("amira", "write_amira"), ("nm", "um", "mm"),
        raw=True,
    ),
    "mrc": Format("MRC for IMOD", (".mrc", ".rec"), ANY, ("mrc_writer", "write_mrc"), raw=True),
    "imod-model": Format(
        "IMOD model: contours of labels", (".mod",), LABELS, ("imod_contours", "write_imod_contours")
    ),
    "ome-zarr": Format(
        "OME-Zarr 0.5 (Zarr 3)", (".zarr",), ANY, ("ngff", "write_ome_zarr"), folder=("zarr.json",)
    ),
    "ome-zarr-0.4": Format(
        "OME-Zarr 0.4 (Zarr 2)", (".zarr",), ANY, ("ngff", "write_ome_zarr_04"), folder=(".zgroup",)
    ),
    "neuroglancer": Format(
        "Neuroglancer precomputed", ("",), ANY, ("precomputed", "write_precomputed"), folder=("info",)
    ),
    "nrrd": Format(
        "NRRD for 3D Slicer", (".nrrd", ".seg.nrrd"), ANY, ("nrrd", "write_nrrd"), ("mm", "um", "nm")
    ),
    "nifti": Format("NIfTI-1", (".nii.gz", ".nii"), ANY, ("nifti", "write_nifti"), ("mm", "um")),
    "rgba-tiff": Format(
        "TIFF in which colours are classes, as in platelet-em", (".tif", ".tiff"), (CLASSES,),
        ("colors", "write_colors"), palette=True,
    ),
    "run-length": Format(
        "run-length JSON, as in platelet-em", (".json",), LABELS, ("runs", "write_runs")
    ),
}  # fmt: skip
"""Formats by the name that --to takes."""

TOOLS = {
    "imagej": "fiji", "tiff": "fiji", "ome-tiff": "fiji", "avizo": "amira", "imod": "mrc",
    "mod": "imod-model", "napari": "ome-zarr", "webknossos": "ome-zarr", "zarr": "ome-zarr",
    "precomputed": "neuroglancer", "slicer": "nrrd", "itk-snap": "nifti", "json": "run-length",
    "platelet-em": "rgba-tiff",
}  # fmt: skip
"""Tools and other names, and the format that is theirs."""


def choose_format(word: str, kind: str, out: Path, known: dict[str, Any] | None = None) -> Any:
    """The format of a name, checked against what is exported and the name of the file.

    Args:
        word: a format or a tool.
        kind: what is exported.
        out: the file or folder to make.
        known: formats by name, where they are not these.

    Raises:
        ConfigError: if there is no such format, with the nearest one.
        InputError: if it does not hold that, or the name has another ending.
    """
    formats: dict[str, Any] = {**FORMATS, **(known or {})}
    name = word if word in formats else TOOLS.get(word.lower(), word)
    if name not in formats:
        raise ConfigError(f"--to {word}: no such format.{nearest(word, [*formats, *TOOLS])}")
    chosen = formats[name]
    if kind not in chosen.kinds:
        others = ", ".join(n for n, f in formats.items() if kind in f.kinds)
        raise InputError(
            f"--to {word}: expected {' or '.join(KINDS[k] for k in chosen.kinds)}, found {KINDS[kind]}; "
            f"formats for that: {others}"
        )
    if not out.name.lower().endswith(chosen.endings):
        raise InputError(
            f"--out {out}: expected a name that ends in {' or '.join(chosen.endings)} for {chosen.title}, "
            f"found {out.name!r}"
        )
    return chosen
