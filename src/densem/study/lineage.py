"""What is known of a file, a model or a study: for `densem info`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densem.errors import DensemError, NotFoundError
from densem.object_table import read_table
from densem.study.study import Study
from densem.volumes import Volume, open_volume

if TYPE_CHECKING:
    from densem.model import Model


def describe(path: Path, dataset: str | None = None) -> dict[str, Any]:
    """Facts of a study, a model folder or any file that densem reads.

    Raises:
        NotFoundError: nothing there.
    """
    if (path / "study.toml").is_file():
        return describe_study(Study.open(path))
    if (path / "model.toml").is_file():
        return describe_model(path)
    if not path.exists():
        raise NotFoundError(f"{path}: no file, model or study there")
    from densem.volumes.summary import describe_file

    return describe_file(path, dataset)


def describe_model(folder: Path) -> dict[str, Any]:
    """Network, voxel size, classes and training of a model."""
    from densem.model import Model
    from densem.networks import parameters

    model = Model.load(folder)
    return {
        "model": model.name,
        "id": model.id,
        "architecture": model.architecture,
        "parameters": parameters(model.network),
        "voxel size nm": list(model.voxel_size_nm),
        "classes": list(model.schema.names),
        "tile": list(model.tile.core),
        **_seen(model),
        **{f"training {k}": v for k, v in model.training.items() if not isinstance(v, dict | list)},
    }


def _seen(model: Model) -> dict[str, Any]:
    """Context of the tiles, or the fixed windows."""
    plan = model.tile
    if plan.window is not None:
        return {"fixed windows": list(plan.window)}
    return {"context": {"practical": plan.practical, "exact": plan.exact}}


def describe_study(study: Study) -> dict[str, Any]:
    """Volumes, models and predictions, and who was made from what."""
    manifest = study.manifest
    return {
        "study": manifest.name,
        "classes": list(manifest.schema_.names),
        "volumes": [_volume_row(study, name) for name in manifest.volumes],
        "labels, % of voxels": _label_rows(study),
        "models": [
            {"model": n, "id": e.id, "recipe": e.recipe, "trained on": _sources(study, e.trained_on)}
            for n, e in manifest.models.items()
        ],
        "predictions": [
            {"prediction": n, "volume": e.volume, "models": "+".join(e.models), "model id": e.model_id,
             "page": (study.folder / "reports" / f"{n}.html").exists()}
            for n, e in manifest.predictions.items()
        ],
        "objects": [
            {"objects": n, "volume": e.volume, "of": f"{e.source} {e.name}",
             "finished": (study.objects_folder(n) / "objects.csv").exists(), "found": _counts(study, n)}
            for n, e in manifest.objects.items()
        ],
    }  # fmt: skip


def _counts(study: Study, name: str) -> str:
    """`cell 2, mitochondrion 1`: objects of each class, or why that cannot be said."""
    folder = study.objects_folder(name)
    volumes = sorted(folder.glob("objects-*.zarr"))
    try:
        rows = sum(int(open_volume(path).attributes["object_count"]) for path in volumes)
        table = read_table(folder / "objects.csv", rows)
    except DensemError as error:
        return str(error)
    return ", ".join(f"{kind} {count}" for kind, count in Counter(table["class"]).items()) or "none"


def _sources(study: Study, record: dict[str, str]) -> str:
    return ", ".join(f"{name}{_changed(study, name, ids)}" for name, ids in record.items())


def _changed(study: Study, name: str, ids: str) -> str:
    """Says when a volume is no longer the one a model was trained on."""
    try:
        now = study.image(name).id
    except DensemError:
        return " (gone)"
    return "" if ids.startswith(now) else " (replaced since)"


def _volume_row(study: Study, name: str) -> dict[str, Any]:
    entry = study.entry(name)
    try:
        image = study.image(name)
    except DensemError as error:
        return {"volume": name, "role": entry.role, "shape": f"unreadable: {error}"}
    return {
        "volume": name,
        "role": entry.role,
        "shape": "x".join(map(str, image.shape)),
        "type": str(image.dtype),
        "voxel size nm": " ".join(f"{v:g}" for v in image.voxel_size_nm),
        "objects": entry.objects is not None,
        **({"annotators": " ".join(study.annotators(name))} if entry.annotators else {}),
        "referred to": entry.referred,
    }


def label_shares(study: Study, labels: Volume | None) -> str | None:
    """`background 29.6, cell 61.8, ...`: per cent of the voxels, from the counts stored at import."""
    shares = _shares(study, labels)
    return ", ".join(f"{name} {share:.3g}" for name, share in shares.items()) if shares else None


def _label_rows(study: Study) -> list[dict[str, Any]]:
    """A row per class, a column per annotated volume."""
    columns = {name: _shares(study, study.labels(name)) for name in study.manifest.volumes}
    columns = {name: shares for name, shares in columns.items() if shares}
    found = [n for n in (*study.schema.names, "unlabelled") if any(n in c for c in columns.values())]
    return [{"class": n, **{volume: c.get(n, 0.0) for volume, c in columns.items()}} for n in found]


def _shares(study: Study, labels: Volume | None) -> dict[str, float]:
    """Per cent of the voxels by class name; empty without labels."""
    if labels is None:
        return {}
    counts = {int(k): v for k, v in labels.attributes.get("label_counts", {}).items()}
    total = sum(counts.values()) or 1
    names = dict(zip(study.schema.ids, study.schema.names, strict=True))
    return {names.get(i, "unlabelled"): 100 * n / total for i, n in sorted(counts.items())}
