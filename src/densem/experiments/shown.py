"""Shown: the volumes that figures of a benchmark can show, and what the best run of each row made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from densem.errors import DensemError
from densem.experiments.folder import BenchmarkFolder
from densem.experiments.record import ROLES, RunRecord, ScoredRole
from densem.experiments.results import read_suite, study_of
from densem.report.results.contestant import Contestant
from densem.report.results.table import ResultsTable, Row
from densem.study import Study
from densem.volumes import Volume, open_volume


@dataclass(frozen=True, eq=False)
class Shown:
    """A scored volume of the study.

    Attributes:
        study: that it is in.
        name: of the volume.
        image: grey values.
        truth: class ids, 255 where unlabelled.
        contestants: what each row made of it, in the order of the table; at least one.
        missing: titles of rows whose prediction is gone, or of another volume than the study has now.
    """

    study: Study
    name: str
    image: Volume
    truth: Volume
    contestants: tuple[Contestant, ...]
    missing: tuple[str, ...]


def shown_volumes(table: ResultsTable, folder: BenchmarkFolder) -> Iterator[Shown]:
    """The volumes that can be shown, those of role test first; none without the study or its predictions."""
    study = study_of(folder)
    records = {record.name: record for record in folder.records() if record.done}
    chosen = [(row, records[name]) for row in table.rows if (name := _speaker(row, table)) in records]
    for role in reversed(ROLES):
        for volume in _volumes(role, [record for _, record in chosen]):
            found = study and _of_volume(study, folder, role, volume, chosen)
            if found:
                yield found


def _speaker(row: Row, table: ResultsTable) -> str:
    """Name of the run that scored best on the eval volumes; of a row without eval scores, the first."""
    column = next((c for c in table.headlines if c.key.startswith("eval/")), None)
    best = row.best_run(column) if column is not None else None
    first = row.done[0] if row.done else None
    found = best or first
    return found.name if found is not None else ""


def _volumes(role: ScoredRole, records: Sequence[RunRecord]) -> list[str]:
    return sorted({name for r in records if role in r.results for name in r.results[role].volumes})


def _of_volume(
    study: Study,
    folder: BenchmarkFolder,
    role: ScoredRole,
    name: str,
    chosen: Sequence[tuple[Row, RunRecord]],
) -> Shown | None:
    try:
        image, truth = study.image(name), study.labels(name)
    except DensemError:
        return None
    if truth is None:
        return None
    contestants = []
    for row, record in chosen:
        if record.kind == "annotators":
            prediction = _annotation(study, folder, record, name)
        else:
            prediction = _prediction(folder.folder_of(record), record, role, name)
        if prediction is not None and prediction.shape == image.shape:
            contestants.append(Contestant(row.title, prediction))
    if not contestants:
        return None
    titles = {contestant.title for contestant in contestants}
    missing = tuple(row.title for row, _ in chosen if row.title not in titles)
    return Shown(study, name, image, truth, tuple(contestants), missing)


def _annotation(study: Study, folder: BenchmarkFolder, record: RunRecord, name: str) -> Volume | None:
    """What another annotator made of a volume."""
    annotator = read_suite(folder).row(record.row).annotator
    return _opened(study.folder / "annotations" / name / f"semantic.{annotator}.zarr")


def _prediction(place: Path, record: RunRecord, role: ScoredRole, name: str) -> Volume | None:
    result = record.results.get(role)
    path = result.predictions.get(name) if result is not None else None
    return None if path is None else _opened(place / path / "classes.zarr")


def _opened(path: Path) -> Volume | None:
    try:
        return open_volume(path) if path.exists() else None
    except DensemError:
        return None
