"""Viewing: what of a study is shown in Neuroglancer, which files that takes, and where one looks first.

From the lowest layer to the topmost: image, labels, predictions with what else they hold, objects. Switched
on at first are the image and the most finished of what there is: objects, else a prediction, else labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from densem.errors import DensemError, DensemWarning, EmptyError, InputError, NotFoundError, nearest
from densem.meshes.formats import PRECOMPUTED
from densem.schema import LabelClass, LabelSchema
from densem.study.manifest import MAIN
from densem.study.meshes import mesh_command
from densem.study.object_rows import ObjectRows
from densem.study.prediction import open_prediction
from densem.study.study import Study
from densem.viewer import (
    Focus,
    ImageLayer,
    Scene,
    SegmentLayer,
    Share,
    Site,
    Source,
    find_client,
    segment_names,
)
from densem.viewer.scene import DOUBT, GREY, HEAT, tint
from densem.viewer.site import Names
from densem.volumes import Volume, measure_intensity, open_volume
from densem.volumes.volume import Nanometres

SHOWN = 500
"""Objects of a level that are switched on at first: the largest."""
COLOURED = 5000
"""Objects of a level, other than those of its commonest class, that have the colour of their class."""
AROUND = 1.6
"""How much more than the object asked for is seen, along each axis."""
LEAST = 20
"""Voxels of the image that are seen at least."""


@dataclass(frozen=True)
class ViewRequest:
    """What is to be shown, as the command line gives it."""

    volume: str | None = None
    predictions: tuple[str, ...] = ()
    objects: str | None = None
    object: int | None = None


@dataclass(frozen=True)
class View:
    """A site, and what a person is told of it."""

    site: Site
    lines: tuple[str, ...]


def view_of_study(folder: Path, request: ViewRequest) -> View:
    """Gather what is to be shown; reads metadata and tables alone.

    Raises:
        NotFoundError: no such volume, prediction, objects or object, with the nearest; files that are gone;
            no Neuroglancer.
        InputError: nothing to see, names that do not go together, files outside the study.
    """
    client = find_client()
    study = Study.open(folder)
    chosen = _choose(study, request)
    gathered = _Gathered(study, chosen.volume)
    gathered.add_image()
    gathered.add_labels(visible=not chosen.predictions and not chosen.objects)
    for n, name in enumerate(chosen.predictions):
        gathered.add_prediction(name, visible=n == 0 and not chosen.objects)
    for name in chosen.objects:
        gathered.add_objects(
            name, request.object if name == chosen.objects[-1] else None, name == chosen.objects[-1]
        )
    title = f"{study.name} {chosen.volume}"
    site = Site(gathered.scene(title), gathered.shares, gathered.names, client)
    return View(site, (*_said(study, chosen, site.scene), *gathered.said))


def _said(study: Study, chosen: _Choice, scene: Scene) -> tuple[str, ...]:
    others = [name for name in study.manifest.volumes if name != chosen.volume]
    lines = [
        f"Volume {chosen.volume} of study {study.name}: {', '.join(layer.name for layer in scene.layers)}"
    ]
    if others:
        lines.append(f"Other volumes (--volume): {', '.join(others)}")
    return tuple(lines)


# ---- what is asked for -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
    """A volume, and what is shown of it; of the objects the last ones are switched on."""

    volume: str
    predictions: tuple[str, ...]
    objects: tuple[str, ...]


def _choose(study: Study, request: ViewRequest) -> _Choice:
    manifest = study.manifest
    if not manifest.volumes:
        raise InputError(
            f"study {study.name}: nothing to see, it has no volumes yet; "
            f"bring one in with  densem import {study.folder} NAME --image FILE"
        )
    predictions, objects = dict(manifest.predictions), dict(manifest.objects)
    for name in request.predictions:
        _known(study, name, list(predictions), "prediction", "predictions")
    if request.objects is not None:
        _known(study, request.objects, list(objects), "objects", "objects")
    asked = {f"prediction {name}": predictions[name].volume for name in request.predictions}
    if request.objects is not None:
        asked[f"objects {request.objects}"] = objects[request.objects].volume
    volume = _volume(study, request, asked)
    seen = [n for n, e in predictions.items() if e.volume == volume and _is_there(study, n)]
    found = [n for n, e in objects.items() if e.volume == volume and _has_objects(study, n)]
    found.sort(key=lambda n: objects[n].source == "prediction")  # those of labels first, so below
    if request.predictions:
        seen = list(request.predictions)
        found = [n for n in found if objects[n].source == "prediction" and objects[n].name in seen]
    if request.objects is not None:
        found = [request.objects]
    if request.object is not None and not found:
        raise InputError(
            f"study {study.name}: --object {request.object}, but volume {volume!r} has no objects yet; "
            f"make them with  densem objects {study.folder} --prediction NAME"
        )
    if request.object is not None and len(found) > 1:
        raise InputError(
            f"study {study.name}: --object {request.object}, but volume {volume!r} has objects "
            f"{', '.join(found)}, each with ids of its own; say which with --objects NAME"
        )
    return _Choice(volume, tuple(seen), tuple(found))


def _known(study: Study, name: str, known: list[str], what: str, many: str) -> None:
    if name not in known:
        hint = nearest(name, known) if known else f" It has no {many} yet."
        raise NotFoundError(f"study {study.name}: no {what} {name!r}.{hint}")


def _volume(study: Study, request: ViewRequest, asked: dict[str, str]) -> str:
    """The volume that is named, or that what is named is of; else the one with most to see."""
    manifest = study.manifest
    if request.volume is not None:
        study.entry(request.volume)
        asked = {"--volume": request.volume, **asked}
    if asked:
        (first, volume), *others = asked.items()
        for what, of in others:
            if of != volume:
                raise InputError(
                    f"study {study.name}: {what} is of volume {of!r}, {first} is {volume!r}; "
                    "look at one at a time"
                )
        study.entry(volume)
        return volume
    made = [
        *(e.volume for n, e in manifest.objects.items() if study.objects_folder(n).exists()),
        *(e.volume for n, e in manifest.predictions.items() if study.prediction_folder(n).exists()),
        *(n for n, e in manifest.volumes.items() if e.semantic),
        *manifest.volumes,
    ]
    return next(name for name in made if name in manifest.volumes)


def _is_there(study: Study, prediction: str) -> bool:
    try:
        _prediction(study, prediction)
    except DensemError as error:
        warnings.warn(f"left out: {error}", DensemWarning, stacklevel=2)
        return False
    return True


def _has_objects(study: Study, name: str) -> bool:
    if (study.objects_folder(name) / "objects.csv").is_file():
        return True
    warnings.warn(f"left out: {_no_objects(study, name)}", DensemWarning, stacklevel=2)
    return False


def _no_objects(study: Study, name: str) -> str:
    return (
        f"study {study.name}: objects {name!r} stand in study.toml, but are not finished, or gone from "
        f"{study.objects_folder(name)}; run  densem objects  again, or put them back"
    )


def _prediction(study: Study, name: str) -> Volume:
    folder = study.prediction_folder(name)
    if not folder.exists():
        raise NotFoundError(
            f"study {study.name}: prediction {name!r} stands in study.toml, but its folder {folder} is gone; "
            "was the study moved without it? Put it back, or predict anew"
        )
    if not (folder / "classes.zarr").exists():
        raise InputError(
            f"prediction {name!r} is not finished; run its  densem predict  command again to go on"
        )
    return open_prediction(study, name)


# ---- what is found ---------------------------------------------------------------------------


@dataclass
class _Gathered:
    """Layers and what they are read from."""

    study: Study
    volume: str
    layers: list[ImageLayer | SegmentLayer] = field(default_factory=list)
    shares: dict[str, Share] = field(default_factory=dict)
    names: dict[str, Names] = field(default_factory=dict)
    focus: Focus | None = None
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schema: LabelSchema = self.study.schema
        self.image: Volume = self.study.image(self.volume)
        self.names["classes"] = lambda: segment_names(self.schema.ids, self.schema.names)

    def scene(self, title: str) -> Scene:
        """All of it; without an object asked for, the whole image is seen."""
        extent = np.array(self.image.shape) * self.image.voxel_size_nm
        middle = np.array(self.image.offset_nm) + extent / 2
        whole = Focus(_triple(middle), _triple(extent))
        return Scene(title, self.image.voxel_size_nm, self.focus or whole, tuple(self.layers))

    # ---- layers ------------------------------------------------------------------------------

    def add_image(self) -> None:
        referred = self.study.entry(self.volume).referred
        source = self._source("image", self.image, outside=referred)
        self.layers.append(ImageLayer("image", source, GREY, _window(self.image)))

    def add_labels(self, visible: bool) -> None:
        for n, annotator in enumerate(self.study.annotators(self.volume)):
            labels = self.study.annotation(self.volume, annotator)
            name = "labels" if annotator == MAIN else f"labels by {annotator}"
            self.layers.append(self._classes(name, f"labels.{annotator}", labels, visible and n == 0))
        objects = self.study.objects(self.volume)
        if objects is not None:
            source = self._source("labels.objects", objects)
            self.layers.append(SegmentLayer("labelled objects", source, visible=False))

    def add_prediction(self, name: str, visible: bool) -> None:
        classes = _prediction(self.study, name)
        folder = self.study.prediction_folder(name)
        key = f"prediction.{name}"
        self.layers.append(self._classes(name, f"{key}.classes", classes, visible))
        for part, shader in (("confidence", DOUBT), ("entropy", HEAT)):
            if (folder / f"{part}.zarr").exists():
                source = self._source(f"{key}.{part}", open_prediction(self.study, name, part))
                self.layers.append(ImageLayer(f"{name}: {part}", source, shader, (0.0, 255.0), visible=False))
        path = folder / "probabilities.zarr"
        if path.exists():
            share = self._share(f"{key}.probabilities", path)
            source = replace(Source.of(share, classes), key=share, leading=("c",))
            for channel, entry in enumerate(self.schema.classes):
                rgb = (255, 255, 255) if entry.background else entry.rgb
                layer = f"{name}: probability of {entry.name}"
                self.layers.append(
                    ImageLayer(layer, source, tint(rgb), (0.0, 1.0), channel, visible=False)
                )  # fmt: skip

    def add_objects(self, name: str, identity: int | None, visible: bool) -> None:
        folder = self.study.objects_folder(name)
        if not (folder / "objects.csv").is_file():
            raise NotFoundError(_no_objects(self.study, name))
        rows = ObjectRows.read(folder / "objects.csv")
        row = None if identity is None else self._row(rows, name, identity)
        shown = np.ones(len(rows), bool) if identity is None else rows.relatives(identity)
        meshes = None
        if (folder / "meshes" / "precomputed" / "info").is_file():
            meshes = self._share(f"objects.{name}.meshes", folder / "meshes" / "precomputed", meshes=True)
        elif len(rows):
            command = mesh_command(self.study, name, PRECOMPUTED)
            self.said.append(f"Objects {name} have no meshes for Neuroglancer; make them with  {command}")
        paths = sorted(folder.glob("objects-*.zarr"), key=lambda p: (len(p.name), p.name))
        for path in paths:
            volume = open_volume(path)
            level = int(path.stem.rpartition("-")[2])
            layer = self._level(name, level, volume, rows, shown)
            inner = replace(
                layer,
                meshes=meshes,
                visible=visible,
                all_if_none=identity is None,  # an object that holds nothing is shown without those of others
                mesh_alpha=0.25 if path != paths[-1] else 1.0,  # what holds other things is seen through
            )
            self.layers.append(inner)
            if row is not None and rows.level[row] == level:
                start, stop = rows.box_nm[row]
                seen = np.maximum((stop - start) * AROUND, LEAST * np.array(self.image.voxel_size_nm))
                self.focus = Focus(_triple(rows.centre_nm[row]), _triple(seen), inner.name, identity)

    def _row(self, rows: ObjectRows, name: str, identity: int) -> int:
        row = rows.place(identity)
        if row is None:
            range_ = f"ids go from {rows.id[0]} to {rows.id[-1]}" if len(rows) else "there are none"
            raise NotFoundError(
                f"study {self.study.name}: objects {name!r} have no object {identity}: {range_} "
                f"({self.study.objects_folder(name) / 'objects.csv'} lists them)"
            )
        return row

    def _level(
        self, name: str, level: int, volume: Volume, rows: ObjectRows, shown: np.ndarray
    ) -> SegmentLayer:
        key = f"objects.{name}.{level}"
        mine = rows.level == level
        default, others = _colors(rows, mine, self.schema)
        self.names[key] = lambda: _object_names(rows, mine)
        return SegmentLayer(
            name=f"{name}: {_level_name(rows, mine, level)}",
            source=self._source(key, volume),
            names=key,
            shown=tuple(int(i) for i in rows.largest(mine & shown, SHOWN)),
            colors=others,
            default_color=default,
            dimmed=0.15,
        )

    def _classes(self, name: str, key: str, volume: Volume, visible: bool) -> SegmentLayer:
        """Class ids in the colours of the schema; background and unlabelled are not drawn."""
        drawn = [c for c in self.schema.classes if not c.background]
        return SegmentLayer(
            name=name,
            source=self._source(key, volume),
            names="classes",
            shown=tuple(c.id for c in drawn),
            colors={c.id: c.color for c in drawn},
            hide_zero=all(c.id != 0 for c in drawn),
            visible=visible,
        )

    # ---- files -------------------------------------------------------------------------------

    def _source(self, key: str, volume: Volume, outside: bool = False) -> Source:
        assert volume.path is not None  # volumes of a study are opened from their folders
        return Source.of(self._share(key, volume.path, outside), volume)

    def _share(self, key: str, path: Path, outside: bool = False, meshes: bool = False) -> str:
        """Serve a folder of the study, or an image that study.toml refers to."""
        real = path.resolve()
        if not outside and not real.is_relative_to(self.study.folder.resolve()):
            raise InputError(
                f"{path}: leads out of the study, to {real}; densem view serves only what lies in it: "
                "move the files there (an OME-Zarr image may lie elsewhere if  densem import  refers to it)"
            )
        self.shares[key] = Share(real, "meshes" if meshes else "zarr")
        return key


def _window(image: Volume) -> tuple[float, float] | None:
    """Grey values that become black and white: stored at import, else of a sample; None for 0 to 255."""
    if image.intensity is not None:
        return image.intensity.low, image.intensity.high
    if image.dtype == np.uint8:
        return None
    try:
        measured = measure_intensity(image)
    except EmptyError:
        return None
    return measured.low, measured.high


def _colors(rows: ObjectRows, mine: np.ndarray, schema: LabelSchema) -> tuple[str | None, dict[int, str]]:
    """The colour of the commonest class of a level, and those of the largest objects of other classes."""
    known: dict[str, LabelClass] = {c.name: c for c in schema.classes}
    color = [known[name].color if name in known else None for name in rows.classes]
    counts = np.bincount(rows.kind[mine], minlength=len(rows.classes)) if mine.any() else np.zeros(0, int)
    if not counts.size:
        return None, {}
    commonest = int(counts.argmax())
    others = rows.largest(mine & (rows.kind != commonest), COLOURED)
    places = np.searchsorted(rows.id, others)
    found = zip(others, rows.kind[places], strict=True)
    return color[commonest], {int(i): str(color[k]) for i, k in found if color[k] is not None}


def _level_name(rows: ObjectRows, mine: np.ndarray, level: int) -> str:
    """What a level holds, in a few words."""
    names = _classes_among(rows, mine)
    if not names:
        return f"objects of level {level}"
    around = _classes_among(rows, np.isin(rows.id, rows.parent[mine]))
    if len(names) == 1:
        return names[0]
    return f"things in {around[0]}" if len(around) == 1 else f"{len(names)} classes"


def _classes_among(rows: ObjectRows, mine: np.ndarray) -> list[str]:
    return [rows.classes[k] for k in np.unique(rows.kind[mine])]


def _object_names(rows: ObjectRows, mine: np.ndarray) -> dict[str, object]:
    """`mitochondrion 12`, its class as a tag, its volume, and the objects that it lies in if any does."""
    ids = rows.id[mine].tolist()
    kinds = [rows.classes[k] for k in rows.kind[mine]]
    numbers = {"volume_um3": [float(f"{v:.6g}") for v in rows.volume_nm3[mine] * 1e-9]}
    if rows.parent[mine].any():
        numbers["parent"] = rows.parent[mine].tolist()
    if (rows.cell != rows.parent)[mine].any():
        numbers["cell"] = rows.cell[mine].tolist()
    return segment_names(ids, [f"{k} {i}" for k, i in zip(kinds, ids, strict=True)], kinds, numbers)


def _triple(values: Sequence[float] | np.ndarray) -> Nanometres:
    z, y, x = (float(v) for v in values)
    return z, y, x
