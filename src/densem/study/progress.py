"""Progress of predictions, evaluations, imports, objects and meshes: of one folder, or of all that is
unfinished in a study.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from densem.blocks import Grid, Journal, bulletin, triple
from densem.blocks.bulletin import RUN
from densem.blocks.journal import PLAN
from densem.blocks.status import Status
from densem.errors import NotFoundError
from densem.meshes.making import is_finished
from densem.study.export_meshes import mesh_rows
from densem.volumes import open_volume

INNER = "at-model-size"
EVALUATIONS = ".evaluation-*"
IMPORTS = ".import-*"
LEVELS = ("*/volumes/.*.levels/s*", "*/annotations/*/.*.levels/s*")
"""Journals of an import: of each level of the volumes that it writes."""
PASSES = "work/level-*/passes/*/journal"
"""Journals of objects: of each pass of each level of nesting."""
MESH_PASSES = ("work/level-*/pass/journal", "work/objects/journal")
"""Journals of meshes: of the facets of each level, and of the meshes."""


def statuses(folder: Path) -> list[Status]:
    """How what is made in a folder is getting on.

    Args:
        folder: a prediction, evaluation, import, objects or meshes, or a study: then all in it that are
            unfinished.

    Raises:
        NotFoundError: if it is neither.
    """
    if (folder / "study.toml").is_file():
        predictions = folder / "predictions"
        found = [s for p in sorted(predictions.glob("*")) if (j := _journal(p)) and (s := _status(j))]
        for home in sorted(predictions.glob(f"*/{EVALUATIONS}")):
            found.extend(_evaluation_passes(home))
        imports = [status for home in sorted(folder.glob(IMPORTS)) for status in _import_levels(home)]
        homes = sorted([*folder.glob("objects/*"), *folder.glob("objects/.*.new")])
        found.extend(s for home in homes for s in _objects_pass(home))
        homes = sorted([*folder.glob("objects/*/meshes"), *folder.glob("objects/*/.meshes.new")])
        found.extend(s for home in homes for s in _mesh_pass(home))
        return [s for s in [*found, *imports] if s.state != "finished"]
    journal = _journal(folder)
    if journal is not None:
        return [Status.of(journal)]
    for read in (_evaluation_passes, _import_levels, _objects_pass, _objects, _mesh_pass, _meshes):
        if parts := read(folder):
            return parts
    raise NotFoundError(
        f"{folder}: expected a study, a prediction that was begun (with journal/{PLAN}), objects, or "
        "meshes, found none of them"
    )


def _evaluation_passes(home: Path) -> list[Status]:
    """Of an evaluation: the passes it has begun."""
    if not home.match(EVALUATIONS):
        return []
    places = sorted(plan.parent for plan in home.glob(f"*/{PLAN}"))
    found = [(place.name, _status(Journal(place))) for place in places]
    return [replace(status, folder=f"{home}: {name}") for name, status in found if status is not None]


def _import_levels(home: Path) -> list[Status]:
    """Of an import: the levels it has begun of volumes that are not whole; named by volume and level."""
    found = []
    for place in sorted(p for pattern in LEVELS for p in home.glob(pattern)):
        status = _status(Journal(place)) if (place / RUN).is_file() else None
        if status is not None:
            name = place.parent.name.removeprefix(".").removesuffix(".part.levels")
            found.append(replace(status, folder=f"{home}: {name} {place.name}"))
    return found


def _objects_pass(home: Path) -> list[Status]:
    """Of objects that are being found: the pass that was begun last, named by its number and what it does."""

    def title(place: Path, number: int) -> str:
        level = place.parents[2].name.removeprefix("level-")
        return f"level {level}, pass {number}, {place.parent.name}"

    return _last_pass(home, home.glob(PASSES), title)


def _mesh_pass(home: Path) -> list[Status]:
    """Of meshes that are being made: the pass that was begun last; blocks of facets, or objects."""

    def title(place: Path, number: int) -> str:
        level = place.parents[1].name.removeprefix("level-")
        what = "meshes, a block is an object" if place.parent.name == "objects" else f"level {level}, facets"
        return f"pass {number}, {what}"

    return _last_pass(home, (p for pattern in MESH_PASSES for p in home.glob(pattern)), title)


def _last_pass(home: Path, places: Iterable[Path], title: Callable[[Path, int], str]) -> list[Status]:
    """The pass that was begun last, named by its place and how many were begun."""
    begun = {place: began for place in places if (began := _began(place))}
    if not begun:
        return []
    place = max(begun, key=begun.__getitem__)
    status = _status(Journal(place))
    return [] if status is None else [replace(status, folder=f"{home}: {title(place, len(begun))}")]


def _began(journal: Path) -> float:
    """When a pass was begun last, in s since 1970; 0 where it never was."""
    return float(bulletin.read(journal).get("began", 0))


def _objects(home: Path) -> list[Status]:
    """Of objects that are finished."""
    if not (home / "objects.csv").is_file():
        return []
    volume = open_volume(sorted(home.glob("objects-*.zarr"))[0])
    blocks = len(Grid(volume.shape, triple(volume.provenance["block"])))
    return [Status(str(home), "finished", blocks, blocks)]


def _meshes(home: Path) -> list[Status]:
    """Of meshes that are finished."""
    if not is_finished(home):
        return []
    count = len(mesh_rows(home))
    return [Status(str(home), "finished", count, count)]


def _status(journal: Journal) -> Status | None:
    """What a journal says; None where it has just been removed, because what it is of is finished."""
    with contextlib.suppress(FileNotFoundError):
        return Status.of(journal)
    return None


def lines(status: Status) -> list[str]:
    """What to tell a person."""
    share = 100 * status.done / max(1, status.planned)
    said = [
        f"{status.folder}: {status.state}",
        f"  blocks   {status.done} of {status.planned} done ({share:.1f} %), {status.left} left",
    ]
    if status.voxels_per_second is not None and status.seconds_left is not None:
        said.append(
            f"  rate     {status.voxels_per_second / 1e3:.0f} thousand voxels/s, "
            f"about {_duration(status.seconds_left)} left"
        )
    if status.seconds_quiet is not None:
        said.append(f"  quiet    {_duration(status.seconds_quiet)} since the last block was finished")
    if status.engine:
        said.append(f"  engine   {status.engine}" + (f" at {status.scheduler}" if status.scheduler else ""))
    if status.dashboard and status.state == "running":
        said.append(f"  dashboard {status.dashboard}")
    now = time.time()
    for worker in status.workers[:20]:
        last = f"last {_duration(now - worker.last)} ago" if worker.last else "last time unknown"
        said.append(f"  worker   {worker.name}: {worker.blocks} blocks, {last}")
    if len(status.workers) > 20:
        said.append(f"           and {len(status.workers) - 20} more workers")
    for failure in status.failures[:20]:
        what = "put aside" if failure.quarantined else "failed"
        said.append(
            f"  {what} block {failure.block} ({failure.box}), attempt {failure.attempts}: {failure.message}"
        )
    if len(status.failures) > 20:
        said.append(f"           and {len(status.failures) - 20} more failed blocks: see --json")
    return said


def _journal(folder: Path) -> Journal | None:
    """Of a prediction; with `--resample` that at the model's voxel size, until labels are brought back."""
    own, inner = Journal(folder / "journal"), Journal(folder / INNER / "journal")
    signs = ((own, PLAN), (inner, PLAN), (inner, RUN), (own, RUN))
    return next((journal for journal, name in signs if (journal.folder / name).is_file()), None)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
