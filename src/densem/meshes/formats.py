"""Formats: one file a mesh, as GLB, PLY, OBJ or STL; coordinates are nm in all of them, x, y, z.

A GLB's unit is the metre by its specification. Cells a few micrometres small are beyond what viewers can
zoom and light, so one unit is one nm here as in the other formats, and the file says so: `extras` of its
mesh hold `unit`, `id` and `class`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densem.errors import ConfigError, InputError, nearest
from densem.meshes.mesh import Mesh

FILES = ("glb", "ply", "obj", "stl")
PRECOMPUTED = "precomputed"
FORMATS = (*FILES, PRECOMPUTED)


@dataclass(frozen=True)
class Label:
    """What a file says of a mesh beside its shape.

    Attributes:
        name: such as `cell-3`.
        id: of the object.
        kind: its class.
        rgb: colour of the class, 0 to 255.
    """

    name: str
    id: int
    kind: str
    rgb: tuple[int, int, int]


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """The formats named, each once.

    Raises:
        ConfigError: for one that is not known, or none.
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"--format {name}: no such format.{nearest(name, FORMATS)}")
    if not formats:
        raise ConfigError(f"no format was named; expected some of {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(formats))


def check_installed(formats: Sequence[str]) -> None:
    """Refuse formats whose libraries are not there.

    Raises:
        InputError: naming what to install.
    """
    import importlib.util

    needed = {"trimesh": any(f in FILES for f in formats), "DracoPy": PRECOMPUTED in formats}
    missing = [name for name, used in needed.items() if used and importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"densem mesh needs {', '.join(missing)}, not installed here: pip install 'densem[meshes]'"
        )


def write_mesh(mesh: Mesh, path: Path, label: Label) -> None:
    """Write one mesh in the format its suffix names; it appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(encoded(mesh, path.suffix.removeprefix("."), label))
    os.replace(part, path)


def encoded(mesh: Mesh, format: str, label: Label) -> bytes:
    """A mesh as the bytes of a file."""
    import trimesh

    facts = {"name": label.name, "id": label.id, "class": label.kind, "unit": "nm"}
    made: Any = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, metadata=facts)
    if format == "stl":
        return bytes(trimesh.exchange.stl.export_stl(made))
    if format == "ply":
        made.visual.vertex_colors = np.tile(np.array([*label.rgb, 255], np.uint8), (len(mesh.vertices), 1))
        return bytes(trimesh.exchange.ply.export_ply(made))
    if format == "obj":
        header = f"{label.name}, id {label.id}, class {label.kind}, unit nm"
        text = trimesh.exchange.obj.export_obj(made, include_normals=True, header=header)
        return str(text).encode()
    linear = [*(_linear(v) for v in label.rgb), 1.0]
    material = trimesh.visual.material.PBRMaterial(
        name=label.kind, baseColorFactor=np.array(linear), metallicFactor=0.0, roughnessFactor=0.6
    )
    made.visual = trimesh.visual.TextureVisuals(material=material)
    scene = trimesh.Scene(metadata={"unit": "nm"})
    scene.add_geometry(made, node_name=label.name, geom_name=label.name)
    return bytes(trimesh.exchange.gltf.export_glb(scene, include_normals=True))


def _linear(value: int) -> float:
    """An sRGB value, 0 to 255, as the linear light that glTF wants, 0 to 1 (IEC 61966-2-1)."""
    v = value / 255
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
