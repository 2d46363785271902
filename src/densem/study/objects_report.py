"""The page of a study's objects, `reports/<name>.objects.html`: a 3D view, and distributions of size.

That of some cells is a page beside it, `reports/<name>-cell-<id>.objects.html`.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from densem import __version__
from densem.errors import ConfigError, DensemError, InputError, NotFoundError, nearest
from densem.object_table import Table, read_table
from densem.report.objects import ObjectsFacts, objects_report
from densem.report.page import write_page
from densem.report.view3d.collecting import ViewOptions, collect
from densem.report.view3d.source import Source
from densem.schema import LabelSchema
from densem.study.file_names import with_ids
from densem.study.manifest import ObjectsEntry
from densem.study.prediction import open_prediction
from densem.study.study import Study
from densem.volumes import Volume, open_volume

Progress = Callable[[int, int], None]
MEGABYTES = (0.5, 200.0)
"""Least and most that surfaces may take: a browser has to hold them all."""
_METHODS = {
    "components": "connected voxels",
    "watershed": "watershed of the distance to the surface",
    "mutex": "mutex watershed of the affinities (Wolf et al. 2018)",
}


@dataclass(frozen=True)
class ObjectsPage:
    """A page that was written.

    Attributes:
        file: where it lies.
        said: sentences on what its 3D view does not show.
    """

    file: Path
    said: tuple[str, ...]


def report_objects(
    folder: Path, name: str | None, options: ViewOptions, progress: Progress | None = None
) -> ObjectsPage:
    """Write the page of objects of a study.

    Args:
        folder: of the study.
        name: of the objects; not needed where there are only those.
        options: what the 3D view shows, and how much of the page it may take.
        progress: told how many surfaces are made, and how many in all.

    Raises:
        NotFoundError: no such objects or cell; or their files are gone.
        InputError: no name, and there are several; or they are not finished.
        ConfigError: `megabytes` out of range.
        FormatError: a damaged table or volume.
    """
    if not MEGABYTES[0] <= options.megabytes <= MEGABYTES[1]:
        raise ConfigError(
            f"--megabytes {options.megabytes:g}: expected {MEGABYTES[0]:g} to {MEGABYTES[1]:g}, "
            "what the surfaces may take of the page"
        )
    study = Study.open(folder)
    name = name or _only(study)
    levels = _levels(study, name)
    volumes = [open_volume(path) for path in levels]
    home = study.objects_folder(name)
    table = read_table(home / "objects.csv", sum(int(v.attributes["object_count"]) for v in volumes))
    cells = read_table(home / "cells.csv", int(volumes[0].attributes["object_count"]))
    schema = _schema(volumes[0])
    origin, warning = _origin(study, name, volumes[0])
    classes = None if origin is None else origin.path
    shown = collect(Source(table, cells, levels, classes, schema), options, progress)
    facts = ObjectsFacts(
        title=f"{study.name}: {name}",
        subtitle=_subtitle(study, name, volumes[0]),
        date=datetime.now(UTC).strftime("%d %B %Y").lstrip("0"),
        schema=schema,
        table=table,
        cells=cells,
        volume_nm3=math.prod(volumes[0].shape) * math.prod(volumes[0].voxel_size_nm),
        shown=shown,
        methods=_methods(volumes[0], table),
        versions={"densem": __version__, "objects": " + ".join(v.id for v in volumes)},
        warnings=(warning,) if warning else (),
        commands=_next(study, name, volumes),
    )
    page = f"{with_ids(name, 'cell', options.cells)}.objects.html"
    file = write_page(objects_report(facts), study.folder / "reports" / page)
    return ObjectsPage(file, (*facts.warnings, *shown.missing))


def _only(study: Study) -> str:
    known = list(study.manifest.objects)
    if not known:
        raise NotFoundError(
            f"study {study.name}: it has no objects yet; find them with  "
            f"densem objects {study.folder} --prediction NAME"
        )
    if len(known) > 1:
        raise InputError(f"study {study.name}: there are several objects; give --objects {'|'.join(known)}")
    return known[0]


def _levels(study: Study, name: str) -> tuple[Path, ...]:
    """The volumes of finished objects, outermost first."""
    home = study.objects_folder(name)
    known = list(study.manifest.objects)
    if not home.is_dir():
        hint = nearest(name, known) if known else " It has none yet."
        gone = f" They stand in study.toml, but their folder {home} is gone." if name in known else hint
        raise NotFoundError(f"study {study.name}: no objects {name!r}.{gone}")
    return tuple(study.finished_objects(name))


def _schema(volume: Volume) -> LabelSchema:
    """The classes that the objects were found with; those of the study may have changed since."""
    return LabelSchema.from_table(volume.provenance.get("schema"), str(volume.path))


def _origin(study: Study, name: str, volume: Volume) -> tuple[Volume | None, str]:
    """The class ids that the objects were made from, or why there are none to show."""
    entry = study.manifest.objects.get(name)
    lost = "so that its 3D view shows objects alone, and no stuff such as vessels"
    try:
        found = None if entry is None else _class_ids(study, entry)
    except DensemError:
        found = None
    if found is None:
        return None, f"What these objects were made from is no longer in the study, {lost}."
    if found.id != volume.provenance.get("input"):
        assert entry is not None
        return None, (
            f"The {entry.source} {entry.name} was replaced since these objects were found, {lost}; "
            "densem objects --overwrite finds them anew."
        )
    return found, ""


def _class_ids(study: Study, entry: ObjectsEntry) -> Volume | None:
    return open_prediction(study, entry.name) if entry.source == "prediction" else study.labels(entry.name)


# ---- words -----------------------------------------------------------------------------------


def _subtitle(study: Study, name: str, volume: Volume) -> str:
    entry = study.manifest.objects.get(name)
    if entry is None:
        return "Objects"
    source = f"prediction {entry.name}" if entry.source == "prediction" else "labels"
    return f"Objects of the {source} of volume {entry.volume}"


def _methods(volume: Volume, table: Table) -> str:
    record = volume.provenance
    shape = " x ".join(map(str, volume.shape))
    size = " x ".join(f"{s:g}" for s in volume.voxel_size_nm)
    rules: Mapping[str, Mapping[str, Any]] = record.get("rules", {})
    told = "; ".join(f"{name.replace('_', ' ')}: {_rule(rule)}" for name, rule in rules.items())
    pairs = any(rule["method"] == "mutex" for rule in rules.values())
    source = "its class ids" + (
        " and the affinities between voxels that a network predicted" if pairs else ""
    )
    return (
        f"Objects were found by densem {record.get('densem', '')} in a volume of {shape} voxels of {size} nm "
        f"(z y x), from {source}. {told[:1].upper()}{told[1:]}. {len(table['id']):,} objects in all."
    )


def _rule(rule: Mapping[str, Any]) -> str:
    words = [_METHODS[rule["method"]]]
    words += [f"h = {rule['h_nm']:g} nm"] if rule["method"] == "watershed" else []
    words += [f"bias {rule['mutex_bias']:g}"] if rule["method"] == "mutex" else []
    words += ["joined by faces alone"] if rule["connectivity"] == 6 else []
    words += [f"at least {rule['min_volume_nm3']:g} nm³"] if rule["min_volume_nm3"] else []
    words += [f"holes of up to {rule['fill_holes_nm3']:g} nm³ filled"] if rule["fill_holes_nm3"] else []
    return ", ".join(words)


def _next(study: Study, name: str, volumes: Sequence[Volume]) -> tuple[tuple[str, str], ...]:
    these = f"{shlex.quote(str(study.folder))} --objects {shlex.quote(name)}"
    compare = f"densem evaluate-objects {these}"
    commands = [("Show one cell alone, in more detail", f"densem report-objects {these} --cell ID")]
    if len(volumes) == 1:
        return (*commands, ("Compare with annotated objects", compare))
    for volume in volumes:
        kinds = ", ".join(volume.attributes.get("classes", ()))
        commands.append(
            (f"Compare with annotated objects ({kinds})", f"{compare} --level {volume.attributes['level']}")
        )
    return tuple(commands)
