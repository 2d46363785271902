"""Judging: the eval and test volumes of a study labelled by a model or ensemble, and scored.

Every run is judged alike: predicted with the model's own tile and measured context by PyTorch, scored by
every protocol that the classes can serve, with the tables of evaluation blocks kept for comparisons.
What is there already, from a run that was interrupted, is not made again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densem.errors import InputError, ResourceError
from densem.evaluation import (
    BlockTables,
    Boundaries,
    Calibration,
    ContingencyTable,
    Protocol,
    block_tables,
    boundaries,
    calibration,
    scores,
)
from densem.experiments.made_by import PeakMemory
from densem.experiments.record import ROLES, PredictionFacts, RoleResult, ScoredRole
from densem.experiments.setting import Setting
from densem.inference import PredictOptions, predict_anew
from densem.model import Ensemble
from densem.study.training import labelled
from densem.volumes import Volume, open_volume

log = logging.getLogger(__name__)
COST = "cost.json"
WORKERS = 2


def judge(setting: Setting, ensemble: Ensemble, folder: Path) -> dict[ScoredRole, RoleResult]:
    """Predict and score all labelled volumes of role eval, then those of role test.

    Args:
        setting: whose volumes.
        ensemble: of one model or several.
        folder: of the run; predictions and block tables go there.
    """
    return {role: judge_role(setting, ensemble, folder, role) for role in ROLES if setting.scored(role)}


def judge_role(setting: Setting, ensemble: Ensemble, folder: Path, role: ScoredRole) -> RoleResult:
    """Predict and score the labelled volumes of one role."""
    predictions, costs = {}, []
    for name in setting.scored(role):
        place = folder / "predictions" / name
        predictions[name], cost = _prediction(setting, ensemble, name, place)
        costs.append(cost)
    places = {name: folder / "predictions" / name for name in predictions}
    confidences = {name: open_volume(place / "confidence.zarr") for name, place in places.items()}
    found = score(setting, predictions, folder, confidences=confidences)
    paths = {name: f"predictions/{name}" for name in predictions}
    return found.model_copy(update={"prediction": _sum(costs), "predictions": paths})


def score(
    setting: Setting,
    predictions: Mapping[str, Volume],
    folder: Path,
    *,
    truths: Mapping[str, Volume] | None = None,
    confidences: Mapping[str, Volume] | None = None,
) -> RoleResult:
    """Compare label volumes with annotations, by every protocol that the classes can serve.

    Args:
        setting: whose volumes.
        predictions: class ids by name of the volume.
        folder: where block tables go.
        truths: class ids to compare with; the study's annotations without them.
        confidences: of the predictions, for their calibration.
    """
    volumes = {name: labelled(setting.study, name) for name in predictions}
    compared = [
        _Compared(setting, name, truths[name] if truths else volumes[name].labels, predictions[name])
        for name in predictions
    ]
    found = [(p, c, t) for p in setting.protocols for c in compared if (t := c.tables(p)) is not None]
    blocks, boundary = dict[str, dict[str, str]](), dict[str, dict[str, Any]]()
    tables = dict[Protocol, ContingencyTable]()
    for protocol, one, counted in found:
        path = counted.save(folder / f"blocks-{one.name}-{protocol.value}.npz")
        blocks.setdefault(protocol.value, {})[one.name] = path.name
        whole = counted.whole()
        tables[protocol] = tables[protocol] + whole if protocol in tables else whole
        distances = one.boundaries(protocol) if setting.suite.boundaries else None
        if distances is not None:
            boundary.setdefault(protocol.value, {})[one.name] = distances.to_dict()
    trusted = {c.name: c.calibration(confidences[c.name]) for c in compared} if confidences else {}
    return RoleResult(
        volumes={name: f"{v.image.id} {v.labels.id}" for name, v in volumes.items()},
        scores={p.value: scores(t).to_dict() for p, t in tables.items()},
        blocks=blocks,
        boundaries=boundary,
        calibration={name: c.to_dict() for name, c in trusted.items()},
        ece=_weighted(list(trusted.values())),
    )


@dataclass(frozen=True)
class _Compared:
    """A label volume and the annotation it is compared with."""

    setting: Setting
    name: str
    truth: Volume
    prediction: Volume

    def tables(self, protocol: Protocol) -> BlockTables | None:
        """Block tables; None where the protocol `cells` finds no labelled cell in the volume."""
        schema = self.setting.study.schema
        try:
            return block_tables(self.truth, self.prediction, schema, protocol, workers=WORKERS)
        except InputError:
            if protocol is Protocol.CELLS:
                return None
            raise

    def boundaries(self, protocol: Protocol) -> Boundaries | None:
        """Distances between boundaries; None where the surfaces are too large to be measured."""
        schema = self.setting.study.schema
        try:
            return boundaries(self.truth, self.prediction, schema, protocol, workers=WORKERS)
        except ResourceError as error:
            log.warning("%s: boundaries are not measured: %s", self.name, error)
            return None

    def calibration(self, confidence: Volume) -> Calibration:
        """Whether the confidence says how often the prediction is right."""
        schema = self.setting.study.schema
        return calibration(self.truth, self.prediction, confidence, schema, workers=WORKERS)


def _weighted(found: list[Calibration]) -> float | None:
    voxels = sum(c.voxels for c in found)
    return sum(c.ece * c.voxels for c in found) / voxels if voxels else None


# ---- predicting ------------------------------------------------------------------------------


def _prediction(
    setting: Setting, ensemble: Ensemble, name: str, place: Path
) -> tuple[Volume, PredictionFacts | None]:
    """The class ids of a volume and what they cost."""
    image = labelled(setting.study, name).image
    known = _finished(place, ensemble.id, image.id)
    if known is not None:
        return known, _cost(place)
    options = PredictOptions(runtime="torch")
    (place / COST).unlink(missing_ok=True)
    facts: dict[str, Any] = {"command": "densem benchmark", "volume": name}
    with PeakMemory() as peak:
        made = predict_anew(ensemble, image, place, options, None, facts)
    record = made.classes.provenance
    voxels = made.classes.box.size
    share = 1.0 if made.report is None else made.report.done / max(1, made.report.planned)
    seconds = made.seconds / share if share else 0.0
    cost = PredictionFacts(
        voxels=voxels,
        seconds=round(seconds, 3),
        voxels_per_s=round(voxels / seconds, 1) if seconds else 0.0,
        peak_memory_mb=peak.mb,
        context=ensemble.tile.context,
        tile=ensemble.tile.core,
        runtime=", ".join(str(record[k]) for k in ("device", "precision", "backend") if k in record),
    )
    if seconds:
        (place / COST).write_text(cost.model_dump_json(indent=1) + "\n")
    return made.classes, cost if seconds else None


def _finished(place: Path, model_id: str, input_id: str) -> Volume | None:
    """The class ids of a finished prediction by this model of this image."""
    path = place / "classes.zarr"
    if not path.exists():
        return None
    found = open_volume(path)
    record = found.provenance
    if not found.attributes.get("complete", True):
        return None
    return found if (record.get("model_id"), record.get("input")) == (model_id, input_id) else None


def _cost(place: Path) -> PredictionFacts | None:
    path = place / COST
    return PredictionFacts.model_validate(json.loads(path.read_text())) if path.is_file() else None


def _sum(costs: list[PredictionFacts | None]) -> PredictionFacts | None:
    """Costs of several volumes as one; None if one of them is not known."""
    known = [c for c in costs if c is not None]
    if not known or len(known) < len(costs):
        return None
    voxels, seconds = sum(c.voxels for c in known), sum(c.seconds for c in known)
    memory = [c.peak_memory_mb for c in known if c.peak_memory_mb is not None]
    return known[0].model_copy(
        update={
            "voxels": voxels,
            "seconds": round(seconds, 3),
            "voxels_per_s": round(voxels / seconds, 1),
            "peak_memory_mb": max(memory) if len(memory) == len(known) else None,
        }
    )
