"""The paragraph for a methods section: what was done, in full sentences, with versions and hashes.

What is not known is left out: a sentence stands only on entries that are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def methods_paragraph(model: Record, prediction: Record, scores: Record, versions: Record) -> str:
    """How a segmentation was made and judged, as prose.

    Args:
        model: `id`, `architecture`, `parameters`, `members` (names, for an ensemble), `voxel_size_nm`,
            `recipe` (its name) and `training`, the summary that the model (or the first member) carries.
        prediction: `volume`, `voxel_size_nm` and what the prediction's provenance says: `shape`, `core`,
            `context`, `flips`, `precision`, `device`, `predicted_at_nm`.
        scores: what `Scores.to_dict` gave.
        versions: version by name; `densem` first.
    """
    sentences = [
        _software(versions),
        _network(model),
        _training(model),
        _prediction(prediction),
        _scores(scores),
    ]
    return " ".join(s for s in sentences if s)


def _software(versions: Record) -> str:
    others = [f"{name} {version}" for name, version in versions.items() if name != "densem"]
    with_others = f" ({', '.join(others)})" if others else ""
    return f"Images were segmented with densem {versions.get('densem', '')}".rstrip() + f"{with_others}."


def _network(model: Record) -> str:
    members = list(model.get("members", ()))
    name = f"The network {model['architecture']}" if model.get("architecture") else "The network"
    size = f"{model['parameters']:,} parameters" if model.get("parameters") else ""
    facts = [size, f"model {model['id']}" if model.get("id") else ""]
    known = ", ".join(f for f in facts if f)
    if len(members) > 1:
        return (
            f"An ensemble of {len(members)} networks ({', '.join(filter(None, [*members, facts[1]]))}) "
            "was used as one: the mean of their class probabilities."
        )
    what = f"{name} ({known})" if known else name
    at = f" at a voxel size of {_sizes(model['voxel_size_nm'])} nm" if model.get("voxel_size_nm") else ""
    return (
        f"{what} labels every voxel{at}; the grey values of each volume were normalised by the mean and "
        "standard deviation of that volume."
    )


def _training(model: Record) -> str:
    training = model.get("training", {})
    if not training:
        return ""
    recipe = f" by the recipe {model['recipe']}" if model.get("recipe") else ""
    on = f" on {_listed(training['volumes'])}" if training.get("volumes") else ""
    members = list(model.get("members", ()))
    who = f"Of these, {members[0]}" if len(members) > 1 else "It"
    first = f"{who} was trained{on}{recipe}{_schedule(training)}."
    return " ".join(s for s in (first, _selection(training)) if s)


def _schedule(training: Record) -> str:
    recipe = training.get("recipe", {})
    patches, optimizer = recipe.get("patches", {}), recipe.get("optimizer", {})
    batch = f" of {_plural(patches['batch'], 'patch', 'patches')}" if patches.get("batch") else ""
    shapes = " or ".join(_shape(shape) for shape in patches.get("shapes", ()))
    steps = f" for {training['steps']:,} steps{batch}" if training.get("steps") else ""
    facts = [
        str(optimizer.get("name", "")),
        f"learning rate up to {optimizer['lr']:g}" if optimizer.get("lr") else "",
        str(training.get("precision", "")),
        f"seed {training['seed']}" if training.get("seed") is not None else "",
        f"{training['seconds'] / 60:.3g} minutes" if training.get("seconds") else "",
    ]
    known = ", ".join(f for f in facts if f)
    return steps + (f" of {shapes} voxels" if batch and shapes else "") + (f" ({known})" if known else "")


def _selection(training: Record) -> str:
    if training.get("best_step") is None:
        return ""
    score = f" (MIoU {training['eval_miou']:.3f})" if training.get("eval_miou") is not None else ""
    kept = f"The weights of step {training['best_step']:,}, the best on the eval volume{score}, were kept"
    restarts = len(training.get("restarts", ()))
    again = f"; {_plural(restarts, 'earlier attempt', 'earlier attempts')} had collapsed" if restarts else ""
    return f"{kept}{again}."


def _prediction(prediction: Record) -> str:
    if not prediction:
        return ""
    volume = f"The volume {prediction['volume']}" if prediction.get("volume") else "The volume"
    facts = [
        f"{_shape(prediction['shape'])} voxels" if prediction.get("shape") else "",
        f"{_sizes(prediction['voxel_size_nm'])} nm each" if prediction.get("voxel_size_nm") else "",
    ]
    known = ", ".join(f for f in facts if f)
    size = f" ({known}; z × y × x)" if known else ""
    return f"{volume}{size} was labelled{_tiling(prediction)}{_extras(prediction)}."


def _tiling(prediction: Record) -> str:
    if not prediction.get("core"):
        return " block by block"
    context = prediction.get("context")
    around = f", each seen with {_shape(context)} voxels around it" if context else ""
    return f" in tiles of {_shape(prediction['core'])} voxels{around}"


def _extras(prediction: Record) -> str:
    flips = prediction.get("flips")
    mirrored = f", averaged over mirrored inputs ({', '.join(flips)})" if flips else ""
    seen_at = prediction.get("predicted_at_nm")
    resampled = f", resampled to {_sizes(seen_at)} nm and back" if seen_at else ""
    where = [str(prediction[key]) for key in ("precision", "device") if prediction.get(key)]
    return f"{mirrored}{resampled}" + (f", in {' on '.join(where)}" if where else "")


def _scores(scores: Record) -> str:
    if not scores:
        return ""
    voxels = scores.get("voxels", {}).get("scored")
    inside = "inside labelled cells" if scores.get("protocol") == "cells" else "that are labelled"
    over = f" over the {voxels:,} voxels {inside}" if voxels else f" over the voxels {inside}"
    return (
        f"Agreement with the annotation was measured{over}: {_listed(_results(scores))}. "
        "The intersection over union of a class is TP / (TP + FP + FN); a mean leaves out classes absent "
        "from both annotation and prediction; the adjusted Rand index compares the class labels."
    )


def _results(scores: Record) -> list[str]:
    judged = [c for c in scores.get("classes", {}).values() if c.get("iou") is not None]
    organelles = sum(bool(c.get("organelle")) for c in judged)
    rows = [
        (
            scores.get("miou"),
            f"mean intersection over union {{:.3f}} over {_plural(len(judged), 'class', 'classes')}",
        ),
        (
            scores.get("miou_organelles"),
            f"{{:.3f}} over {_plural(organelles, 'organelle class', 'organelle classes')}",
        ),
        (scores.get("accuracy"), "accuracy {:.3f}"),
        (scores.get("ari"), "adjusted Rand index {:.3f}"),
    ]
    found = [text.format(value) for value, text in rows if value is not None]
    if scores.get("miou") is None and scores.get("miou_organelles") is not None:
        found[0] = f"mean intersection over union {found[0]}"
    return found


def _shape(values: Sequence[int]) -> str:
    return " × ".join(f"{int(v):,}" for v in values)


def _sizes(values: Sequence[float]) -> str:
    return " × ".join(f"{v:g}" for v in values)


def _plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _listed(words: Sequence[str] | Mapping[str, Any]) -> str:
    """As `a, b and c`."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
