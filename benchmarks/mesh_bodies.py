"""How near meshes come to bodies that are known, at anisotropic voxels.

    python benchmarks/mesh_bodies.py [--out results.json]

Balls, an ellipsoid and a tube at several places and directions between the voxels: volume and area against the true ones in
%, distance of the vertices to the true surface in nm; smoothed by default, with all triangles and simplified
by default.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np

from densem import __version__
from densem.meshes.simplification import simplified
from densem.meshes.surface import surface

SIZES = ((10.0, 10.0, 10.0), (20.0, 10.0, 10.0), (40.0, 10.0, 10.0), (50.0, 8.0, 8.0))
BODIES = {
    "ball r = 100": ("ellipsoid", (100.0, 100.0, 100.0)),
    "ball r = 300": ("ellipsoid", (300.0, 300.0, 300.0)),
    "ellipsoid 400, 200, 120": ("ellipsoid", (400.0, 200.0, 120.0)),
    "tube r = 80, length 800": ("tube", (80.0, 720.0)),
}
PLACES = 3


def turned(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def signed(points: np.ndarray, kind: str, sides: tuple[float, ...]) -> np.ndarray:
    """Distance to the body, about, negative inside; exact for tubes (with round ends) and balls."""
    if kind == "tube":
        along = np.clip(points[:, 0], -sides[1] / 2 + sides[0], sides[1] / 2 - sides[0])
        axis = points - np.stack([along, 0 * along, 0 * along], axis=1)
        return np.linalg.norm(axis, axis=1) - sides[0]
    inner = np.linalg.norm(points / sides, axis=1)
    slope = np.linalg.norm(points / np.square(sides), axis=1)
    return inner * (inner - 1) / np.maximum(slope, 1e-9)


def truth(kind: str, sides: tuple[float, ...]) -> tuple[float, float]:
    """Volume and area."""
    if kind == "tube":
        r, middle = sides[0], sides[1] - 2 * sides[0]
        return math.pi * r * r * middle + 4 / 3 * math.pi * r**3, 2 * math.pi * r * (middle + 2 * r)
    a, b, c = sides
    u, v = np.meshgrid(np.linspace(0, np.pi, 800), np.linspace(0, 2 * np.pi, 800), indexing="ij")
    x = np.sqrt(
        (b * c * np.sin(u) * np.cos(v)) ** 2 + (a * c * np.sin(u) * np.sin(v)) ** 2 + (a * b * np.cos(u)) ** 2
    )
    area = np.trapezoid(np.trapezoid(x * np.sin(u), v[0], axis=1), u[:, 0])
    return 4 / 3 * math.pi * a * b * c, float(area)


def row(kind: str, sides: tuple[float, ...], size: tuple[float, ...]) -> dict[str, Any]:
    volume, area = truth(kind, sides)
    found: dict[str, list[float]] = {}
    for seed in range(PLACES):
        rng = np.random.default_rng(seed)
        way = turned(rng)
        reach = max(sides) / (2 if kind == "tube" else 1)
        shape = [int(2 * reach / s) + 4 for s in size]
        middle = (
            np.array([n * s / 2 for n, s in zip(shape, size, strict=True)]) + rng.uniform(-0.5, 0.5, 3) * size
        )
        grid = np.stack(np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(shape, size, strict=True)),
                                    indexing="ij"), axis=-1)  # fmt: skip
        mask = signed((grid.reshape(-1, 3) - middle) @ way, kind, sides).reshape(shape) < 0
        whole = surface(mask, 1, size)  # type: ignore[arg-type]
        few = simplified(whole, min(size) / 2)
        away = np.abs(signed((whole.vertices[:, ::-1].astype(float) - middle) @ way, kind, sides))
        for key, value in (
            ("volume_%", 100 * (whole.volume_nm3 / volume - 1)), ("area_%", 100 * (whole.area_nm2 / area - 1)),
            ("mean_nm", float(away.mean())), ("max_nm", float(away.max())),
            ("faces", len(whole.faces)), ("faces_simplified", len(few.mesh.faces)),
            ("simplified_nm", few.error_nm), ("simplified_area_%", 100 * (few.mesh.area_nm2 / area - 1)),
        ):  # fmt: skip
            found.setdefault(key, []).append(value)
    return {key: round(float(np.mean(values)), 2) for key, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for size in SIZES:
        for name, (kind, sides) in BODIES.items():
            rows.append({"voxel_nm": size, "body": name, **row(kind, sides, size)})
            print(rows[-1], flush=True)
    if options.out:
        facts = {
            "what": "meshes of known bodies",
            "densem": __version__,
            "python": platform.python_version(),
            "rows": rows,
        }
        options.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
