"""The report of an evaluation: from scores, volumes and what is known of the model to a page's content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from densem.blocks import Box
from densem.evaluation import Boundaries, Calibration, ClassBoundary, ClassScores, Protocol, Scores
from densem.report.content import (
    Block,
    Cell,
    Chart,
    Commands,
    Gallery,
    Legend,
    PanelRow,
    Paragraph,
    ReportContent,
    Section,
    Table,
    Tile,
)
from densem.report.curves import Attempt, training_curves
from densem.report.figures import class_bars, confusion_matrix
from densem.report.methods import methods_paragraph
from densem.report.panels import Subject, panels_of
from densem.report.reliability import reliability_diagram
from densem.schema import UNLABELLED, LabelSchema

_COLLAPSED = 0.9999  # share of the voxels in one predicted class


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything the report of an evaluation tells.

    Attributes:
        title: heading of the page.
        subtitle: a line below it.
        date: as printed.
        scores: the scores.
        subject: the volumes shown.
        views: the planes shown; `views.choose_views` finds them.
        model, prediction, versions: see `methods.methods_paragraph`.
        attempts: training curves; empty where they are not known.
        warnings: said at the top, before those that follow from the scores.
        commands: what to type next, pairs of a sentence and a command.
        calibration: how far its confidence can be trusted; None where there is none.
        boundaries: distances between true and predicted boundaries; None where they were not measured.
    """

    title: str
    date: str
    scores: Scores
    subject: Subject
    views: Sequence[Box]
    subtitle: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    prediction: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    warnings: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    calibration: Calibration | None = None
    boundaries: Boundaries | None = None


def evaluation_report(facts: Evaluation) -> ReportContent:
    """The content of the page."""
    schema = facts.subject.schema
    sections = [
        _scores_section(facts.scores, schema),
        *([] if facts.boundaries is None else [_boundary_section(facts.boundaries, schema)]),
        Section("Slices", (_gallery(_scored_subject(facts), facts.views),)),
        *([] if facts.calibration is None else [_confidence_section(facts.calibration)]),
        *_training_section(facts.attempts),
        Section("Methods", (Paragraph(_methods(facts)),)),
        *([Section("What next", (Commands(facts.commands),))] if facts.commands else []),
    ]
    return ReportContent(
        title=facts.title,
        subtitle=facts.subtitle,
        date=facts.date,
        tiles=_tiles(facts.scores),
        warnings=(*facts.warnings, *score_warnings(facts.scores)),
        sections=tuple(sections),
        footer=_footer(facts),
    )


# ---- scores ----------------------------------------------------------------------------------


def _tiles(scores: Scores) -> tuple[Tile, ...]:
    judged = [c for c in scores.classes if c.iou is not None]
    organelles = sum(c.organelle for c in judged)
    inside = "inside labelled cells" if scores.protocol is Protocol.CELLS else "all labelled voxels"
    tiles = [
        Tile("MIoU", _number(scores.miou), f"over {len(judged)} of {len(scores.classes)} classes"),
        Tile("MIoU, organelles", _number(scores.miou_organelles), f"over {organelles} classes"),
        Tile("Accuracy", _number(scores.accuracy), "share of voxels that are right"),
        Tile("Adjusted Rand index", _number(scores.ari), "of the class labels"),
        Tile("Voxels scored", short_count(scores.voxels), inside),
    ]
    absent = {"MIoU": scores.miou is None, "MIoU, organelles": scores.miou_organelles is None}
    return tuple(t for t in tiles if not absent.get(t.label, False))


def score_warnings(scores: Scores) -> tuple[str, ...]:
    """What a reader must know first: a collapsed prediction, classes never found, voxels left empty."""
    found = []
    fullest = max(scores.classes, key=lambda c: c.predicted)
    present = sum(c.truth > 0 for c in scores.classes)
    if fullest.predicted > _COLLAPSED * scores.voxels and present > 1:
        return (
            f"The prediction is {_readable(fullest.name)} almost everywhere, although the annotation holds "
            f"{present} classes: this run has collapsed. "
            "Train again with another seed, and look at the class weights and the learning rate.",
        )
    missed = [_readable(c.name) for c in scores.classes if c.truth > 0 and c.predicted == 0]
    if missed:
        found.append(f"Never predicted, although in the annotation: {', '.join(missed)}.")
    empty = sum(row[-1] for row in scores.confusion)
    if empty:
        found.append(f"For {empty:,} voxels nothing was predicted; they count as wrong.")
    return tuple(found)


def _scores_section(scores: Scores, schema: LabelSchema) -> Section:
    told = {
        Protocol.LABELLED: "Every labelled voxel of the annotation was compared with the prediction.",
        Protocol.CELLS: (
            "Only voxels inside labelled cells were compared, as in the reference study: what is predicted "
            "outside them is not seen, so that only organelles are judged."
        ),
    }
    line = "the mean" if scores.miou is not None else "the organelle mean"
    bars = f"Intersection over union (IoU) per class; dashed: {line}."
    matrix = "Confusion matrix: where the voxels of each true class went, in percent of that class."
    blocks: tuple[Block, ...] = (
        Paragraph(told[scores.protocol]),
        class_table(scores, schema),
        Chart(class_bars(scores, schema), bars),
        Chart(confusion_matrix(scores), matrix),
    )
    return Section("Scores", blocks)


def class_table(scores: Scores, schema: LabelSchema) -> Table:
    """The scores of every class as a table."""
    columns = ("Class", "IoU", "Precision", "Recall", "F1 (Dice)", "Voxels, truth", "Voxels, predicted")
    rows = tuple(_row(c, schema[c.name].color, scores.voxels) for c in scores.classes)
    caption = (
        "Scores per class. A dash: not available, since the class is in neither volume or cannot be judged."
    )
    return Table(columns, rows, caption)


def _row(row: ClassScores, color: str, voxels: int) -> tuple[Cell, ...]:
    values = (row.iou, row.precision, row.recall, row.f1)
    counts = [f"{n:,} ({_share(n / voxels)})" for n in (row.truth, row.predicted)]
    return (
        Cell(_readable(row.name), color),
        *(Cell(_number(v), number=True) for v in values),
        *(Cell(text, number=True) for text in counts),
    )


# ---- boundaries and confidence ---------------------------------------------------------------


def _boundary_section(boundaries: Boundaries, schema: LabelSchema) -> Section:
    told = (
        "How far the predicted boundary of a class lies from the true one, weighted by area. Boundaries at "
        "the edge of the volume, and those that touch voxels which are not scored, do not count."
    )
    return Section("Boundaries", (Paragraph(told), boundary_table(boundaries, schema)))


def boundary_table(boundaries: Boundaries, schema: LabelSchema) -> Table:
    """The boundary distances of every class as a table."""
    tolerance = f"{boundaries.tolerance_nm:g} nm"
    columns = (
        "Class", "Mean distance, nm", "95 % Hausdorff, nm", f"Surface Dice at {tolerance}",
        "Area, truth, µm²", "Area, predicted, µm²",
    )  # fmt: skip
    rows = tuple(_boundary_row(c, schema[c.name].color) for c in boundaries.classes)
    caption = (
        "Distances between boundaries. Surface Dice: share of both boundaries that lies within "
        f"{tolerance} of the other one. A dash: one of the two volumes holds no boundary of the class."
    )
    return Table(columns, rows, caption)


def _boundary_row(row: ClassBoundary, color: str) -> tuple[Cell, ...]:
    values = (
        *(_length(v) for v in (row.mean_nm, row.hausdorff95_nm)),
        _number(row.surface_dice),
        *(_length(v) for v in (row.truth_um2, row.predicted_um2)),
    )
    return Cell(_readable(row.name), color), *(Cell(text, number=True) for text in values)


def _length(value: float | None) -> str:
    """In three digits: `7.42`, `90.0`, `1,250`."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 99.95 or value == 0 else f"{value:#.3g}"


def _confidence_section(calibration: Calibration) -> Section:
    gap = calibration.confidence - calibration.accuracy
    side = "surer than it is right" if gap > 0 else "less sure than it is right"
    told = (
        f"The prediction is {100 * calibration.confidence:.1f} % sure of its labels on average, and right in "
        f"{100 * calibration.accuracy:.1f} % of the voxels: on the whole it is {side}. The expected "
        f"calibration error, the mean gap over 15 bins of confidence, is {calibration.ece:.3f} "
        f"({calibration.ece_adaptive:.3f} with bins of equal numbers of voxels)."
    )
    caption = (
        "Reliability: how often the prediction is right at each confidence. Bars that end above the dashed "
        "line are right more often than they say, bars that end below it less often. In the lower panel: how "
        "many voxels have that confidence."
    )
    return Section("Confidence", (Paragraph(told), Chart(reliability_diagram(calibration), caption)))


# ---- pictures --------------------------------------------------------------------------------


def _scored_subject(facts: Evaluation) -> Subject:
    """With the protocol `cells`, what lies outside the cells is no error and is hatched."""
    background = facts.subject.schema.background_id
    if facts.scores.protocol is not Protocol.CELLS or background is None:
        return facts.subject
    return replace(facts.subject, unscored=(background,))


def _gallery(subject: Subject, views: Sequence[Box]) -> Gallery:
    rows = tuple(PanelRow(_view_title(view, subject), panels_of(subject, view)) for view in views)
    entries = [(_readable(c.name), c.color) for c in subject.schema.classes]
    if subject.unscored:
        entries.append(("not scored", ""))
    elif _any_unlabelled(subject, views):
        entries.append(("unlabelled", ""))
    return Gallery(Legend(tuple(entries)), rows, _gallery_caption(subject))


def _any_unlabelled(subject: Subject, views: Sequence[Box]) -> bool:
    truth = subject.truth
    return truth is not None and any(bool((truth.read(view) == UNLABELLED).any()) for view in views)


def _gallery_caption(subject: Subject) -> str:
    words = [
        "Slices chosen so that every class is seen.",
        "Errors: wrong voxels in the colour of their true class over the faded image.",
        "Confidence: dark is doubtful, bright is certain." if subject.confidence is not None else "",
        "Click a panel to enlarge it.",
    ]
    return " ".join(w for w in words if w)


def _view_title(view: Box, subject: Subject) -> str:
    z, y, x = view.start
    _, height, width = subject.image.shape
    part = ""
    if view.shape[1:] != (height, width):
        part = f", y {y} to {view.stop[1]}, x {x} to {view.stop[2]}"
    return f"Slice z = {z}{part}"


def _training_section(attempts: tuple[Attempt, ...]) -> list[Section]:
    figure = training_curves(attempts)
    if figure is None:
        return []
    caption = (
        "Training: loss (thin: each step, thick: running mean), learning rate, score on the eval volume."
    )
    return [Section("Training", (Chart(figure, caption),))]


# ---- words -----------------------------------------------------------------------------------


def _methods(facts: Evaluation) -> str:
    return methods_paragraph(facts.model, facts.prediction, facts.scores.to_dict(), facts.versions)


def _footer(facts: Evaluation) -> str:
    parts = [f"{name} {version}" for name, version in facts.versions.items()]
    if facts.model.get("id"):
        parts.append(f"model {facts.model['id']}")
    if facts.prediction.get("volume_id"):
        parts.append(f"volume {facts.prediction['volume_id']}")
    return " · ".join(parts)


def short_count(number: int) -> str:
    """A count in three digits: `812`, `640 k`, `3.42 M`, `1.07 G`."""
    for size, word in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= size:
            return f"{number / size:.3g}{word}"
    return str(number)


def _share(share: float) -> str:
    """A share as a percentage of two digits: `17 %`, `0.56 %`, `<0.01 %`, `0 %`."""
    if 0 < share < 1e-4:
        return "<0.01 %"
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.3g} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _readable(name: str) -> str:
    return name.replace("_", " ")
