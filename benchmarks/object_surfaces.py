"""How near `surface_nm2` and `sphericity` of the object table come to those of bodies that are known.

    python benchmarks/object_surfaces.py [--out results.json]

Balls from two slices on, an ellipsoid and a tube at several places and directions between the voxels, through
`densem.objects.find_objects`: error of the surface in % (mean and spread), and sphericity against the true one. Balls of
100 nm again where all three near borders of the volume are a voxel away from them: they are whole, so nothing
may be missing.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from densem import __version__
from densem.objects import Rules, find_objects
from densem.schema import LabelSchema
from densem.volumes import Volume
from mesh_bodies import signed, truth, turned

SIZES = ((10.0, 10.0, 10.0), (20.0, 10.0, 10.0), (40.0, 10.0, 10.0), (50.0, 8.0, 8.0))
BODIES = {
    "ball r = 50": ("ellipsoid", (50.0, 50.0, 50.0)),
    "ball r = 75": ("ellipsoid", (75.0, 75.0, 75.0)),
    "ball r = 100": ("ellipsoid", (100.0, 100.0, 100.0)),
    "ball r = 100 at the border": ("ellipsoid", (100.0, 100.0, 100.0)),
    "ball r = 200": ("ellipsoid", (200.0, 200.0, 200.0)),
    "ball r = 400": ("ellipsoid", (400.0, 400.0, 400.0)),
    "ellipsoid 400, 200, 120": ("ellipsoid", (400.0, 200.0, 120.0)),
    "tube r = 120, length 900": ("tube", (120.0, 900.0)),
}
PLACES = 12
GRANULE = 3
"""Class id: granules lie in no other one."""


def measured(mask: np.ndarray, size: tuple[float, ...]) -> tuple[float, float]:
    """Surface and sphericity that the table has of the one object of a mask."""
    schema = LabelSchema.resolve("platelet")
    classes = Volume(np.where(mask, GRANULE, 0).astype(np.uint8), size)  # type: ignore[arg-type]
    rules = Rules.of(schema, classes.voxel_size_nm, {"alpha_granule": {"method": "components"}})
    with tempfile.TemporaryDirectory() as folder:
        table = find_objects(classes, schema, rules, Path(folder) / "o").table
    row = table["class"].index("alpha_granule")
    return float(table["surface_nm2"][row]), float(table["sphericity"][row])


def row(name: str, size: tuple[float, ...]) -> dict[str, float]:
    """Mean and spread over places and directions."""
    kind, sides = BODIES[name]
    volume, area = truth(kind, sides)
    errors, round_ = [], []
    for seed in range(PLACES):
        rng = np.random.default_rng(seed)
        way = turned(rng)
        reach = max(sides) / (2 if kind == "tube" else 1)
        gap = 1 if "border" in name else 12
        low = np.array([gap * s for s in size]) + rng.uniform(0, 1, 3) * size
        shape = [math.ceil((a + 2 * reach) / s) + 12 for a, s in zip(low, size, strict=True)]
        axes = ((np.arange(n) + 0.5) * s for n, s in zip(shape, size, strict=True))
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        away = signed((grid.reshape(-1, 3) - (low + reach)) @ way, kind, sides)
        found, sphericity = measured((away < 0).reshape(shape), size)
        errors.append(100 * (found / area - 1))
        round_.append(sphericity)
    return {
        "surface_%": round(float(np.mean(errors)), 2),
        "spread_%": round(float(np.std(errors)), 2),
        "sphericity": round(float(np.mean(round_)), 3),
        "true_sphericity": round((36 * math.pi * volume**2) ** (1 / 3) / area, 3),
    }


def main() -> None:
    """All of them, a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        for name in BODIES:
            rows.append({"voxel_nm": size, "body": name, **row(name, size)})
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        facts = {
            "what": "surfaces and sphericities in the object table, of known bodies",
            "densem": __version__,
            "python": platform.python_version(),
            "rows": rows,
        }
        options.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
