"""What can be drawn of a study: objects, a prediction, or the labels of a volume."""

from __future__ import annotations

from dataclasses import dataclass

from densem.errors import ConfigError, InputError, NotFoundError, nearest
from densem.report.render import Found
from densem.study.manifest import check_name
from densem.study.prediction import open_prediction
from densem.study.study import Study
from densem.volumes import Volume, open_volume

KINDS = ("objects", "prediction", "labels")


@dataclass(frozen=True, eq=False)
class Source:
    """One of them, opened.

    Attributes:
        title: what stands over it where several are compared.
        volume: name of the volume it is of.
        classes: ids (Z, Y, X); None for objects whose classes are gone or have changed.
        found: the objects; None for classes alone.
    """

    title: str
    volume: str
    classes: Volume | None
    found: Found | None = None

    @property
    def grid(self) -> tuple[Volume, ...]:
        """All its volumes, which lie on one grid."""
        own = () if self.found is None else self.found.volumes
        return (*own, *(() if self.classes is None else (self.classes,)))


def open_source(study: Study, kind: str, name: str, title: str | None = None) -> Source:
    """Open objects, a prediction or labels by name.

    Raises:
        NotFoundError: there are none of that name, with the nearest; or their folder is gone.
        InputError: they are not finished, or a volume has no labels.
    """
    if kind == "objects":
        return _objects(study, name, title)
    if kind == "prediction":
        classes = open_prediction(study, name)
        known = study.manifest.predictions.get(name)
        if known is None:
            raise NotFoundError(
                f"study {study.name}: prediction {name!r} lies in its folder, but not in study.toml; "
                "predict it again, so that it is known which volume it is of"
            )
        return Source(title or name, known.volume, classes)
    labels = study.labels(name)
    if labels is None:
        raise InputError(
            f"study {study.name}: volume {name!r} has no labels; "
            f"add them with  densem import {study.folder} {name} --labels FILE"
        )
    return Source(title or "truth", name, labels)


def open_other(study: Study, words: str, first: Source) -> Source:
    """Open what is compared with the first: `[TITLE=][KIND:]NAME`, or `labels` for those of its volume.

    Raises:
        ConfigError: a word that is none of these.
        NotFoundError, InputError: as `open_source`.
        InputError: it is of another volume.
    """
    title, _, word = words.rpartition("=")
    kind, _, name = word.rpartition(":")
    if not name and word == f"{kind}:":
        name = ""
    if kind and kind not in KINDS:
        raise ConfigError(
            f"--compare {words}: expected objects:NAME, prediction:NAME or labels, found {kind!r}."
            f"{nearest(kind, KINDS)}"
        )
    if not name:
        raise ConfigError(f"--compare {words}: expected [TITLE=]NAME, such as  Ensemble=ensemble-eval")
    kind = kind or _kind_of(study, name, first)
    source = open_source(study, kind, first.volume if word == "labels" else name, title or None)
    if source.volume != first.volume:
        raise InputError(
            f"--compare {words}: expected something of volume {first.volume!r}, as {first.title!r} is; "
            f"found a {'set of objects' if kind == 'objects' else kind} of volume {source.volume!r}"
        )
    return source


def _kind_of(study: Study, name: str, first: Source) -> str:
    """Objects or prediction, where both have that name whatever the first one is."""
    if name == "labels":
        return "labels"
    manifest = study.manifest
    there = [
        k
        for k, table in (("objects", manifest.objects), ("prediction", manifest.predictions))
        if name in table
    ]
    if not there:
        known = sorted({*manifest.objects, *manifest.predictions, "labels"})
        raise NotFoundError(
            f"--compare {name}: study {study.name} has neither objects nor a prediction of that name."
            f"{nearest(name, known)}"
        )
    return there[0] if first.found is not None else there[-1]


def _objects(study: Study, name: str, title: str | None) -> Source:
    folder = study.objects_folder(check_name(name, "objects"))
    entry = study.manifest.objects.get(name)
    if entry is None:
        known = list(study.manifest.objects)
        hint = nearest(name, known) if known else (
            f" It has none yet; find them with  densem objects {study.folder} --prediction NAME"
        )  # fmt: skip
        raise NotFoundError(f"study {study.name}: no objects {name!r}.{hint}")
    if not folder.exists():
        raise NotFoundError(
            f"study {study.name}: objects {name!r} stand in study.toml, but their folder {folder} is gone; "
            "put it back, or find them anew"
        )
    levels = [open_volume(path) for path in study.finished_objects(name)]
    found = Found.read(name, folder / "objects.csv", levels)
    classes = _classes_of(study, entry.source, entry.name, entry.classes_id)
    default = "truth" if entry.source == "labels" else name
    return Source(title or default, entry.volume, classes, found)


def _classes_of(study: Study, source: str, name: str, wanted: str) -> Volume | None:
    """The classes that objects were made from, if they are still what they were."""
    try:
        classes = open_prediction(study, name) if source == "prediction" else study.labels(name)
    except (NotFoundError, InputError):
        return None
    return classes if classes is not None and classes.id == wanted else None
