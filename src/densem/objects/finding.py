"""Finding objects: the passes over a volume of class ids, level by level, and what they leave on disk.

1. label: the components of each block        4. cut: the watershed, components or tiles
2. seams: what meets across blocks            5. paint: final ids, whole shards of a volume
3. join: the components of the volume         6. measure: sums of each block; then the tables

Every pass has a journal: a killed run goes on from there. What is handed from pass to pass lies in a folder
`work`, removed at the end. Memory grows with blocks, and with the number of components, not with the volume.
"""

from __future__ import annotations

import functools
import math
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from densem import __version__
from densem.blocks import Box, Crew, EngineChoice, Grid, Journal, RunOptions, Triple, triple, verify
from densem.errors import ConfigError, ExistsError, InputError, SchemaError, ShapeError
from densem.object_table import Table, write_csv, write_parquet
from densem.objects.block_components import LabelTask, scratch_layout
from densem.objects.cutting import (
    MUTEX_TILING,
    TILES,
    Cutter,
    Method,
    TileTask,
    Tiling,
    WholeTask,
    sort_components,
)
from densem.objects.measure import MeasureTask, gather
from densem.objects.nesting import Level, levels
from densem.objects.rules import Rules
from densem.objects.scratch import Scratch
from densem.objects.seams import Components, Provisional, SeamTask, join_blocks, number_blocks
from densem.objects.stitching import Painter, StitchTask, number_pieces
from densem.objects.table import Measured, cell_table, object_table
from densem.replacement import nothing_if_refused, put_back, take_place
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Layout, Volume, ome_zarr, open_volume, pyramid, shards
from densem.volumes.affinities import Affinities
from densem.volumes.shared import Shared

Progress = Callable[[int, int], None]
BLOCK: Triple = (32, 512, 512)
LARGEST_ID = 2**32 - 1
WORK = "work"
PASSES = 8
TABLES = ("objects.csv", "objects.parquet", "cells.csv")


@dataclass(frozen=True)
class ObjectsOptions:
    """How objects are found; of these only the tilings change them.

    Attributes:
        block: voxels worked on at a time, (z, y, x).
        engine: where blocks are done.
        tiling: sizes that say which components are cut whole by the watershed.
        mutex_tiling: the same by the mutex watershed.
        overwrite: start anew where objects, or those begun in another way, are there; finished ones are
            replaced when the new ones are finished.
        stall: minutes without a finished block after which a warning is given.
    """

    block: Triple = BLOCK
    engine: EngineChoice = field(default_factory=EngineChoice)
    tiling: Tiling = field(default_factory=Tiling)
    mutex_tiling: Tiling = MUTEX_TILING
    overwrite: bool = False
    stall: float = 30.0


@dataclass(frozen=True)
class Objects:
    """Objects as they were found.

    Attributes:
        folder: where they lie.
        volumes: ids uint32 (Z, Y, X) of each level, outermost first.
        table: a row per object.
        cells: a row per object of the outermost level.
        parquet: whether the table was written as Parquet, too.
        thing_voxels: voxels of thing classes and what lies in them, in the class ids.
    """

    folder: Path
    volumes: tuple[Volume, ...]
    table: Table
    cells: Table
    parquet: bool
    thing_voxels: int

    def counts(self) -> dict[str, int]:
        """How many objects each class has."""
        return dict(Counter(self.table["class"]))


def find_objects(
    classes: Volume,
    schema: LabelSchema,
    rules: Rules,
    folder: Path,
    options: ObjectsOptions | None = None,
    progress: Progress | None = None,
    provenance: dict[str, Any] | None = None,
    affinities: Affinities | None = None,
) -> Objects:
    """Number and measure the objects of every thing class.

    Writes `objects-<level>.zarr` (uint32, 0 where there is no object), `objects.csv`, `objects.parquet` and
    `cells.csv`. Ids are unique over all levels and follow the first voxels in C order: they depend on the
    class ids, the rules and the tiling alone.

    Args:
        classes: uint8 ids (Z, Y, X); 255 is unlabelled and no object.
        schema: the classes.
        rules: of its thing classes.
        folder: where they go; an unfinished run in it is taken up again.
        options: blocks, engine, tiling.
        progress: told voxels done and voxels in all, over all passes.
        provenance: plain values stored with the volumes, such as the command.
        affinities: of the same voxels, for classes with the method `mutex`.

    Raises:
        ExistsError: objects lie there and `overwrite` is not set.
        IntegrityError: an unfinished run of another input, other rules or blocks lies there.
        SchemaError: ids that are no class, no thing class.
        InputError: class ids that are not uint8, or more objects than uint32 can number.
        ConfigError, ShapeError: the method `mutex` without affinities, or with those of another volume.
        IncompleteError, ResourceError: as `coordinate`.
    """
    options = options or ObjectsOptions()
    folder = folder.resolve()
    put_back(folder)
    if is_finished(folder) and not options.overwrite:
        raise ExistsError(f"{folder}: objects lie there already; give another --name or --overwrite")
    if classes.dtype != np.uint8:
        raise InputError(f"{classes.name}: expected class ids as uint8, found {classes.dtype}")
    check_affinities(affinities, classes, rules)
    target = folder.with_name(f".{folder.name}.new") if is_finished(folder) else folder
    journal = Journal(target / WORK / "journal")
    with nothing_if_refused(target, WORK, _remove), ExitStack() as open_now:
        open_now.enter_context(journal.lock())
        work = _Work(classes, schema, rules, target, options, journal, progress, provenance or {}, affinities)
        if options.overwrite and not journal.begun_with(work.plan()):
            _remove(target)
        journal.begin(work.plan())
        crew = options.engine.crew(journal, RunOptions(stall_minutes=options.stall))
        found = work.run(open_now.enter_context(crew))
    shutil.rmtree(target / WORK, ignore_errors=True)
    return found if target == folder else _put_in_place(found, folder)


def _put_in_place(found: Objects, folder: Path) -> Objects:
    """Replace the objects of a folder by new ones that lie beside it."""
    take_place(found.folder, folder)
    volumes = tuple(open_volume(path) for path in sorted(folder.glob("objects-*.zarr")))
    return replace(found, folder=folder, volumes=volumes)


def is_finished(folder: Path) -> bool:
    """Whether finished objects lie in a folder."""
    return (folder / "objects.csv").exists()


def _remove(folder: Path) -> None:
    """Remove objects and what was begun of them, but for the lock that is held."""
    for path in (*folder.glob("objects-*.zarr"), *folder.glob(".objects-*")):
        shutil.rmtree(path, ignore_errors=True)
    for name in TABLES:
        (folder / name).unlink(missing_ok=True)
    for path in (folder / WORK).glob("level-*"):
        shutil.rmtree(path)
    Journal(folder / WORK / "journal").forget()


@dataclass(frozen=True)
class PaintTask:
    """Writes final ids into one block, whole shards. Can be sent to other machines."""

    painter: Painter
    folder: Path

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write a block; gives the digest of what was written."""
        array = zarr.open_group(self.folder, mode="r+")["s0"]
        assert isinstance(array, zarr.Array)
        return {"digest": shards.write_verified(array, box, self.painter.read(box))}

    def holds(self, grid: Grid, record: dict[str, Any]) -> bool:
        """Whether the disk holds what a record says."""
        array = zarr.open_group(self.folder, mode="r")["s0"]
        assert isinstance(array, zarr.Array)
        return shards.digest(array, grid.box(record["block"])) == record["digest"]


@dataclass
class _Work:
    """The passes of one run."""

    classes: Volume
    schema: LabelSchema
    rules: Rules
    folder: Path
    options: ObjectsOptions
    journal: Journal
    progress: Progress | None
    provenance: dict[str, Any]
    affinities: Affinities | None = None
    done: int = 0
    thing_voxels: int = 0

    def __post_init__(self) -> None:
        self.levels = levels(self.schema, self.rules)
        block = triple(max(1, min(b, s)) for b, s in zip(self.options.block, self.classes.shape, strict=True))
        self.grid = Grid(self.classes.shape, block)
        self.shared = Shared(self.classes)

    def plan(self) -> dict[str, Any]:
        """What must be the same when the run is taken up again."""
        return {
            "densem objects": 2,  # 1: pieces of tiles were joined by half of the smaller one
            "classes": self.classes.id,
            "schema": self.schema.to_table(),
            "rules": self.rules.to_dict(),
            "tiling": self.options.tiling.to_dict(),
            **self._plan_of_mutex(),
            "block": list(self.grid.cell),
        }

    def _plan_of_mutex(self) -> dict[str, Any]:
        if self.affinities is None or not self.rules.have("mutex"):
            return {}
        return {"mutex_tiling": self.options.mutex_tiling.to_dict(), "affinities": self.affinities.id}

    def run(self, crew: Crew) -> Objects:
        """All levels, then the tables."""
        volumes: list[Volume] = []
        measured: list[Measured] = []
        top = 0
        for level in self.levels:
            scratch = Scratch(self.folder / WORK / f"level-{level.number}")
            found, volume = self._level(level, scratch, crew, top)
            top += len(found["id"])
            sums = self._measure(level, scratch, crew, volume, volumes[-1] if volumes else None, found["id"])
            measured.append(Measured(level, found["kind"], sums))
            volumes.append(volume)
        table, cells = object_table(measured, self.classes), cell_table(measured, self.classes)
        return self._written(tuple(volumes), table, cells)

    def _written(self, volumes: tuple[Volume, ...], table: Table, cells: Table) -> Objects:
        write_csv(cells, self.folder / "cells.csv")
        parquet = write_parquet(table, self.folder / "objects.parquet")
        write_csv(table, self.folder / "objects.csv")  # last: with it they are finished
        return Objects(self.folder, volumes, table, cells, parquet, self.thing_voxels)

    # ---- passes ------------------------------------------------------------------------------

    def _pass(self, crew: Crew, task: Any, grid: Grid, scratch: Scratch, name: str) -> Journal:
        """Do what is left of a pass."""
        journal = scratch.journal(name)
        known = journal.begin({"pass": name, "cell": list(grid.cell)})
        if known and hasattr(task, "holds"):
            verify(journal, functools.partial(task.holds, grid), self.options.engine.workers)
        crew.do(task, grid, journal, self._report(grid))
        self.done += 1
        return journal

    def _report(self, grid: Grid) -> Progress:
        total = math.prod(self.classes.shape)

        def report(done: int, _: int) -> None:
            if self.progress is not None:
                self.progress(self.done * total + done, PASSES * len(self.levels) * total)

        return report

    def _level(
        self, level: Level, scratch: Scratch, crew: Crew, top: int
    ) -> tuple[dict[str, np.ndarray], Volume]:
        """Find the objects of a level and write their volume."""
        components = self._components(level, scratch, crew)
        self.done = PASSES * level.number + 2
        tilings: dict[Method, Tiling] = {"watershed": self.options.tiling, "mutex": self.options.mutex_tiling}
        cutter = Cutter(components, level, self.classes.voxel_size_nm, tilings, self.affinities)
        names, links = self._cut(cutter, crew)
        self.done = PASSES * level.number + 5
        found = number_pieces(cutter, names, links, top)
        check_count(top + len(found["id"]))
        return found, self._paint(Painter(components), level, scratch, crew, len(found["id"]))

    def _components(self, level: Level, scratch: Scratch, crew: Crew) -> Components:
        provisional = Provisional(scratch, self.grid)
        if not scratch.labels.exists():
            scratch.folder.mkdir(parents=True, exist_ok=True)
            part = scratch.labels.with_name(".labels.part")
            shutil.rmtree(part, ignore_errors=True)
            group = zarr.open_group(part, mode="w", zarr_format=3)
            layout = Layout(*scratch_layout(self.grid.cell))
            ome_zarr.create_array(group, "s0", self.classes.shape, "uint32", layout)
            part.rename(scratch.labels)
        journal = self._pass(crew, LabelTask(scratch, self.shared, level), self.grid, scratch, "label")
        if level.number == 0:
            self._check_classes(journal)
        number_blocks(provisional)
        self._pass(crew, SeamTask(provisional, level), self.grid, scratch, "seams")
        check_count(join_blocks(provisional, level, math.prod(self.classes.voxel_size_nm)))
        return Components(provisional)

    def _check_classes(self, journal: Journal) -> None:
        """Refuse ids that are no class, and count the voxels of things."""
        seen: Counter[int] = Counter()
        for record in journal.scan():
            seen.update({int(k): v for k, v in record["classes"].items()})
        strays = [i for i in sorted(seen) if i != UNLABELLED and i not in self.schema.ids]
        if strays:
            found = ", ".join(f"{i} ({seen[i]} voxels)" for i in strays[:5])
            raise SchemaError(
                f"{self.classes.name}: expected ids {', '.join(map(str, self.schema.ids))} of the schema or "
                f"255 (unlabelled), found {found}; use the schema it was made with"
            )
        names = [name for level in self.levels for name in level.names]
        things = {i for name in names for i in self.schema.descendant_ids(name)}
        self.thing_voxels = sum(seen[i] for i in things)

    def _cut(self, cutter: Cutter, crew: Crew) -> tuple[list[str], list[str]]:
        """Names of the files with pieces, and with links between them."""
        small, large = sort_components(cutter)
        names: list[str] = []
        links: list[str] = []
        scratch = cutter.scratch
        if small:
            self._pass(crew, WholeTask(cutter), self.grid, scratch, "whole")
            names += [f"whole/{b}" for b in range(len(self.grid))]
        for method in large:
            tiles, folder = cutter.tiles(method), TILES[method]
            self._pass(crew, TileTask(cutter, method), tiles, scratch, folder)
            self._pass(crew, StitchTask(cutter, method), tiles, scratch, f"{folder}-stitch")
            names += [f"{folder}/{t}" for t in range(len(tiles))]
            links += [f"{folder}-links/{t}" for t in range(len(tiles))]
        return names, links

    def _paint(self, painter: Painter, level: Level, scratch: Scratch, crew: Crew, count: int) -> Volume:
        """Write the volume of a level with its pyramid."""
        path = self.folder / f"objects-{level.number}.zarr"
        if path.exists():
            return open_volume(path)
        layout = Layout.fitting(self.classes.shape)
        grid, part = Grid(self.classes.shape, layout.shard), ome_zarr.temporary(path)
        if not scratch.journal("paint").plan():
            ome_zarr.create(path, self.classes.shape, "uint32", layout)
        self._pass(crew, PaintTask(painter, part), grid, scratch, "paint")
        painted = zarr.open_group(part, mode="r")["s0"]
        assert isinstance(painted, zarr.Array)
        shards.sweep(painted, grid, frozenset())  # of workers that were killed over a block
        made = pyramid.build(part, self.classes.voxel_size_nm, "labels", crew)
        record = {
            "kind": "objects",
            "object_count": count,
            "level": level.number,
            "classes": list(level.names),
            "provenance": {"densem": __version__, "input": self.classes.id, **self.plan(), **self.provenance},
        }
        ome_zarr.describe(part, made, self.classes.offset_nm, record)
        return ome_zarr.finish(path)

    def _measure(
        self,
        level: Level,
        scratch: Scratch,
        crew: Crew,
        volume: Volume,
        outer: Volume | None,
        ids: np.ndarray,
    ) -> Any:
        """Sums of the objects of a level."""
        self.done = PASSES * level.number + 6
        parents = None if outer is None else Shared(outer)
        task = MeasureTask(scratch, Shared(volume), parents, self.shared, level)
        self._pass(crew, task, self.grid, scratch, "measure")
        self.done = PASSES * (level.number + 1)
        return gather(scratch, len(self.grid), ids, len(self.schema) + 1)


def check_affinities(affinities: Affinities | None, classes: Volume, rules: Rules) -> None:
    """Refuse the method `mutex` without affinities, and affinities of other voxels.

    Raises:
        ConfigError, ShapeError: saying which.
    """
    if not rules.have("mutex"):
        return
    if find_spec("mwatershed") is None:
        raise ConfigError(
            'method = "mutex": expected the package mwatershed, which is not installed; '
            "pip install 'densem[objects]', or choose components or watershed"
        )
    if affinities is None:
        raise ConfigError(
            f'{classes.name}: method = "mutex" needs affinities, which a prediction by a model that learnt '
            "them has; give others, or choose components or watershed"
        )
    if affinities.shape != classes.shape:
        raise ShapeError(
            f"{affinities.path}: expected affinities of {classes.shape} voxels (z, y, x), as {classes.name} "
            f"has, found {affinities.shape}; predict anew"
        )


def check_count(count: int) -> None:
    """Refuse more objects than uint32 can number.

    Raises:
        InputError: if there are.
    """
    if count > LARGEST_ID:
        raise InputError(
            f"expected at most {LARGEST_ID} objects, the largest id of uint32, found {count}; "
            "the labels are noise: raise min_volume_nm3, or look at the prediction"
        )
