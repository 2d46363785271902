"""Precomputed: meshes with levels of detail as Neuroglancer reads them (neuroglancer_multilod_draco).

    <id>.index   where the parts of an object lie, and how fine its levels are
    <id>         the parts, Draco-compressed, finest level first
    info, segment_properties/info   the format; name, class and volume of each object

Every level is one part. That of level n lies in the first of the 2^n cubes along each axis of a cell that is
2^n times the object's box, so no triangle crosses a border of cells, as the format demands.
Source: neuroglancer, src/datasource/precomputed/meshes.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densem.meshes.mesh import Mesh
from densem.volumes.segment_tags import segment_tags

BITS = 16
"""Of each coordinate within the box of an object on the finest level; one less on each coarser one."""
LEVELS = 5
PROPERTIES = "segment_properties"


def write_levels(folder: Path, id: int, levels: Sequence[Mesh]) -> None:
    """Write an object, finest level first; the manifest last, so that what it names is there."""
    import DracoPy

    low, high = levels[0].box_nm
    size = np.maximum((high - low) * 1.0001, 1e-3)  # coarser levels may reach a little further
    low = low - (size - (high - low)) / 2
    for mesh in levels[1:]:
        low, high = np.minimum(low, mesh.box_nm[0]), np.maximum(low + size, mesh.box_nm[1])
        size = high - low
    low, size = low.astype("<f4"), np.nextafter(size.astype("<f4"), np.float32(np.inf))
    parts = []
    for number, mesh in enumerate(levels):
        points = quantized(mesh.vertices, low, size * 2**number)
        parts.append(
            DracoPy.encode(
                points.astype(np.float32), mesh.faces, quantization_bits=BITS,
                quantization_range=2**BITS - 1, quantization_origin=np.zeros(3), create_metadata=False,
            )
        )  # fmt: skip
    scales = [float(np.sqrt(2 * mesh.area_nm2 / len(mesh.faces))) for mesh in levels]
    manifest = _manifest(low, size, np.maximum.accumulate(scales), [len(p) for p in parts])
    _write(folder / str(id), b"".join(parts))
    _write(folder / f"{id}.index", manifest)


def quantized(vertices: np.ndarray, low: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Whole numbers 0 to 2^BITS - 1 within a cell, int64 (N, 3)."""
    share = (vertices.astype(np.float64) - low) / size
    return np.clip(np.rint(share * (2**BITS - 1)), 0, 2**BITS - 1).astype(np.int64)


def _manifest(low: np.ndarray, size: np.ndarray, scales: np.ndarray, lengths: list[int]) -> bytes:
    count = len(lengths)
    return b"".join(
        [
            np.asarray(size, "<f4").tobytes(),
            np.asarray(low, "<f4").tobytes(),
            np.array([count], "<u4").tobytes(),
            np.asarray(scales, "<f4").tobytes(),
            np.zeros((count, 3), "<f4").tobytes(),
            np.ones(count, "<u4").tobytes(),
            *(np.array([0, 0, 0, length], "<u4").tobytes() for length in lengths),
        ]
    )


def write_info(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write what the folder is, and the names of the objects: rows with id, name, class and volume_nm3."""
    properties = [
        {"id": "label", "type": "label", "values": [row["name"] for row in rows]},
        segment_tags("class", [row["class"] for row in rows]),
        {"id": "volume_nm3", "type": "number", "data_type": "float32",
         "values": [row["volume_nm3"] for row in rows]},
    ]  # fmt: skip
    inline = {"ids": [str(row["id"]) for row in rows], "properties": properties}
    (folder / PROPERTIES).mkdir(exist_ok=True)
    named = {"@type": "neuroglancer_segment_properties", "inline": inline}
    _write(folder / PROPERTIES / "info", json.dumps(named).encode())
    info = {
        "@type": "neuroglancer_multilod_draco",
        "vertex_quantization_bits": BITS,
        "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
        "lod_scale_multiplier": 1,
        "segment_properties": PROPERTIES,
    }
    _write(folder / "info", json.dumps(info).encode())


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
