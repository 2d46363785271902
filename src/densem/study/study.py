"""Study: a folder with its classes, volumes, annotations, models and predictions.

    study.toml  volumes/<name>.zarr  annotations/<name>/semantic[.<annotator>].zarr, objects.zarr
    models/<name>/  runs/<name>/ (training in progress)  predictions/<name>/classes.zarr
    objects/<name>/  reports/<name>.html

Everything inside is found through `study.toml` by relative paths, so a study can be moved.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densem import __version__
from densem.errors import ExistsError, InputError, NotFoundError, nearest
from densem.object_table import level_paths
from densem.schema import LabelSchema
from densem.study.manifest import MAIN, Manifest, VolumeEntry, check_name, locked
from densem.volumes import Volume, open_volume

if TYPE_CHECKING:
    from densem.model import Model


@dataclass(frozen=True)
class Study:
    """A study folder. Use `Study.create` and `Study.open`."""

    folder: Path

    # ---- making and opening ------------------------------------------------------------------

    @classmethod
    def create(cls, folder: Path | str, schema: LabelSchema) -> Study:
        """Make an empty study.

        Raises:
            ExistsError: if the folder holds something already.
        """
        folder = Path(folder)
        check_name(folder.resolve().name, "study")
        if (folder / "study.toml").exists():
            raise ExistsError(f"{folder}: there is a study already; give another folder")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ExistsError(f"{folder}: exists and is not an empty folder; give another name")
        folder.mkdir(parents=True, exist_ok=True)
        Manifest(name=folder.resolve().name, schema_=schema).write(folder / "study.toml")
        return cls(folder)

    @classmethod
    def open(cls, folder: Path | str) -> Study:
        """Open a study and check its study.toml."""
        study = cls(Path(folder))
        study.manifest  # noqa: B018  read once, so that a wrong file is reported here
        return study

    @property
    def path(self) -> Path:
        """study.toml."""
        return self.folder / "study.toml"

    @property
    def manifest(self) -> Manifest:
        """What study.toml says now."""
        return Manifest.read(self.path)

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.manifest.name

    @property
    def schema(self) -> LabelSchema:
        """The classes of the study."""
        return self.manifest.schema_

    # ---- finding -----------------------------------------------------------------------------

    def entry(self, name: str) -> VolumeEntry:
        """The entry of a volume.

        Raises:
            NotFoundError: naming the nearest volume there is.
        """
        volumes = self.manifest.volumes
        if name not in volumes:
            raise NotFoundError(
                f"study {self.name}: no volume {name!r}.{_there(name, list(volumes), 'volumes')}"
            )
        return volumes[name]

    def names(self, role: str) -> list[str]:
        """Names of the volumes of a role."""
        return [n for n, e in self.manifest.volumes.items() if e.role == role]

    def image(self, name: str) -> Volume:
        """The image of a volume."""
        entry = self.entry(name)
        path = self._resolve(entry.image)
        if not path.exists():
            raise NotFoundError(
                f"study {self.name}, volume {name!r}: its image {path} is gone; "
                "put it back or import the volume anew"
            )
        return open_volume(path, voxel_size_nm=entry.voxel_size_nm)

    def labels(self, name: str) -> Volume | None:
        """The class ids of a volume, or None where it has no annotation."""
        path = self.entry(name).semantic
        return None if path is None else open_volume(self._resolve(path))

    def annotators(self, name: str) -> list[str]:
        """Who has annotated a volume; `main` is the annotation that networks are trained and judged by."""
        entry = self.entry(name)
        return [*([MAIN] if entry.semantic else []), *(entry.annotators or {})]

    def annotation(self, name: str, annotator: str) -> Volume:
        """The class ids of a volume as one annotator sees them.

        Raises:
            NotFoundError: naming the nearest annotator there is.
        """
        entry, known = self.entry(name), self.annotators(name)
        if annotator not in known:
            raise NotFoundError(
                f"study {self.name}, volume {name!r}: no annotation by {annotator!r}."
                f"{_there(annotator, known, 'annotations')}"
            )
        paths = {MAIN: entry.semantic, **(entry.annotators or {})}
        return open_volume(self._resolve(str(paths[annotator])))

    def objects(self, name: str) -> Volume | None:
        """The object ids of a volume, or None."""
        path = self.entry(name).objects
        return None if path is None else open_volume(self._resolve(path))

    def _resolve(self, path: str) -> Path:
        return Path(path) if Path(path).is_absolute() else self.folder / path

    def model_folder(self, name: str) -> Path:
        """Where a model of that name lies, or would."""
        return self.folder / "models" / check_name(name, "model")

    def run_folder(self, name: str) -> Path:
        """Where the training run of that model lies."""
        return self.folder / "runs" / check_name(name, "model")

    def prediction_folder(self, name: str) -> Path:
        """Where a prediction of that name lies, or would."""
        return self.folder / "predictions" / check_name(name, "prediction")

    def objects_folder(self, name: str) -> Path:
        """Where the objects of that name lie, or would."""
        return self.folder / "objects" / check_name(name, "objects")

    def finished_objects(self, name: str) -> list[Path]:
        """The volumes of finished objects, outermost first.

        Raises:
            InputError: their table, which is written last, is not there.
            NotFoundError: it is, but no volume, or not that of a level it has objects of.
        """
        folder = self.objects_folder(name)
        if not (folder / "objects.csv").is_file():
            raise InputError(
                f"objects {name!r} are not finished; run their  densem objects  command again to go on"
            )
        return level_paths(folder)

    def model(self, name: str) -> Model:
        """Load a model by name.

        Raises:
            NotFoundError: naming the nearest model there is.
        """
        from densem.model import Model

        if name not in self.manifest.models:
            known = list(self.manifest.models)
            raise NotFoundError(f"study {self.name}: no model {name!r}.{_there(name, known, 'models')}")
        return Model.load(self.model_folder(name))

    # ---- changing ----------------------------------------------------------------------------

    def rename_volume(self, old: str, new: str) -> None:
        """Give a volume another name; its files move along, predictions of it follow."""
        check_name(new, "volume")
        self.entry(old)
        with locked(self.path) as manifest:
            if new in manifest.volumes:
                raise ExistsError(f"study {manifest.name}: there is a volume {new!r} already")
            entry = manifest.volumes[old]
            moved: dict[str, Any] = {
                key: self._move(path, old, new)
                for key in ("image", "semantic", "objects")
                if (path := getattr(entry, key)) is not None
            }
            if entry.annotators:
                others = {who: self._move(path, old, new) for who, path in entry.annotators.items()}
                moved = {**moved, "annotators": others}
            renamed = entry.model_copy(update=moved)
            manifest.volumes = {(new if n == old else n): (renamed if n == old else e)
                                for n, e in manifest.volumes.items()}  # fmt: skip
            for prediction in manifest.predictions.values():
                prediction.volume = new if prediction.volume == old else prediction.volume
            for found in manifest.objects.values():
                if found.volume == old:
                    found.volume, found.name = new, new if found.source == "labels" else found.name
            for model in manifest.models.values():
                for record in (model.trained_on, model.evaluated_on):
                    if old in record:
                        record[new] = record.pop(old)

    def _move(self, path: str, old: str, new: str) -> str:
        if Path(path).is_absolute():
            return path
        parts = list(Path(path).parts)
        target = Path(parts[0], *(p.replace(old, new, 1) if i == 0 else p for i, p in enumerate(parts[1:])))
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.folder / path, self.folder / target)
        empty = (self.folder / path).parent
        if empty != (self.folder / target).parent and not any(empty.iterdir()):
            empty.rmdir()
        return target.as_posix()

    def remove_volume(self, name: str, force: bool = False) -> list[str]:
        """Remove a volume with its annotations; an image that is referred to stays where it is.

        Returns:
            What was deleted.

        Raises:
            InputError: if models or predictions were made from it and `force` is not set.
        """
        entry = self.entry(name)
        used = self.users_of(name)
        if used and not force:
            raise InputError(
                f"study {self.name}: volume {name!r} was used by {', '.join(used)}; "
                "--force removes it all the same (they stay, but can no longer be traced to it)"
            )
        paths = [p for p in (entry.image, entry.semantic, entry.objects) if p and not Path(p).is_absolute()]
        with locked(self.path) as manifest:
            del manifest.volumes[name]
        for path in paths:
            shutil.rmtree(self.folder / path, ignore_errors=True)
        shutil.rmtree(self.folder / "annotations" / name, ignore_errors=True)
        return paths

    def remove_annotation(self, name: str) -> list[str]:
        """Remove the annotations of a volume, keeping its image."""
        entry = self.entry(name)
        paths = [p for p in (entry.semantic, *(entry.annotators or {}).values(), entry.objects) if p]
        if not paths:
            raise NotFoundError(f"study {self.name}: volume {name!r} has no annotation")
        with locked(self.path) as manifest:
            changed = {"semantic": None, "objects": None, "annotators": None}
            manifest.volumes[name] = manifest.volumes[name].model_copy(update=changed)
        shutil.rmtree(self.folder / "annotations" / name, ignore_errors=True)
        return paths

    def set_role(self, name: str, role: Any) -> None:
        """Change what a volume is for."""
        self.entry(name)
        with locked(self.path) as manifest:
            manifest.volumes[name] = manifest.volumes[name].model_copy(update={"role": role})

    def users_of(self, name: str) -> list[str]:
        """Models, predictions and objects that were made from a volume."""
        manifest = self.manifest
        models = [
            f"model {m}" for m, e in manifest.models.items() if name in {**e.trained_on, **e.evaluated_on}
        ]
        predictions = [f"prediction {p}" for p, e in manifest.predictions.items() if e.volume == name]
        return (
            models + predictions + [f"objects {o}" for o, e in manifest.objects.items() if e.volume == name]
        )

    def provenance(self, command: str, **facts: Any) -> dict[str, Any]:
        """The record that every volume made here carries."""
        return {"command": command, "densem": __version__, "study": self.name, **facts}


def _there(name: str, known: list[str], what: str) -> str:
    return nearest(name, known) if known else f" It has no {what} yet."
