"""Evaluation inside a study: scores of a prediction, kept as JSON, and the page of figures.

Threads of this process hand over what they count. What other engines count is kept until scores are there:

    predictions/<name>/.evaluation-<protocol>/
        journal/                           the lock, and the jobs of Slurm
        counts/ calibration/ boundaries/   what each block gave, a journal for each pass
"""

from __future__ import annotations

import json
import platform
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from densem.blocks import EngineChoice, Journal, Triple
from densem.blocks.slurm import JOBS, clear_left_jobs
from densem.errors import DensemError, DensemWarning, InputError, NotFoundError
from densem.evaluation import (
    BlockTables,
    Boundaries,
    Calibration,
    Protocol,
    Scores,
    block_tables,
    boundaries,
    calibration,
    scores,
)
from densem.evaluation.passes import BLOCK, CrewPasses, Passes, block_for
from densem.report.curves import read_attempts
from densem.report.evaluation import Evaluation, evaluation_report
from densem.report.page import write_page
from densem.report.panels import Subject
from densem.report.views import choose_views
from densem.schema import LabelSchema
from densem.study.manifest import PredictionEntry, locked
from densem.study.prediction import open_prediction
from densem.study.study import Study
from densem.volumes import Volume

Progress = Callable[[int, int], None]
WORKERS = 2
"""Threads where nothing else is asked for."""


@dataclass(frozen=True)
class EvaluationResult:
    """Scores as plain values, and where they and the page were written."""

    scores: dict[str, Any]
    page: Path
    file: Path


@dataclass(frozen=True)
class _Findings:
    """What was measured."""

    scores: Scores
    calibration: Calibration | None
    boundaries: Boundaries | None

    def to_dict(self) -> dict[str, Any]:
        """The scores, and what else there is, as plain values."""
        found = {"calibration": self.calibration, "boundaries": self.boundaries}
        return {**self.scores.to_dict(), **{k: v.to_dict() for k, v in found.items() if v is not None}}


def evaluate_prediction(
    folder: Path,
    name: str,
    protocol: str,
    progress: Progress,
    engine: EngineChoice | None = None,
    with_boundaries: bool = False,
    tolerance_nm: float | None = None,
) -> EvaluationResult:
    """Score a prediction against the labels of its volume; writes the scores and the page.

    In the folder of the prediction, `scores-<protocol>.json` holds the scores, the calibration if the
    prediction has its confidence beside it, and the boundary distances if they are wanted;
    `blocks-<protocol>.npz` the tables of the evaluation blocks (`BlockTables`).

    Args:
        folder: of the study.
        name: of the prediction.
        protocol: `labelled` or `cells`.
        progress: told how much is done, and of how much.
        engine: where blocks are looked at, by default two threads; never changes a score.
        with_boundaries: whether boundary distances are measured.
        tolerance_nm: of the surface Dice; the longest side of a voxel by default.

    Raises:
        NotFoundError: no such prediction.
        InputError: the volume has no labels, or the prediction is not finished.
        ConfigError: unknown protocol, or a tolerance below zero.
        IncompleteError: some blocks could not be looked at; run again, it does only those.
        IntegrityError: another process is evaluating it.
    """
    judged = Protocol.named(protocol)
    study = Study.open(folder)
    prediction = open_prediction(study, name)
    entry = study.manifest.predictions.get(name) or _adopt(study, name, prediction)
    if study.image(entry.volume).id != entry.volume_id:
        raise InputError(
            f"study {study.name}: volume {entry.volume!r} was replaced since prediction {name!r} was made; "
            f"predict it anew with  densem predict {folder} ... --volume {entry.volume} --overwrite"
        )
    truth = study.labels(entry.volume)
    if truth is None:
        raise InputError(
            f"study {study.name}: volume {entry.volume!r} has no labels to compare with; "
            f"add them with  densem import {folder} {entry.volume} --labels FILE"
        )
    for text in _seen_in_training(study, entry):
        warnings.warn(text, DensemWarning, stacklevel=2)
    subject = _Judged(truth, prediction, _confidence(study, name), study.schema, judged)
    wanted = _Wanted(with_boundaries, tolerance_nm)
    place = study.prediction_folder(name).resolve() / f".evaluation-{judged.value}"
    with _hands(engine or EngineChoice(workers=WORKERS), place, truth) as hands:
        tables, found = _measure(subject, wanted, hands, progress)
    record = {
        "prediction": name, "volume": entry.volume, "truth_id": truth.id,
        "model_id": entry.model_id, **found.to_dict(),
    }  # fmt: skip
    file = study.prediction_folder(name) / f"scores-{judged.value}.json"
    file.write_text(json.dumps(record, indent=1) + "\n")
    tables.save(file.with_name(f"blocks-{judged.value}.npz"))
    page = study.folder / "reports" / f"{name}{'' if judged is Protocol.LABELLED else f'.{judged}'}.html"
    page.parent.mkdir(exist_ok=True)
    write_page(evaluation_report(_facts(study, name, entry, truth, prediction, found)), page)
    return EvaluationResult(record, page, file)


@dataclass(frozen=True)
class _Judged:
    """What is compared with what, and where."""

    truth: Volume
    prediction: Volume
    confidence: Volume | None
    schema: LabelSchema
    protocol: Protocol


@dataclass(frozen=True)
class _Wanted:
    """What is measured beside the scores, and the tolerance of the surface Dice."""

    boundaries: bool = False
    tolerance_nm: float | None = None


@dataclass(frozen=True)
class _Hands:
    """Who looks at the blocks, and how large they are.

    Attributes:
        workers: threads of this process.
        passes: who does it instead.
        block: voxels, (z, y, x).
    """

    workers: int = 1
    passes: Passes | None = None
    block: Triple = BLOCK


@contextmanager
def _hands(engine: EngineChoice, place: Path, truth: Volume) -> Iterator[_Hands]:
    """Those of an engine; what they find is kept in `place` where they are not threads of this process.

    Threads go on with what is left there of another engine. An end that leaves nothing to go on from, be it
    success or a mistake in the volumes, removes the place.
    """
    if not engine.remote and not place.exists():
        yield _Hands(engine.workers)
        return
    journal = Journal(place / "journal")
    with journal.lock():
        clear_left_jobs(journal)
        passes = None
        try:
            with engine.crew(journal) as crew:
                passes = CrewPasses(crew, place)
                yield _Hands(engine.workers, passes, block_for(truth.shape))
        except DensemError:
            if passes is None or not passes.resumable:
                _clear(place)
            raise
        _clear(place)


def _clear(place: Path) -> None:
    """Remove what was kept; jobs that stay in a queue are cancelled by the next evaluation."""
    if not (place / "journal" / JOBS).exists():
        shutil.rmtree(place, ignore_errors=True)


def _measure(
    what: _Judged, wanted: _Wanted, hands: _Hands, progress: Progress
) -> tuple[BlockTables, _Findings]:
    """All that was asked for, a blockwise pass for each."""
    number = 1 + (what.confidence is not None) + wanted.boundaries
    reports = iter([_part_of(progress, part, number) for part in range(number)])
    pair, kind = (what.truth, what.prediction), (what.schema, what.protocol)
    who: dict[str, Any] = {"workers": hands.workers, "passes": hands.passes}
    tables = block_tables(*pair, *kind, read=hands.block, **who, progress=next(reports))
    trusted = distances = None
    if what.confidence is not None:
        trusted = calibration(*pair, what.confidence, *kind, block=hands.block, **who, progress=next(reports))
    if wanted.boundaries:
        distances = boundaries(
            *pair, *kind, wanted.tolerance_nm, block=hands.block, **who, progress=next(reports)
        )
    return tables, _Findings(scores(tables.whole()), trusted, distances)


def _part_of(progress: Progress, part: int, parts: int) -> Progress:
    """Progress through one of several equal passes."""
    return lambda done, total: progress(part * total + done, parts * total)


def _adopt(study: Study, name: str, prediction: Volume) -> PredictionEntry:
    """Note a finished prediction that is not in study.toml: made from Python, or killed just before."""
    record = prediction.provenance
    volume = next((v for v in study.manifest.volumes if study.image(v).id == record.get("input")), None)
    if volume is None:
        raise NotFoundError(
            f"study {study.name}: prediction {name!r} is of no volume of this study; "
            "import the volume it was made from"
        )
    known = {e.id: n for n, e in study.manifest.models.items()}
    entry = PredictionEntry(
        models=[known.get(m, m) for m in record.get("model", [])],
        model_id=str(record.get("model_id", "")),
        volume=volume,
        volume_id=str(record.get("input")),
    )
    with locked(study.path) as manifest:
        manifest.predictions[name] = entry
    return entry


def _confidence(study: Study, name: str) -> Volume | None:
    """The confidence of a prediction, if it is there."""
    there = (study.prediction_folder(name) / "confidence.zarr").exists()
    return open_prediction(study, name, "confidence") if there else None


def _facts(
    study: Study, name: str, entry: PredictionEntry, truth: Volume, prediction: Volume, found: _Findings
) -> Evaluation:
    image = study.image(entry.volume)
    confidence = _confidence(study, name)
    return Evaluation(
        title=f"{study.name}: {name}",
        subtitle=f"Volume {entry.volume}, labelled by {' + '.join(entry.models)}",
        date=datetime.now(UTC).strftime("%d %B %Y").lstrip("0"),
        scores=found.scores,
        calibration=found.calibration,
        boundaries=found.boundaries,
        subject=Subject(image, truth, prediction, study.schema, confidence),
        views=choose_views(truth, study.schema),
        model=model_facts(study, entry.models, entry.model_id),
        prediction={**prediction_facts(prediction), "volume": entry.volume, "volume_id": entry.volume_id},
        versions=versions(),
        attempts=_attempts(study, entry.models),
        warnings=_warnings(study, entry, prediction),
        commands=next_commands(study, name, entry),
    )


def model_facts(study: Study, names: list[str], identity: str) -> dict[str, Any]:
    """What the methods paragraph says of the model or ensemble; little, if its folder is not here."""
    from densem.model import Model
    from densem.networks import parameters

    folders = [study.model_folder(n) if n in study.manifest.models else Path(n) for n in names]
    members = names if len(names) > 1 else []
    if not folders or not (folders[0] / "model.toml").exists():  # a prediction that was sent in
        return {"name": " + ".join(names), "id": identity, "members": members}
    first = Model.load(folders[0])
    return {
        "name": first.name,
        "id": identity,
        "architecture": first.architecture,
        "parameters": parameters(first.network),
        "members": members,
        "voxel_size_nm": list(first.voxel_size_nm),
        "training": first.training,
    }


def prediction_facts(prediction: Volume) -> dict[str, Any]:
    """What the methods paragraph says of the prediction, from the volume's own record."""
    record = prediction.provenance
    return {"shape": list(prediction.shape), "voxel_size_nm": list(prediction.voxel_size_nm), **record}


def versions() -> dict[str, str]:
    """Versions of what took part; densem first."""
    known = ("densem", "torch", "lightning", "zarr", "numpy")
    return {**{name: version(name) for name in known}, "Python": platform.python_version()}


def _attempts(study: Study, names: list[str]) -> Any:
    if not names:
        return ()
    path = study.folder / "models" / names[0] / "training" / "metrics.jsonl"
    return read_attempts(path) if path.exists() else ()


def _warnings(study: Study, entry: PredictionEntry, prediction: Volume) -> tuple[str, ...]:
    return (*prediction.provenance.get("warnings", ()), *_seen_in_training(study, entry))


def _seen_in_training(study: Study, entry: PredictionEntry) -> list[str]:
    """A sentence for each model that learned from the predicted volume."""
    records = {name: study.manifest.models.get(name) for name in entry.models}
    return [
        f"Model {name} was trained on this volume: the scores say how well it fits what it has seen, "
        "not how right it will be on anything else."
        for name, record in records.items()
        if record and _is_among(entry, record.trained_on)
    ]


def _is_among(entry: PredictionEntry, trained_on: dict[str, str]) -> bool:
    """Whether a prediction is of a volume by its name, or of the same image under another name."""
    return entry.volume in trained_on or any(ids.split()[0] == entry.volume_id for ids in trained_on.values())


def next_commands(study: Study, name: str, entry: PredictionEntry) -> tuple[tuple[str, str], ...]:
    """What to type after a prediction was scored: pairs of a sentence and a command."""
    models = " ".join(f"--model {m}" for m in entry.models)
    if not models:
        return ()
    return (
        ("Label another volume", f"densem predict {study.folder} {models} --volume VOLUME"),
        (
            "Average over mirrored input",
            f"densem predict {study.folder} {models} --volume {entry.volume} --flips yx",
        ),
        ("Train longer", f"densem train {study.folder} --max-time 2h"),
        *_next_with_objects(study, name),
    )


def _next_with_objects(study: Study, name: str) -> tuple[tuple[str, str], ...]:
    if not any(c.thing for c in study.schema.classes):
        return ()
    made = [o for o, e in study.manifest.objects.items() if (e.source, e.name) == ("prediction", name)]
    if not made:
        return (("Count and measure objects", f"densem objects {study.folder} --prediction {name}"),)
    return (("See its objects in 3D", f"densem report-objects {study.folder} --objects {made[-1]}"),)
