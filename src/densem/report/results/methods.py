"""The methods of a benchmark, as prose and as a table of recipes: only what is known is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from densem.report.content import Cell, Table
from densem.report.results.columns import known
from densem.report.results.table import LEVEL, ResultsTable, Row

_ROLES = {
    "train": "for training",
    "eval": "for choosing weights and members of ensembles",
    "test": "for the test",
}


def methods(table: ResultsTable) -> tuple[str, ...]:
    """Paragraphs: data and split, protocol, training, statistics, what made it."""
    paragraphs = (
        _data(table.facts),
        _protocols(table),
        _training(table),
        _statistics(table),
        _makers(table.facts),
    )
    return tuple(text for text in paragraphs if text)


def _data(facts: Mapping[str, Any]) -> str:
    """The volumes by role: `facts["data"]` is role -> list of {name, shape, voxel_size_nm}."""
    parts = []
    for role, volumes in facts.get("data", {}).items():
        said = [_volume(v) for v in volumes]
        parts.append(f"{_listed(said)} {_ROLES.get(role, role)}")
    return f"Volumes (z × y × x): {'; '.join(parts)}." if parts else ""


def _volume(volume: Mapping[str, Any]) -> str:
    facts = []
    if volume.get("shape"):
        facts.append(" × ".join(f"{n:,}" for n in volume["shape"]) + " voxels")
    if volume.get("voxel_size_nm"):
        facts.append(" × ".join(f"{s:g}" for s in volume["voxel_size_nm"]) + " nm")
    return f"{volume['name']} ({', '.join(facts)})" if facts else str(volume["name"])


def _protocols(table: ResultsTable) -> str:
    if not table.columns:
        return ""
    said = []
    if any("/cells/" in c.key for c in table.columns):
        said.append(
            "Inside labelled cells means: only voxels whose annotation is not background were compared, as "
            "the 2D-3D study scored its test volumes; what is predicted outside goes unseen, so organelles "
            "alone are judged."
        )
    said.append(
        "The intersection over union of a class is TP / (TP + FP + FN); means leave out classes absent "
        "from both annotation and prediction; voxels nobody labelled are not compared."
    )
    if known("eval/ece") in table.columns or known("test/ece") in table.columns:
        said.append(
            "The expected calibration error compares the predicted probability with the share that is right."
        )
    return " ".join(said)


def _training(table: ResultsTable) -> str:
    words = []
    if table.facts.get("budget"):
        words.append(f"Every training was given {table.facts['budget']}.")
    if any(row.planned > 1 for row in table.rows):
        words.append(
            "The runs of a row differ in their seed alone: initial weights, order of the data, "
            "augmentation. The weights with the best score on the eval volumes were kept."
        )
    words.append(_pupils(table))
    words.append(
        "A run whose prediction fell to a single class, or whose loss was no number, has collapsed; it was "
        "counted, not replaced."
        if table.counted("collapsed")
        else ""
    )
    return " ".join(w for w in words if w)


def _pupils(table: ResultsTable) -> str:
    """What the runs of distilled networks have in common; empty where there are none."""
    titles = [row.title for row in table.rows if row.kind == "distilled" and row.planned > 1]
    if not titles:
        return ""
    return (
        f"The runs of a distilled row ({', '.join(titles)}) share their teachers: its mean, spread and mark "
        "hold given this one ensemble, and say nothing of networks distilled from another one."
    )


def _statistics(table: ResultsTable) -> str:
    words = [
        f"Standard deviations are between runs (n - 1). Intervals of means are at {LEVEL:.0%}".replace(
            "%", " %"
        )
        + ", by Student's t over the runs where nothing else is said."
    ]
    if table.facts.get("statistics"):
        words.append(str(table.facts["statistics"]))
    return " ".join(words)


def _makers(facts: Mapping[str, Any]) -> str:
    words = []
    versions = facts.get("versions", {})
    if versions:
        words.append(f"Made with {', '.join(f'{k} {v}' for k, v in versions.items())}.")
    if facts.get("machines"):
        words.append(f"Trained and timed on {_listed(list(facts['machines']))}.")
    return " ".join(words)


def recipes_table(table: ResultsTable) -> Table | None:
    """What each row was given, and where it deviates; None where nothing is known."""
    rows = tuple(cells for row in table.rows if (cells := _recipe(row)) is not None)
    if not rows:
        return None
    caption = "What each row was given, and where it deviates from what was published for it."
    return Table(("", "Recipe", "Steps", "Width", "Changes and deviations"), rows, caption)


def _recipe(row: Row) -> tuple[Cell, ...] | None:
    """The first run that knows speaks for all: replicates differ in their seed alone."""
    details = next((run.details for run in row.runs if run.details), {})
    if not details and not row.note:
        return None
    changes = [str(o) for o in details.get("overrides", ())]
    said = "; ".join(filter(None, [row.note, ", ".join(changes), _members(row)]))
    return (
        Cell(row.title),
        Cell(str(details.get("recipe", ""))),
        Cell(_number(details.get("steps")), number=True),
        Cell(_number(details.get("filters")), number=True),
        Cell("", note=said),
    )


def _members(row: Row) -> str:
    members: Sequence[str] = next(
        (run.details["members"] for run in row.runs if run.details.get("members")), ()
    )
    word = "teachers" if row.kind == "distilled" else "members"
    return f"{word}: {', '.join(members)}" if members else ""


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _listed(words: Sequence[str]) -> str:
    """As `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
