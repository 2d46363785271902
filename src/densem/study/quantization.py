"""Quantisation inside a study: a model in 8-bit integers, kept only if it labels about as well as before.

Calibrated on the volumes that the model learned from, judged on the eval volumes, against the same model in
float32. The form is made in a hidden folder inside the model's, which it leaves only when it is good enough.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densem.errors import AccuracyError, ExistsError, InputError
from densem.evaluation import contingency, scores
from densem.replacement import take_place
from densem.study.manifest import claimed
from densem.study.study import Study
from densem.study.training import Labelled, probe_boxes
from densem.volumes import Volume

if TYPE_CHECKING:
    from densem.model import Model

VOXELS = 3_000_000
"""Labels that are compared, about: of larger eval volumes boxes spread evenly, as in training."""


@dataclass(frozen=True)
class QuantizeRequest:
    """What is to be quantised, as the command line gives it.

    Attributes:
        model: name in the study.
        limit: loss of MIoU from which on the form is not kept.
        patches: that ranges are measured on.
        overwrite: replace a form that is there.
    """

    model: str
    limit: float = 0.005
    patches: int = 24
    overwrite: bool = False


@dataclass(frozen=True)
class Comparison:
    """A model in float32 and in 8-bit integers on the same voxels.

    Attributes:
        before: `miou` and `iou` by class, of the former.
        after: of the latter.
        voxels: compared, labelled or not.
        changed: of them, those that got another label.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    voxels: int
    changed: int

    @property
    def loss(self) -> float:
        """Of MIoU; below 0 where the integers are better."""
        return float(self.before["miou"] - self.after["miou"])

    def line(self) -> str:
        """For a person."""
        worst = max(self.before["iou"], key=self._lost)
        return (
            f"MIoU {self.before['miou']:.4f} in float32, {self.after['miou']:.4f} in 8-bit integers: loss "
            f"{self.loss:.4f}; most of all {worst} ({self.before['iou'][worst]:.4f} to "
            f"{self.after['iou'].get(worst, 0.0):.4f}); {100 * self.changed / self.voxels:.2f} % of "
            f"{self.voxels} labels differ"
        )

    def _lost(self, name: str) -> float:
        return float(self.before["iou"][name] - self.after["iou"].get(name, 0.0))


def quantize_model(study: Study, request: QuantizeRequest) -> Iterator[str]:
    """Make a model's form in 8-bit integers, measure what it costs, keep it if that is below the limit.

    Yields:
        Lines for the user: what is done, and how good it is.

    Raises:
        ExistsError: there is a form and `overwrite` is not set.
        InputError: the study does not hold what the model learned from, or no eval volume.
        AccuracyError: the loss is not below the limit; nothing was written.
    """
    from densem.inference.quantization import Calibration, check_installed, quantize

    check_installed()
    model = study.model(request.model)
    folder = study.model_folder(request.model)
    if model.int8 is not None and not request.overwrite:
        raise ExistsError(
            f"{model.int8}: a form in 8-bit integers lies there already; --overwrite replaces it"
        )
    learned, judge = _learned_from(study, request.model), _judges(study, request.model)
    yield f"Calibrating {request.model} on {request.patches} patches of {', '.join(v.name for v in learned)}."
    with claimed(study.run_folder(request.model), f"working on {request.model}"), _hidden(folder) as place:
        form = quantize(model, Calibration(learned, request.patches), place)
        yield f"Comparing on {', '.join(v.name for v in judge)}."
        found = compare(replace(model, int8=place), judge)
        yield found.line() + "."
        if not found.loss < request.limit:
            raise AccuracyError(
                f"model {request.model!r}: expected 8-bit integers to cost less than {request.limit:g} MIoU, "
                f"found {found.loss:.4f} on {', '.join(v.name for v in judge)}; nothing was written. Stay "
                "with bf16 or fp32, train longer, or raise --limit"
            )
        form.write(place, model, {**_facts(form.record), "scores": _scores(found, judge, request.limit)})
        take_place(place, folder / "int8")
    yield (
        f"Kept in {folder / 'int8'}. Next: densem predict {study.folder} --model {request.model} "
        "--volume VOLUME --runtime openvino-int8"
    )


def compare(model: Model, judge: list[Labelled]) -> Comparison:
    """Label volumes with both forms of a model, and score both."""
    from densem.inference import PredictOptions, label_volume

    options = (
        PredictOptions(device="cpu", runtime="openvino", precision="fp32"),
        PredictOptions(device="cpu", runtime="openvino-int8"),
    )
    tables: list[Any] = [None, None]
    voxels = changed = 0
    for volume, box in ((v, b) for v in judge for b in probe_boxes(v, VOXELS // len(judge))):
        truth = Volume(volume.labels.read(box), volume.image.voxel_size_nm)
        found = [label_volume(model, volume.image, box, o) for o in options]
        parts = [contingency(truth, Volume(f, truth.voxel_size_nm), model.schema) for f in found]
        tables = [p if t is None else t + p for t, p in zip(tables, parts, strict=True)]
        voxels, changed = voxels + box.size, changed + int((found[0] != found[1]).sum())
    before, after = (scores(t) for t in tables)
    return Comparison(_plain(before), _plain(after), voxels, changed)


def _learned_from(study: Study, name: str) -> list[Volume]:
    """The images that a model learned from, as far as the study still holds them.

    Raises:
        InputError: if it holds none of them.
    """
    trained_on = study.manifest.models[name].trained_on
    there = [study.image(v) for v in trained_on if v in study.manifest.volumes]
    found = [v for v in there if any(ids.split("[")[0].split()[0] == v.id for ids in trained_on.values())]
    if not found:
        listed = ", ".join(trained_on) or "unknown volumes"
        raise InputError(
            f"study {study.name}: model {name!r} learned from {listed}, of which nothing is in this study "
            "any more: 8-bit integers are calibrated on a model's own training data; import that under its "
            "old name, or train here"
        )
    return found


def _judges(study: Study, name: str) -> list[Labelled]:
    """The labelled eval volumes that a model did not learn from.

    Raises:
        InputError: if there is none.
    """
    trained_on = study.manifest.models[name].trained_on
    pairs = [(v, study.labels(v)) for v in study.names("eval") if v not in trained_on]
    found = [Labelled(v, study.image(v), labels) for v, labels in pairs if labels is not None]
    if not found:
        raise InputError(
            f"study {study.name}: expected a labelled volume of role eval that {name!r} did not learn from, "
            "found none: what 8-bit integers cost has to be measured; import one with --labels, --role eval"
        )
    return found


@contextmanager
def _hidden(folder: Path) -> Iterator[Path]:
    """A new hidden folder inside a model's; gone afterwards, if it is still there."""
    place = folder / ".int8.part"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _plain(found: Any) -> dict[str, Any]:
    iou = {c.name: round(c.iou, 6) for c in found.classes if c.iou is not None}
    return {"miou": round(found.miou or 0.0, 6), "iou": iou}


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("format", "model", "id")}


def _scores(found: Comparison, judge: list[Labelled], limit: float) -> dict[str, Any]:
    return {
        "volumes": {v.name: f"{v.image.id} {v.labels.id}" for v in judge},
        "voxels": found.voxels,
        "changed": found.changed,
        "limit": limit,
        "float32": found.before,
        "int8": found.after,
    }
