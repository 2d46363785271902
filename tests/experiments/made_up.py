"""Made-up benchmarks: records and block tables with known differences, for tests of tables and pages.

All runs were scored on the same two volumes, called eval and test. A run's block tables are drawn around a true confusion of its row: `quality` is the chance that a voxel is
labelled right, a replicate shifts it by a normal number of spread `spread`, every block by one of `between`.
Scores follow from the summed tables through `densem.evaluation`, so records and tables always agree.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from densem.evaluation import BlockTables, Boundaries, Calibration, ClassBoundary, Protocol, scores
from densem.experiments.folder import BenchmarkFolder
from densem.experiments.record import (
    CurvePoint,
    MadeBy,
    NetworkFacts,
    PredictionFacts,
    RecipeFacts,
    RoleResult,
    RunRecord,
    TrainingFacts,
)
from densem.experiments.suite import Suite
from densem.schema import LabelSchema

SCHEMA = LabelSchema.from_table(
    {
        "background": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 1, "color": "#0101e0", "thing": True},
        "mitochondrion": {"id": 2, "color": "#01abfe", "parent": "cell", "organelle": True, "thing": True},
        "granule": {"id": 3, "color": "#01fe01", "parent": "cell", "organelle": True, "thing": True},
    },
    "made-up",
)
SHARES = (0.40, 0.45, 0.05, 0.10)
"""Of the voxels, by class."""
BLOCKS, VOXELS = 12, 5000
SHAPE, BLOCK, SIZE_NM = (8, 120, 160), (8, 40, 40), (40.0, 10.0, 10.0)
"""Of a scored volume: its voxels, those of an evaluation block, and their size."""
SUITE = {
    "title": "Made-up networks",
    "replicates": 6,
    "budget": {"steps": 100},
    "reference": "deep",
    "columns": [
        {"title": "eval MIoU", "role": "eval", "metric": "miou"},
        {"title": "test MIoU over organelles", "role": "test", "protocol": "cells", "metric": "miou_organelles"},
    ],
    "rows": [
        {"slug": "ensemble-deep", "title": "Ens. Deep (4)", "kind": "ensemble", "of": "deep", "k": 4, "group": "Deep"},
        {"slug": "deep", "title": "Deep", "recipe": "hybrid-2d3d-333", "group": "Deep"},
        {"slug": "twin", "title": "Twin of Deep", "recipe": "hybrid-2d3d-333", "group": "Deep", "note": "equal to Deep"},
        {"slug": "flat", "title": "Flat", "recipe": "unet-2d", "group": "2D", "replicates": 3},
        {"slug": "never-run", "title": "Never run", "recipe": "unet-2d", "group": "2D", "replicates": 3},
    ],
}  # fmt: skip


@dataclass(frozen=True)
class MadeUpRow:
    """What is true of a row, and which of its replicates went wrong."""

    slug: str
    quality: float
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    spread: float = 0.01
    collapsed: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    parameters: int = 1_000_000
    mflop: float = 20.0


ROWS = (
    MadeUpRow("deep", 0.90, parameters=11_399_438, mflop=310.0, collapsed=(5,)),
    MadeUpRow("twin", 0.90, parameters=11_399_438, mflop=310.0),
    MadeUpRow("flat", 0.80, (1, 2, 3), parameters=31_030_983, mflop=150.0, failed=(3,)),
)


def made_up_benchmark(study, name="made-up", rows=ROWS, suite=SUITE, seed=0):
    """Write a whole benchmark with records into a study folder; it need be no study.

    Returns:
        Its `BenchmarkFolder`. One row of the suite has no record; `deep` has a collapsed and `flat` a failed run.
    """
    rng = np.random.default_rng(seed)
    folder = BenchmarkFolder.of(study, name)
    folder.path.mkdir(parents=True)
    made = Suite.from_table(suite, "made-up")
    folder.suite.write_text(made.to_toml())
    for row in rows:
        for number in row.seeds:
            _write_network(folder, made, row, number, rng)
    for row in made.rows:
        source = next((r for r in rows if r.slug == row.of), None)
        if row.kind == "ensemble" and source is not None:
            _write_ensemble(folder, row, source, rng)
    return folder


def counts_of_blocks(role, quality, rng, between=0.02):
    """Tables int64 (B, C, C + 1): errors go to the cytoplasm, those of the cytoplasm to the others.

    The true voxels of a block are the same in all runs, and some blocks are harder than others in all of them.
    """
    truth = np.random.default_rng(len(role) + ord(role[0]))
    c = len(SCHEMA)
    counts = np.zeros((BLOCKS, c, c + 1), np.int64)
    for block in counts:
        right = np.clip(quality + truth.normal(0, between) + rng.normal(0, between / 4), 0.02, 0.995)
        sizes = truth.multinomial(VOXELS, truth.dirichlet(50 * np.array(SHARES)))
        for channel, size in enumerate(sizes):
            wrong = (1 - right) * np.where(np.arange(c) == 1, 3.0, 1.0)
            wrong[channel] = 0
            chances = wrong / wrong.sum() * (1 - right)
            chances[channel] = right
            block[channel, :c] = rng.multinomial(size, chances)
    return counts


def _write_network(folder, suite, row, seed, rng):
    title, recipe = suite.row(row.slug).title, suite.row(row.slug).recipe
    facts = {
        "row": row.slug, "title": title, "kind": "network", "seed": seed, "made_by": MADE_BY,
        "network": NetworkFacts(
            architecture=recipe, parameters=row.parameters, mflop_per_voxel=row.mflop, config={"filters": 32}
        ),
        "recipe": RecipeFacts(name=recipe, hash=hashlib.sha256(row.slug.encode()).hexdigest()[:16]),
    }  # fmt: skip
    place = folder.run(row.slug, "network", seed)
    if seed in row.collapsed:
        error = "only class background is predicted on the eval volume after 20 steps"
        RunRecord(status="collapsed", error=error, **facts).write(place)
    elif seed in row.failed:
        error = "RuntimeError: out of memory (asked for 12.0 GB)"
        RunRecord(status="failed", error=error, **facts).write(place)
    else:
        quality = row.quality + rng.normal(0, row.spread)
        curve = _curve(quality, row.mflop)
        training = TrainingFacts(
            seconds=curve[-1].seconds, steps=100, filters=32, best_step=100, best_miou=curve[-1].eval_miou
        )
        results = {role: _results(place, role, quality, row.mflop, rng) for role in ("eval", "test")}
        record = RunRecord(
            status="done", training=training, curve=curve, results=results, model="model", **facts
        )
        record.write(place)


def _write_ensemble(folder, row, source, rng):
    seeds = [s for s in source.seeds if s not in (*source.collapsed, *source.failed)][: row.k]
    place = folder.run(row.slug, "ensemble")
    quality = source.quality + 0.02
    network = NetworkFacts(
        architecture="hybrid-2d3d-333",
        parameters=len(seeds) * source.parameters,
        mflop_per_voxel=len(seeds) * source.mflop,
    )
    RunRecord(
        row=row.slug,
        title=row.title,
        kind="ensemble",
        members=tuple(f"{source.slug}/s{s}" for s in seeds),
        status="done",
        network=network,
        results={r: _results(place, r, quality, len(seeds) * source.mflop, rng) for r in ("eval", "test")},
        made_by=MADE_BY,
    ).write(place)


def _curve(quality, mflop):
    points = []
    for step in range(10, 101, 10):
        validated = step % 20 == 0
        points.append(
            CurvePoint(
                seconds=step * mflop / 100,
                step=step,
                loss=round(0.2 + 1.5 * np.exp(-step / 30), 4),
                eval_miou=round((quality - 0.1) * (1 - np.exp(-step / 30)), 4) if validated else None,
            )
        )
    return tuple(points)


def _results(place, role, quality, mflop, rng):
    counts = counts_of_blocks(role, quality if role == "eval" else quality - 0.05, rng)
    found, paths, boundary = {}, {}, {}
    for protocol in Protocol:
        table = counts.copy()
        if protocol is Protocol.CELLS:
            table[:, 0] = 0
        name = f"blocks-{role}-{protocol.value}.npz"
        place.mkdir(parents=True, exist_ok=True)
        tables = BlockTables(table, SCHEMA, protocol, SHAPE, BLOCK, SIZE_NM, "fedcba9876543210")
        tables.save(place / name)
        paths[protocol.value] = {role: name}
        found[protocol.value] = scores(tables.whole()).to_dict()
        boundary[protocol.value] = {role: _boundaries(quality).to_dict()}
    cost = PredictionFacts(
        voxels=int(counts.sum()), seconds=counts.sum() * mflop / 1e7, voxels_per_s=1e7 / mflop,
        peak_memory_mb=900.0 + mflop, context=(4, 56, 56), tile=(16, 128, 128), runtime="cpu, float32, torch",
    )  # fmt: skip
    return RoleResult(
        volumes={role: "0123456789abcdef fedcba9876543210"}, scores=found, blocks=paths, boundaries=boundary,
        calibration={role: _calibration(quality).to_dict()}, ece=_calibration(quality).ece,
        prediction=cost, predictions={role: f"predictions/{role}"},
    )  # fmt: skip


def _boundaries(quality):
    far = 400 * (1 - quality)
    rows = (ClassBoundary(c.name, far, 3 * far, quality, 4.0, 4.2) for c in SCHEMA.classes)
    return Boundaries(40.0, tuple(rows))


def _calibration(quality):
    """Everything is predicted with a confidence of 242 / 255 = 0.95."""
    voxels, right = np.zeros(256, np.int64), np.zeros(256, np.int64)
    voxels[242], right[242] = 10_000, round(10_000 * quality)
    return Calibration.of_levels(voxels, right)


MADE_BY = MadeBy(
    densem="0.1.0",
    torch="2.13.0",
    machine="made-up processor, 2 cores",
    device="cpu",
    date="2026-11-23T05:00:00+00:00",
)
