"""Agreement inside a study: two annotations of a volume, compared as a prediction is with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densem.errors import InputError, SchemaError
from densem.evaluation import (
    BlockTables,
    Boundaries,
    Protocol,
    Scores,
    block_tables,
    boundaries,
    labelled_by_both,
    scores,
)
from densem.schema import LabelSchema
from densem.study.study import Study
from densem.volumes import Volume

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class AgreementResult:
    """What two annotators agree on.

    Attributes:
        volume: its name.
        reference: the annotator in the place of the truth: precision and recall are the other's.
        other: the annotator in the place of the prediction.
        scores: over the voxels that both have labelled.
        tables: the same by evaluation block, for `densem.evaluation.compare`.
        boundaries: distances between their boundaries, if they were wanted.
    """

    volume: str
    reference: str
    other: str
    scores: Scores
    tables: BlockTables
    boundaries: Boundaries | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        distances = {} if self.boundaries is None else {"boundaries": self.boundaries.to_dict()}
        names = {"volume": self.volume, "reference": self.reference, "other": self.other}
        return {**names, **self.scores.to_dict(), **distances}


def annotator_agreement(
    folder: Path,
    volume: str,
    annotators: tuple[str, str] | None = None,
    protocol: str = "labelled",
    *,
    with_boundaries: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> AgreementResult:
    """Compare two annotations of a volume.

    Args:
        folder: of the study.
        volume: name of the volume.
        annotators: reference and other; `main` is the annotation without a name. May be left out where
            there are exactly two: then the main one, or the first, is the reference.
        protocol: `labelled` or `cells`; with `cells` the reference says what a cell is.
        with_boundaries: whether boundary distances are measured.
        workers: threads.
        progress: told blocks done and blocks in all.

    Raises:
        NotFoundError: no such volume or annotator, with the nearest name.
        InputError: fewer than two annotations, one given twice, more than two and none given, or no voxel
            that both have labelled.
        SchemaError: an annotation made with other classes than the study's.
    """
    study, judged = Study.open(folder), Protocol.named(protocol)
    names = _pair(study, volume, annotators)
    first, second = (study.annotation(volume, name) for name in names)
    schema = study.schema
    for name, labels in zip(names, (first, second), strict=True):
        _check_classes(study, volume, name, labels, schema)
    common = labelled_by_both(first, second)
    tables = block_tables(common, second, schema, judged, workers=workers, progress=progress)
    distances = (
        boundaries(common, second, schema, judged, workers=workers, progress=progress)
        if with_boundaries
        else None
    )
    return AgreementResult(volume, *names, scores(tables.whole()), tables, distances)


def _pair(study: Study, volume: str, annotators: tuple[str, str] | None) -> tuple[str, str]:
    known = study.annotators(volume)
    if annotators is not None:
        for name in annotators:
            study.annotation(volume, name)
        if annotators[0] == annotators[1]:
            raise InputError(
                f"annotators {annotators[0]} and {annotators[1]}: expected two different ones of "
                f"volume {volume!r}, which has {', '.join(known)}"
            )
        return annotators
    if len(known) < 2:
        there = f"one annotation ({known[0]})" if known else "no annotation"
        raise InputError(
            f"study {study.name}: volume {volume!r} has {there}, and agreement needs two; add another with  "
            f"densem import {study.folder} {volume} --labels FILE --annotator NAME"
        )
    if len(known) > 2:
        raise InputError(
            f"study {study.name}: volume {volume!r} has annotations by {', '.join(known)}; "
            "say which two with  --annotators REFERENCE OTHER"
        )
    return known[0], known[1]


def _check_classes(study: Study, volume: str, annotator: str, labels: Volume, schema: LabelSchema) -> None:
    """Refuse labels that were imported when the classes of the study were others."""
    names = dict(zip(schema.ids, schema.names, strict=True))
    table = labels.attributes.get("classes") or {}
    found = {int(row["id"]): str(name) for name, row in table.items()}
    other = [f"{i} = {name}" for i, name in sorted(found.items()) if names.get(i) != name]
    if other:
        raise SchemaError(
            f"study {study.name}: the annotation of {volume!r} by {annotator} was made with other classes: "
            f"found {', '.join(other)}; expected those of the study, "
            f"{', '.join(f'{i} = {name}' for i, name in names.items())}; import it again"
        )
