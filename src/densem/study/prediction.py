"""Prediction inside a study, or of a single volume without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from densem import __version__
from densem.blocks import EngineChoice
from densem.errors import ConfigError, ExistsError, InputError, NotFoundError, nearest
from densem.study.manifest import PredictionEntry, check_name, locked
from densem.study.study import Study
from densem.volumes import Volume, open_volume

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PredictRequest:
    """How a volume is to be labelled, as the command line gives it."""

    models: tuple[str, ...]
    context: str = "practical"
    flips: str = "none"
    save: str = ""
    resample: bool = False
    precision: str = "auto"
    device: str = "auto"
    runtime: str = "auto"
    workers: int | None = None
    block: tuple[int, int, int] | None = None
    overwrite: bool = False
    engine: str = "local"
    scheduler: str | None = None
    threads: int | None = None
    stall: float = 30.0
    core: tuple[int, int, int] | None = None
    box: str | None = None
    mask: str | None = None
    affinities: bool = True


def predict_volume(
    folder: Path, volume: str, name: str | None, request: PredictRequest, progress: Progress
) -> list[str]:
    """Label a volume of a study and note in study.toml who was made from what."""
    from densem.inference import predict

    study = Study.open(folder)
    asked = _of_study(study, volume, name, request)
    ensemble, image, target = asked.ensemble, asked.image, asked.target
    provenance = study.provenance("densem predict", models=list(request.models), volume=volume)
    result = predict(ensemble, image, target, asked.options, progress, provenance)
    with locked(study.path) as manifest:
        manifest.predictions[asked.name] = PredictionEntry(
            models=list(request.models), model_id=ensemble.id, volume=volume, volume_id=image.id
        )
    lines = [*_said(result), f"Prediction {asked.name}: {target}"]
    if study.labels(volume) is not None:
        lines.append(f"Next: densem evaluate {folder} --prediction {asked.name}")
    return lines


def predict_file(
    path: Path,
    output: Path | None,
    voxel_size_nm: tuple[float, float, float] | None,
    request: PredictRequest,
    progress: Progress,
    study: Path | None = None,
) -> list[str]:
    """Label an OME-Zarr or Zarr volume that belongs to no study."""
    from densem.inference import predict

    asked = _of_file(path, output, voxel_size_nm, request, study)
    facts: dict[str, Any] = {"command": "densem predict", "densem": __version__, "input": path.name}
    result = predict(asked.ensemble, asked.image, asked.target, asked.options, progress, facts)
    return [*_said(result), f"Prediction: {asked.target}"]


def preflight_volume(folder: Path, volume: str, name: str | None, request: PredictRequest) -> Any:
    """What `predict_volume` would cost (`densem.inference.Preflight`); changes nothing."""
    from densem.inference import preflight

    asked = _of_study(Study.open(folder), volume, name, request)
    return preflight(asked.ensemble, asked.image, asked.target, asked.options)


def preflight_file(
    path: Path,
    output: Path | None,
    voxel_size_nm: tuple[float, float, float] | None,
    request: PredictRequest,
    study: Path | None = None,
) -> Any:
    """What `predict_file` would cost (`densem.inference.Preflight`); writes nothing."""
    from densem.inference import preflight

    asked = _of_file(path, output, voxel_size_nm, request, study)
    return preflight(asked.ensemble, asked.image, asked.target, asked.options)


@dataclass(frozen=True)
class _Asked:
    """What a request means: models, image, where to, and how."""

    ensemble: Any
    image: Volume
    target: Path
    options: Any
    name: str = ""


def _of_study(study: Study, volume: str, name: str | None, request: PredictRequest) -> _Asked:
    from densem.model import Ensemble

    ensemble = Ensemble([load_model(study, m) for m in request.models])
    image = study.image(volume)
    name = check_name(name or f"{ensemble.name}-{volume}", "prediction")
    known = study.manifest.predictions.get(name)
    if known and known.volume != volume and not request.overwrite:
        raise ExistsError(
            f"study {study.name}: prediction {name!r} is of volume {known.volume!r}; "
            "give another --name or --overwrite"
        )
    target = study.prediction_folder(name)
    return _Asked(ensemble, image, target, _options(request, study.folder), name)


def _of_file(
    path: Path,
    output: Path | None,
    voxel_size_nm: tuple[float, float, float] | None,
    request: PredictRequest,
    study: Path | None,
) -> _Asked:
    from densem.model import Ensemble, Model

    home = Study.open(study) if study is not None else None
    ensemble = Ensemble([load_model(home, m) if home else Model.load(m) for m in request.models])
    image: Volume = open_volume(path, voxel_size_nm=voxel_size_nm)
    target = output or path.with_name(f"{path.name.removesuffix('.zarr')}-{ensemble.name}")
    return _Asked(ensemble, image, target, _options(request, study))


def load_model(study: Study, word: str) -> Any:
    """A model of the study by name, or a model folder.

    Raises:
        NotFoundError: naming the nearest model there is.
    """
    from densem.model import Model

    if word not in study.manifest.models and (Path(word) / "model.toml").is_file():
        return Model.load(word)
    return study.model(word)


def _options(request: PredictRequest, settings: Path | None) -> Any:
    from densem.inference import PredictOptions
    from densem.volumes.cut import parse_box

    facts = {
        "context": parse_context(request.context),
        "flips": parse_flips(request.flips),
        "save": parse_save(request.save),
        **{
            k: getattr(request, k)
            for k in (
                "affinities",
                "resample",
                "precision",
                "device",
                "runtime",
                "workers",
                "block",
                "core",
                "overwrite",
                "engine",
                "scheduler",
                "threads",
                "stall",
            )
        },
        "settings": settings,
        "box": None if request.box is None else parse_box(request.box),
        "mask": None if request.mask is None else _mask(request.mask, settings),
    }
    EngineChoice(request.engine, scheduler=request.scheduler)  # refuses what does not go together
    try:
        return PredictOptions.model_validate(facts)
    except ValidationError as error:
        row = error.errors()[0]
        raise ConfigError(f"--{row['loc'][0]} {row['input']}: {row['msg']}") from None


def _mask(word: str, folder: Path | None) -> Path:
    """The volume that a word names: a path, or a volume of the study.

    Raises:
        NotFoundError: if it names neither.
    """
    if Path(word).exists():
        return Path(word).resolve()
    if folder is None:
        raise NotFoundError(f"--mask {word}: no such OME-Zarr or Zarr volume")
    study = Study.open(folder)
    if word not in study.manifest.volumes:
        raise NotFoundError(
            f"--mask {word}: expected the path of an OME-Zarr or Zarr, or a volume of study {study.name}; "
            f"found neither.{nearest(word, list(study.manifest.volumes))}"
        )
    path = study.image(word).path
    assert path is not None
    return path.resolve()


def parse_context(text: str) -> Any:
    """`practical`, `exact`, or three voxel counts.

    Raises:
        ConfigError: if it is anything else.
    """
    if text in ("practical", "exact"):
        return text
    parts = text.split(",")
    if len(parts) == 3 and all(p.strip().isdigit() for p in parts):
        return tuple(int(p) for p in parts)
    raise ConfigError(
        f"--context {text}: expected practical, exact, or three voxel counts Z,Y,X such as 4,32,32"
    )


def parse_flips(text: str) -> str:
    """Axes to mirror, as a subset of `zyx`; empty for none.

    Raises:
        ConfigError: naming what is allowed.
    """
    axes = "" if text == "none" else text
    if set(axes) - set("zyx") or len(set(axes)) != len(axes):
        raise ConfigError(f"--flips {text}: expected none, or axes of z, y, x such as yx")
    return axes


def parse_save(text: str) -> tuple[str, ...]:
    """What to write beside classes and confidence.

    Raises:
        ConfigError: naming what is allowed.
    """
    words = tuple(w.strip() for w in text.split(",") if w.strip())
    for word in words:
        if word not in ("probabilities", "entropy"):
            raise ConfigError(f"--save {word}: expected probabilities or entropy (or both, with a comma)")
    return words


def _said(result: Any) -> list[str]:
    return [str(line) for line in result.lines()] if hasattr(result, "lines") else []


def open_prediction(study: Study, name: str, part: str = "classes") -> Volume:
    """A volume of a prediction: classes, confidence, entropy.

    Raises:
        NotFoundError: if there is no such prediction, with the nearest one.
        InputError: if it is not finished.
    """
    known = list(study.manifest.predictions)
    path = study.prediction_folder(name) / f"{part}.zarr"
    if not path.exists() and (path.parent / "journal").is_dir() and part == "classes":
        raise InputError(_unfinished(name))
    if not path.exists():
        hint = nearest(name, known) if known else " It has none yet."
        raise NotFoundError(f"study {study.name}: no prediction {name!r}.{hint}")
    volume = open_volume(path)
    if not volume.attributes.get("complete", True):
        raise InputError(_unfinished(name))
    return volume


def _unfinished(name: str) -> str:
    return f"prediction {name!r} is not finished; run its  densem predict  command again to go on"
