"""Results: the table of a benchmark, gathered from the records of its runs, complete or not.

Everything is made anew from `suite.toml`, the records and the block tables beside them: no training code, no
torch. The study is needed for colours, shapes and pictures only; a benchmark that was moved away from it has
a table as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from typing import Any

from densem.errors import DensemError, NotFoundError
from densem.evaluation import Protocol
from densem.experiments.folder import BenchmarkFolder
from densem.experiments.record import ROLES, RoleResult, RunRecord
from densem.experiments.suite import TRAINED, Suite
from densem.experiments.suite import Row as SuiteRow
from densem.report.results.columns import COLUMNS
from densem.report.results.table import ClassFacts, ResultsTable, Row, Run
from densem.study import Study

_PLAIN = "#8a94a3"  # of classes whose colours are not known


def gather(folder: BenchmarkFolder) -> ResultsTable:
    """The table of a benchmark, without comparisons: these are added by `comparisons.compared`.

    Raises:
        NotFoundError: no benchmark there.
        ConfigError: its suite cannot be read.
        FormatError: a record cannot be read.
    """
    suite = read_suite(folder)
    records = folder.records()
    study = study_of(folder)
    rows = tuple(_row(row, suite, records) for row in suite.rows)
    headline = _headline(suite, rows)
    present = {key for row in rows for run in row.runs for key in run.values}
    columns = [
        replace(c, title=headline[c.key]) if c.key in headline else c for c in COLUMNS if c.key in present
    ]
    reference = suite.reference_row
    return ResultsTable(
        name=folder.name,
        study=study.name if study else folder.path.resolve().parent.parent.name,
        rows=rows,
        columns=tuple(columns),
        headline=tuple(key for key in headline if key in present),
        reference=reference.slug if reference else "",
        classes=_classes(study, records),
        facts=_facts(suite, records, study),
    )


def read_suite(folder: BenchmarkFolder) -> Suite:
    """The suite as run; recipes are not looked at, since they may have changed since.

    Raises:
        NotFoundError: none there.
        ConfigError: it cannot be read.
    """
    if not folder.suite.is_file():
        raise NotFoundError(
            f"{folder.path}: no benchmark there (no suite.toml); expected a folder such as "
            "STUDY/benchmarks/NAME"
        )
    return Suite.read(folder.suite)


def study_of(folder: BenchmarkFolder) -> Study | None:
    """The study that a benchmark lies in; None if it was moved away or the study cannot be opened."""
    place = folder.path.resolve().parent.parent
    if not (place / "study.toml").is_file():
        return None
    try:
        return Study.open(place)
    except DensemError:
        return None


# ---- rows and runs ---------------------------------------------------------------------------


def _row(row: SuiteRow, suite: Suite, records: Sequence[RunRecord]) -> Row:
    mine = {r.name: r for r in records if r.row == row.slug and r.kind == row.kind}
    planned = [n for n in _names(row, suite) if n not in mine]
    runs = [*(_run(record, records) for record in mine.values()), *(Run(n, "not run") for n in planned)]
    return Row(
        key=row.slug,
        title=row.title,
        kind=row.kind,
        planned=suite.replicates_of(row),
        runs=tuple(sorted(runs, key=_by_seed)),
        group=row.group,
        note=row.note,
    )


def _names(row: SuiteRow, suite: Suite) -> list[str]:
    """The runs that the suite asks for."""
    if row.kind not in TRAINED:
        return [row.slug]
    return [f"{row.slug}/s{seed}" for seed in range(1, suite.replicates_of(row) + 1)]


def _by_seed(run: Run) -> int:
    seed = run.name.rpartition("/s")[2]
    return int(seed) if seed.isdigit() else 0


def _run(record: RunRecord, records: Sequence[RunRecord]) -> Run:
    return Run(
        name=record.name,
        state=record.status,
        reason=record.error or "",
        values=_values(record, records),
        ious=_ious(record),
        averaged=_averaged(record),
        curve=tuple((p.seconds, p.eval_miou) for p in record.curve if p.eval_miou is not None),
        restarts=record.training.restarts if record.training else 0,
        details=_details(record),
    )


def _values(record: RunRecord, records: Sequence[RunRecord]) -> dict[str, float]:
    """By column key; what is not known is left out."""
    found: dict[str, float | None] = {}
    for role in ROLES:
        if role in record.results:
            found |= _scores(role, record.results[role])
    if record.network is not None:
        found |= {
            "parameters": float(record.network.parameters),
            "mflop_per_voxel": record.network.mflop_per_voxel,
        }
    if record.training is not None:
        found |= {
            "training_seconds": _with_teachers(record, records),
            "training_steps": float(record.training.steps),
            "training_memory_mb": record.training.peak_memory_mb,
        }
    elif record.kind == "ensemble":
        found["training_seconds"] = _spent_on(record.members, records)
    return {key: value for key, value in found.items() if value is not None}


def _with_teachers(record: RunRecord, records: Sequence[RunRecord]) -> float | None:
    """Seconds of training of a network and of those it was distilled from; None if one is not known."""
    assert record.training is not None
    before = _spent_on(record.members, records) if record.members else 0.0
    return None if before is None else before + record.training.seconds


def _spent_on(members: Sequence[str], records: Sequence[RunRecord]) -> float | None:
    """Seconds of training of all members together; None if one of them is not known."""
    spent = {r.name: r.training.seconds for r in records if r.training is not None}
    return sum(spent[name] for name in set(members)) if members and set(members) <= set(spent) else None


def _scores(role: str, result: RoleResult) -> dict[str, float | None]:
    found: dict[str, float | None] = {f"{role}/ece": result.ece}
    for protocol in Protocol:
        scores = result.scores.get(protocol.value, {})
        for metric in ("miou", "miou_organelles", "accuracy", "ari"):
            found[f"{role}/{protocol.value}/{metric}"] = scores.get(metric)
        distances = result.boundaries.get(protocol.value)
        if distances and scores:
            found |= _boundaries(f"{role}/{protocol.value}", distances, scores["classes"])
    if result.prediction is not None:
        found[f"{role}/voxels_per_s"] = result.prediction.voxels_per_s
        found[f"{role}/peak_memory_mb"] = result.prediction.peak_memory_mb
    return found


def _boundaries(
    where: str, distances: Mapping[str, Any], scores: Mapping[str, Any]
) -> dict[str, float | None]:
    """Means over the classes that are judged; `distances` are by volume."""
    judged = [name for name, entry in scores.items() if entry["iou"] is not None]
    parts = [[volume["classes"][name] for volume in distances.values()] for name in judged]
    return {
        f"{where}/boundary_mean_nm": _mean([_weighted(volumes, "mean_nm") for volumes in parts]),
        f"{where}/hausdorff95_nm": _mean([_farthest(volumes) for volumes in parts]),
        f"{where}/surface_dice": _mean([_weighted(volumes, "surface_dice", 0.0) for volumes in parts]),
    }


def _averaged(record: RunRecord) -> dict[str, tuple[str, ...]]:
    """By key of the columns of distances: the judged classes that have one."""
    found = dict[str, tuple[str, ...]]()
    for role, result in record.results.items():
        for protocol, volumes in result.boundaries.items():
            classes = result.scores.get(protocol, {}).get("classes", {})
            judged = [name for name, entry in classes.items() if entry["iou"] is not None]
            for column, key in (("boundary_mean_nm", "mean_nm"), ("hausdorff95_nm", "hausdorff95_nm")):
                found[f"{role}/{protocol}/{column}"] = tuple(
                    name
                    for name in judged
                    if any(v["classes"][name][key] is not None for v in volumes.values())
                )
    return found


def _weighted(volumes: Sequence[Mapping[str, Any]], key: str, otherwise: float | None = None) -> float | None:
    """Mean over volumes by the area of the boundaries, of which these numbers are means themselves.

    A class with a boundary on one side alone has no distance; `otherwise` then takes its place.
    """
    areas = [volume["truth_um2"] + volume["predicted_um2"] for volume in volumes]
    values = [otherwise if volume[key] is None else volume[key] for volume in volumes]
    known = [(value, area) for value, area in zip(values, areas, strict=True) if value is not None and area]
    total = math.fsum(area for _, area in known)
    return math.fsum(value * area for value, area in known) / total if total else None


def _farthest(volumes: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the volume where it is largest: percentiles have no mean."""
    return max((v["hausdorff95_nm"] for v in volumes if v["hausdorff95_nm"] is not None), default=None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def _ious(record: RunRecord) -> dict[str, dict[str, float | None]]:
    return {
        f"{role}/{protocol}": {name: entry["iou"] for name, entry in scores["classes"].items()}
        for role, result in record.results.items()
        for protocol, scores in result.scores.items()
    }


def _details(record: RunRecord) -> dict[str, Any]:
    """For the methods and for JSON; plain values."""
    entries: dict[str, Any] = {
        "seed": record.seed,
        "members": list(record.members),
        "architecture": record.network.architecture if record.network else None,
        "recipe": record.recipe.name if record.recipe else None,
        "recipe_hash": record.recipe.hash if record.recipe else None,
        "overrides": list(record.recipe.overrides) if record.recipe else [],
        "steps": record.training.steps if record.training else None,
        "filters": record.training.filters if record.training else None,
        "made_by": record.made_by.model_dump(mode="json", exclude_none=True),
    }
    return {key: value for key, value in entries.items() if value not in (None, [])}


# ---- columns and classes ---------------------------------------------------------------------


def _headline(suite: Suite, rows: Sequence[Row]) -> dict[str, str]:
    """Key -> title of the suite's columns, by the protocol that the study's classes can serve."""
    present = {key for row in rows for run in row.runs for key in run.values}
    found: dict[str, str] = {}
    for column in suite.columns:
        protocols = [p for p in (column.protocol, column.otherwise) if p is not None]
        keys = [f"{column.role}/{protocol.value}/{column.metric}" for protocol in protocols]
        found.setdefault(next((key for key in keys if key in present), keys[0]), column.title)
    return found


def _classes(study: Study | None, records: Sequence[RunRecord]) -> tuple[ClassFacts, ...]:
    if study is not None:
        return tuple(ClassFacts(c.name, c.color, c.organelle) for c in study.schema.classes)
    for record in records:
        for result in record.results.values():
            for scores in result.scores.values():
                return tuple(
                    ClassFacts(name, _PLAIN, bool(entry["organelle"]))
                    for name, entry in scores["classes"].items()
                )
    return ()


# ---- facts -----------------------------------------------------------------------------------


def _facts(suite: Suite, records: Sequence[RunRecord], study: Study | None) -> dict[str, Any]:
    makers = [record.made_by for record in records]
    commits = sorted({m.commit for m in makers if m.commit})
    last = max((m.date for m in makers), default="")
    versions = {
        "densem": _joined(m.densem for m in makers) or version("densem"),
        "torch": _joined(m.torch for m in makers if m.torch),
    }
    machines = [m.machine if m.device == "cpu" else f"{m.machine}, {m.device}" for m in makers]
    return {
        "title": suite.title,
        "date": _day(last),
        "last_run": last,
        "budget": _budget(suite),
        "data": _data(records, study),
        "versions": {name: text for name, text in versions.items() if text},
        "commits": commits,
        "machines": sorted(set(machines)),
        "suite": suite.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
        "footer": [
            *(f"{name} {text}" for name, text in versions.items() if text),
            *(f"commit {commit}" for commit in commits),
        ],
    }


def _budget(suite: Suite) -> str:
    """`2 h of training`, `3,000 steps`, and the rows that had another one."""
    own: dict[str, list[str]] = {}
    for row in suite.rows:
        if row.budget is not None and row.budget != suite.budget:
            own.setdefault(_spelt(row.budget.max_time, row.budget.steps), []).append(row.title)
    others = "; ".join(f"{', '.join(titles)}: {budget}" for budget, titles in own.items())
    return _spelt(suite.budget.max_time, suite.budget.steps) + (f" ({others})" if others else "")


def _spelt(max_time: str | None, steps: int | None) -> str:
    if max_time is None:
        return f"{steps:,} steps"
    number, unit = max_time.strip()[:-1].strip(), max_time.strip()[-1]
    word = {"s": "second", "m": "minute", "h": "hour"}[unit]
    return f"{number} {word}{'' if float(number) == 1 else 's'}"


def _data(records: Sequence[RunRecord], study: Study | None) -> dict[str, list[dict[str, Any]]]:
    """Volumes by role: those for training as the study has them now, the others as the runs scored them."""
    found: dict[str, list[dict[str, Any]]] = {}
    if study is not None:
        found["train"] = [_volume(name, study) for name in study.names("train")]
    for role in ROLES:
        names = sorted({n for r in records if role in r.results for n in r.results[role].volumes})
        found[role] = [_volume(name, study) for name in names]
    return {role: volumes for role, volumes in found.items() if volumes}


def _volume(name: str, study: Study | None) -> dict[str, Any]:
    if study is None:
        return {"name": name}
    try:
        image = study.image(name)
    except DensemError:
        return {"name": name}
    return {"name": name, "shape": list(image.shape), "voxel_size_nm": list(image.voxel_size_nm)}


def _joined(words: Any) -> str:
    return " and ".join(sorted(set(words)))


def _day(moment: str) -> str:
    """`23 November 2026` of an ISO 8601 date; empty for anything else."""
    try:
        return datetime.fromisoformat(moment).strftime("%d %B %Y").lstrip("0")
    except ValueError:
        return ""
