"""A made-up table as large as the poster's suite with 2D networks and baselines."""

from __future__ import annotations

import math

import numpy as np

from densem.evaluation import Verdict
from densem.report.results.columns import COLUMNS, known
from densem.report.results.table import ClassFacts, Comparison, ResultsTable, Row, Run
from densem.schema import LabelSchema

PLATELET = LabelSchema.resolve("platelet")
CLASSES = tuple(ClassFacts(c.name, c.color, c.organelle) for c in PLATELET.classes)
EVAL, TEST = "eval/labelled/miou", "test/cells/miou_organelles"

# slug, title, group, kind, runs, eval, test, spread, parameters, MFLOP a voxel, verdict
ROWS: tuple[tuple, ...] = (
    ("ens-333", "Ens. 2D-3D+3x3x3 (4)", "2D-3D networks", "ensemble", 1, 0.686, 0.553, 0, 45.6e6, 1.9, "not told apart"),
    ("ens-abl-333", "Ens. Abl. 3x3x3 (5)", "2D-3D networks", "ensemble", 1, 0.690, 0.520, 0, 51.0e6, 1.8, "not told apart"),
    ("ens-2d3d", "Ens. 2D-3D (4)", "2D-3D networks", "ensemble", 1, 0.688, 0.470, 0, 40.1e6, 1.6, "lower"),
    ("333", "2D-3D+3x3x3", "2D-3D networks", "network", 6, 0.665, 0.547, 0.012, 11.4e6, 0.47, "reference"),
    ("2d3d", "2D-3D", "2D-3D networks", "network", 6, 0.650, 0.477, 0.015, 10.0e6, 0.41, "lower"),
    ("abl-333", "Abl. 3x3x3", "2D-3D networks", "network", 6, 0.667, 0.466, 0.02, 10.2e6, 0.43, "lower"),
    ("abl-loss", "Abl. Multi-Loss", "2D-3D networks", "network", 6, 0.652, 0.467, 0.011, 11.4e6, 0.46, "lower"),
    ("abl-pyramid", "Abl. 3D Pyramid", "2D-3D networks", "network", 6, 0.646, 0.487, 0.014, 10.9e6, 0.35, "lower"),
    ("ens-loss", "Ens. Abl. Multi-Loss (3)", "2D-3D networks", "ensemble", 1, 0.633, 0.445, 0, 34.2e6, 1.4, "lower"),
    ("ens-pyramid", "Ens. Abl. 3D Pyramid (3)", "2D-3D networks", "ensemble", 1, 0.681, 0.533, 0, 32.7e6, 1.1, "not told apart"),
    ("2d", "2D encoder-decoder", "2D networks", "network", 3, 0.56, 0.39, 0.02, 10.2e6, 0.28, "spread unknown"),
    ("unet-2d", "2D U-Net", "2D networks", "network", 3, 0.53, 0.37, 0.016, 31.0e6, 0.57, "spread unknown"),
    ("ens-2d", "Ens. 2D encoder-decoder (3)", "2D networks", "ensemble", 1, 0.58, 0.41, 0, 30.6e6, 0.84, "lower"),
    ("ens-unet", "Ens. 2D U-Net (3)", "2D networks", "ensemble", 1, 0.55, 0.40, 0, 93.0e6, 1.7, "lower"),
    ("res-2d", "Residual dilated 2D encoder-decoder", "2D networks", "network", 3, 0.55, 0.38, 0.02, 12.0e6, 0.33, "spread unknown"),
    ("unet-3d", "3D U-Net, 3x3x3", "Baselines", "network", 3, 0.60, 0.44, 0.02, 19.1e6, 3.9, "spread unknown"),
    ("unet-133", "3D U-Net, 1x3x3", "Baselines", "network", 3, 0.59, 0.43, 0.018, 8.1e6, 1.9, "spread unknown"),
    ("thin", "Thin 3D U-Net", "Baselines", "network", 3, 0.57, 0.42, 0.01, 1.2e6, 0.25, "spread unknown"),
    ("deeplab", "DeepLabV3+", "Baselines", "network", 3, 0.50, 0.33, 0.03, 26.7e6, 0.19, "spread unknown"),
    ("deepvess", "DeepVess", "Baselines", "network", 3, 0.36, 0.21, 0.04, 0.3e6, 0.94, "spread unknown"),
    ("medical-10", "MedicalNet ResNet-10", "Baselines", "network", 3, 0.41, 0.27, 0.02, 14.4e6, 2.2, "spread unknown"),
    ("medical-50", "MedicalNet ResNet-50 <pre-trained>", "Baselines", "network", 3, 0.44, 0.30, 0.02, 46.2e6, 4.9, "spread unknown"),
    ("resenc", "ResEnc U-Net", "Baselines", "network", 3, 0.662, 0.541, 0.01, 32.4e6, 2.9, "spread unknown"),
    ("mednext", "MedNeXt", "Baselines", "network", 3, 0, 0, 0, 0, 0, "spread unknown"),
    ("distilled", "Distilled from Ens. 2D-3D+3x3x3", "One network", "distilled", 1, 0.683, 0.550, 0, 11.4e6, 0.47, "spread unknown"),
    ("human", "Second annotator", "People", "annotators", 1, 0.81, 0.74, 0, 0, 0, "spread unknown"),
)  # fmt: skip


def curve(
    rng: np.random.Generator, end: float, seconds: float, rate: float
) -> tuple[tuple[float, float], ...]:
    times = np.linspace(seconds / 15, seconds, 15)
    return tuple(
        (float(t), float(end * (1 - math.exp(-rate * t / seconds)) + rng.normal(0, 0.006))) for t in times
    )


def made_up_run(rng: np.random.Generator, row: tuple, number: int) -> Run:
    slug, _, _, kind, _, in_eval, in_test, sd, size, flop, _ = row
    if slug == "mednext":
        return Run(f"{slug}/s{number}", "not run")
    if slug == "deepvess" and number == 1:
        return Run(
            f"{slug}/s1",
            "collapsed",
            "after step 2,000 only class background is predicted <all of 3 attempts>",
        )
    if slug == "unet-3d" and number == 2:
        return Run(f"{slug}/s2", "failed", "OutOfMemoryError: the card has 8 GB, 11 GB were asked for")
    values = {EVAL: in_eval + rng.normal(0, sd), TEST: in_test + rng.normal(0, 1.5 * sd)}
    values |= {"eval/labelled/accuracy": 0.9 + values[EVAL] / 10, "test/labelled/miou": values[TEST] + 0.05}
    values |= {"test/cells/boundary_mean_nm": 90 - 90 * values[TEST], "test/ece": 0.04 + rng.random() * 0.04}
    values |= {
        "test/cells/hausdorff95_nm": 700 - 800 * values[TEST],
        "test/cells/surface_dice": 0.3 + values[TEST],
    }
    if kind != "annotators":
        values |= {"parameters": size, "mflop_per_voxel": flop, "test/voxels_per_s": 2.1e6 / (0.3 + flop)}
        values |= {"test/peak_memory_mb": 900 + 300 * flop}
    details: dict = {"recipe": f"recipe-{slug}"}
    trained = kind in ("network", "distilled")
    if trained:
        values |= {"training_seconds": 7200 + rng.normal(0, 20), "training_steps": 20000.0}
        details |= {"overrides": ["optimizer.lr=0.001"], "steps": 20000, "filters": 32}
    ious = {
        c.name: float(np.clip(values[TEST] + rng.normal(0, 0.03) + 0.1 * (3 - c.id), 0, 1))
        for c in PLATELET.classes[2:]
    }
    points = (
        curve(rng, values[EVAL], 7200, 2.2 if slug in ("resenc", "medical-50") else 6.0) if trained else ()
    )
    name = f"{slug}/s{number}" if trained else slug
    return Run(name, "done", values=values, ious={"test/cells": ious}, curve=points, details=details)


def made_up_table(seed: int = 0) -> ResultsTable:
    rng = np.random.default_rng(seed)
    rows = []
    for row in ROWS:
        slug, title, group, kind, count, *_ = row
        runs = tuple(made_up_run(rng, row, n) for n in range(count))
        rows.append(
            Row(slug, title, kind, count, runs, group, "a note" if slug == "2d" else "", compared(rng, row))
        )
    present = {key for row in rows for run in row.runs for key in run.values}
    return ResultsTable(
        "poster", "platelets", tuple(rows), tuple(c for c in COLUMNS if c.key in present), (EVAL, TEST), "333", CLASSES,
        facts={
            "title": "Networks, ablations and ensembles",
            "date": "23 November 2026",
            "budget": "2 hours",
            "data": {
                "train": [{"name": "train", "shape": [50, 800, 800], "voxel_size_nm": [40, 10, 10]}],
                "eval": [{"name": "eval", "shape": [24, 800, 800], "voxel_size_nm": [40, 10, 10]}],
                "test": [{"name": "test", "shape": [121, 609, 400], "voxel_size_nm": [40, 10, 10]}],
            },
            "versions": {"densem": "0.1.0", "torch": "2.9.1"},
            "machines": ["a made-up machine with 2 cores"],
            "footer": ["densem 0.1.0", "made up"],
        },
    )  # fmt: skip


def compared(rng: np.random.Generator, row: tuple) -> dict[str, Comparison]:
    verdict = Verdict(row[-1])
    if row[0] == "mednext":
        return {}
    if verdict in (Verdict.REFERENCE, Verdict.SPREAD_UNKNOWN):
        return {key: Comparison(verdict) for key in (EVAL, TEST)}
    difference = row[6] - 0.547
    return {
        EVAL: Comparison(Verdict.NOT_TOLD_APART, row[5] - 0.665, row[5] - 0.69, row[5] - 0.64, 0.1, 0.4),
        TEST: Comparison(
            verdict,
            difference,
            difference - 0.03,
            difference + 0.03,
            *((0.0001, 0.0004) if verdict is Verdict.LOWER else (0.1, 0.3)),
        ),
    }


assert known(EVAL)
assert known(TEST)
