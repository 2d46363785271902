"""Objects of one real slice of platelets: found in its published classes, against its published objects.

    python benchmarks/platelet_objects.py DATA/platelet-slices SCRATCH [--out results.json] [--pictures]

No network takes part: what is missed here is what labels alone do not say. Cells are found as connected components and
by watersheds of several depths, with the commands a user would type. Pictures show true objects beside found ones.

The published objects have an id for the outermost voxels of the slice, a frame one voxel wide. Nobody labelled anything
with it: it is given as `--ignore-id`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from densem.cli.app import run
from densem.volumes import open_volume

VOXEL_SIZE = ("40", "10", "10")
DEPTHS_NM = (20, 50, 100, 200, 400)


def do(*words: object) -> None:
    """A command that must succeed."""
    code = run([str(w) for w in words])
    if code:
        raise SystemExit(f"densem {' '.join(map(str, words))}: exit code {code}")


def make_study(data: Path, folder: Path) -> None:
    """The slice with its classes and cells."""
    shutil.rmtree(folder, ignore_errors=True)
    do("new", folder, "--schema", "platelet")
    do("import", folder, "slice", "--image", data / "50-images-z0.tif", "--labels", data / "50-semantic-z0.tif",
       "--instances", data / "50-instance-cell-z0.tif", "--voxel-size", *VOXEL_SIZE, "--role", "eval")  # fmt: skip


def frame_id(truth: np.ndarray) -> int:
    """The id of the frame around a slice (1, Y, X)."""
    around = {
        int(i) for side in (truth[0, 0], truth[0, -1], truth[0, :, 0], truth[0, :, -1]) for i in set(side)
    }
    if len(around) != 1:
        raise SystemExit(f"expected one id around the slice, found {sorted(around)}")
    return around.pop()


def scored(study: Path, name: str, level: int, truth: Path) -> dict[str, Any]:
    """Scores by class, and of the partition."""
    ignored = frame_id(tifffile.imread(truth))
    do(
        "evaluate-objects",
        study,
        "--objects",
        name,
        "--level",
        level,
        "--truth",
        truth,
        "--ignore-id",
        ignored,
    )
    found = json.loads((study / "objects" / name / f"scores-{level}.json").read_text())
    keep = ("truth", "predicted", "matched", "pq", "sq", "rq", "mean_ap")
    rows = {n: {k: row[k] for k in keep} for n, row in {**found["classes"], "all": found["all"]}.items()}
    parts = {k: found["partitions"][k] for k in ("adapted_rand_error", "vi_split", "vi_merge")}
    return {**rows, "partitions": parts, "left_out": found["left_out"]}


def faults(study: Path, name: str, level: int, truth_file: Path) -> dict[str, list[list[int]]]:
    """Which true objects one found object holds most of (merged), and the other way round (split)."""
    truth = tifffile.imread(truth_file)
    truth[truth == frame_id(truth)] = 0
    truth = truth.reshape(-1).astype(np.int64)
    found = (
        open_volume(study / "objects" / name / f"objects-{level}.zarr").read().reshape(-1).astype(np.int64)
    )
    pairs, voxels = np.unique(
        np.stack([truth, found])[:, (truth > 0) & (found > 0)], axis=1, return_counts=True
    )
    sizes = (Counter(), Counter())  # type: tuple[Counter[int], Counter[int]]
    for (t, f), n in zip(pairs.T.tolist(), voxels.tolist(), strict=True):
        sizes[0][t] += n
        sizes[1][f] += n
    merged: dict[int, list[int]] = {}
    split: dict[int, list[int]] = {}
    for (t, f), n in zip(pairs.T.tolist(), voxels.tolist(), strict=True):
        if 2 * n > sizes[0][t]:
            merged.setdefault(f, []).append(t)
        if 2 * n > sizes[1][f]:
            split.setdefault(t, []).append(f)
    return {
        "true objects merged": [m for m in merged.values() if len(m) > 1],
        "found objects of one true one": [s for s in split.values() if len(s) > 1],
    }


def picture(study: Path, names: list[str], level: int, truth_file: Path, image_file: Path, out: Path) -> None:
    """The image with the outlines of true objects, then of found ones."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from skimage.segmentation import find_boundaries

    image = tifffile.imread(image_file)[0].astype(float)
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / (high - low), 0, 1)
    truth = tifffile.imread(truth_file)
    shown = {"true": np.where(truth == frame_id(truth), 0, truth)[0]}
    shown |= {n: open_volume(study / "objects" / n / f"objects-{level}.zarr").read()[0] for n in names}
    figure, axes = pyplot.subplots(1, len(shown), figsize=(7 * len(shown), 7), layout="constrained")
    for panel, (name, ids) in zip(np.atleast_1d(axes), shown.items(), strict=True):
        colors = np.random.default_rng(3).random((int(ids.max()) + 1, 3))
        colors[0] = 0
        mixed = np.where(ids[..., None] > 0, 0.6 * grey[..., None] + 0.4 * colors[ids], grey[..., None])
        mixed[find_boundaries(ids, mode="inner")] = (1, 1, 0)
        panel.imshow(mixed)
        panel.set_title(f"{name}: {len(np.unique(ids)) - 1} objects")
        panel.axis("off")
    figure.savefig(out, dpi=80)
    pyplot.close(figure)


def main() -> None:
    """Everything, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", action="store_true")
    chosen = parser.parse_args()
    data, study = chosen.data, chosen.scratch / "platelet-slice"
    truths = data / "50-instance-cell-z0.tif", data / "50-instance-organelle-z0.tif"
    make_study(data, study)
    do("objects", study, "--labels", "slice", "--name", "components")
    results: dict[str, Any] = {
        "organelles": {
            **scored(study, "components", 1, truths[1]),
            **faults(study, "components", 1, truths[1]),
        },
        "cells, components": {
            **scored(study, "components", 0, truths[0]),
            **faults(study, "components", 0, truths[0]),
        },
    }
    plain = [w for kind in ("mitochondrion", "alpha_granule", "dense_granule")
             for w in ("--set", f"{kind}.method=components")]  # fmt: skip
    do("objects", study, "--labels", "slice", "--name", "plain", *plain)
    results["organelles, components"] = {
        **scored(study, "plain", 1, truths[1]),
        **faults(study, "plain", 1, truths[1]),
    }
    for depth in DEPTHS_NM:
        name = f"watershed-{depth}"
        do("objects", study, "--labels", "slice", "--name", name, "--set", "cell.method=watershed",
           "--set", f"cell.h_nm={depth}")  # fmt: skip
        results[f"cells, watershed h = {depth} nm"] = {
            **scored(study, name, 0, truths[0]), **faults(study, name, 0, truths[0]),
        }  # fmt: skip
    print(json.dumps(results, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(results, indent=1) + "\n")
    if chosen.pictures:
        image = data / "50-images-z0.tif"
        picture(study, ["components", "watershed-100"], 0, truths[0], image, chosen.scratch / "cells.png")
        picture(study, ["plain", "components"], 1, truths[1], image, chosen.scratch / "organelles.png")


if __name__ == "__main__":
    main()
