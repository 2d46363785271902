"""Making meshes: the passes over the volumes of objects, and what they leave on disk.

1. facets: the triangles of each block, of all objects wanted, not placed yet; a pass for each level
2. objects: those of one object from all its blocks; placed, smoothed, simplified, written

Both have a journal: a killed run goes on from there. Memory is a block's, or that of the facets of one
object, for each worker; never the volume's.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from densem import __version__
from densem.blocks import Box, Crew, EngineChoice, Grid, Journal, RunOptions, Triple, triple, verify
from densem.errors import ConfigError, ExistsError, InputError
from densem.meshes import precomputed
from densem.meshes.facets import Lattice, facets
from densem.meshes.formats import FILES, PRECOMPUTED, Label, check_formats, check_installed, write_mesh
from densem.meshes.mesh import Mesh
from densem.meshes.simplification import simplified
from densem.meshes.smoothing import WAVELENGTH, Limits, Smoothing
from densem.meshes.subjects import Found, Subject
from densem.meshes.surface import surface_of
from densem.replacement import nothing_if_refused, put_back, take_place
from densem.schema import LabelSchema
from densem.volumes.shared import Shared

Progress = Callable[[int, int], None]
BLOCK: Triple = (64, 512, 512)
FOLDER, WORK, INDEX = "meshes", "work", "meshes.json"
COARSER = 4.0
"""How many times farther from the surface each level of detail may lie than the one before."""


@dataclass(frozen=True)
class MeshOptions:
    """Which meshes are made and how.

    Attributes:
        classes: of objects wanted.
        ids: of objects wanted beside them; all objects where there are neither.
        formats: some of `densem.meshes.formats.FORMATS`.
        smooth_nm: waves of that length along the surface are halved; by default ten longest voxel sides.
        error_nm: how far fewer triangles may lie from all of them; by default half the shortest
            side of a voxel; 0 keeps all triangles.
        block: voxels worked on at a time, (z, y, x); never changes a mesh.
        engine: where blocks and objects are done.
        overwrite: start anew where meshes, or those begun in another way, are there; finished ones are
            replaced when the new ones are finished.
        stall: minutes without progress after which a warning is given.
    """

    classes: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    formats: tuple[str, ...] = ("glb",)
    smooth_nm: float | None = None
    error_nm: float | None = None
    block: Triple = BLOCK
    engine: EngineChoice = field(default_factory=EngineChoice)
    overwrite: bool = False
    stall: float = 30.0

    def __post_init__(self) -> None:
        check_formats(self.formats)
        for name, value in (("smooth", self.smooth_nm), ("error", self.error_nm)):
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"--{name} {value:g}: expected a length in nm, or 0 for none")


@dataclass(frozen=True)
class Meshes:
    """Meshes as they were made.

    Attributes:
        folder: where they lie.
        rows: what `meshes.json` says of each of them.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]


class NoVoxelError(InputError):
    """An object of the table that is not in the volume; no further attempt can mend it."""


def make_meshes(
    folder: Path, schema: LabelSchema, options: MeshOptions | None = None, progress: Progress | None = None
) -> Meshes:
    """Make closed surfaces of objects, in nm.

    Writes `meshes/<class>-<id>.<format>`, `meshes/precomputed/` and `meshes/meshes.json` in the folder of the
    objects. They depend on the objects, `smooth_nm` and `error_nm` alone.

    Args:
        folder: of the objects, as `find_objects` left it.
        schema: their classes.
        options: which and how.
        progress: told voxels done and voxels in all.

    Raises:
        ExistsError: meshes lie there and `overwrite` is not set.
        IntegrityError: an unfinished run with other settings lies there.
        NotFoundError: no finished objects there.
        SchemaError, InputError: no such class or id, no object, or libraries that are not installed.
        IncompleteError, ResourceError: as `coordinate`.
    """
    options = options or MeshOptions()
    found = Found(folder.resolve(), schema)
    place = found.folder / FOLDER
    put_back(place)
    if is_finished(place) and not options.overwrite:
        raise ExistsError(f"{place}: meshes lie there already; give --overwrite to replace them")
    check_installed(options.formats)
    subjects = found.subjects(options.classes, options.ids)
    target = place.with_name(f".{FOLDER}.new") if is_finished(place) else place
    journal = Journal(target / WORK / "journal")
    with nothing_if_refused(target, WORK, _remove), ExitStack() as open_now:
        open_now.enter_context(journal.lock())
        work = _Work(found, subjects, target, options, progress)
        if options.overwrite and not journal.begun_with(work.plan()):
            _remove(target)
        journal.begin(work.plan())
        crew = options.engine.crew(journal, RunOptions(stall_minutes=options.stall, fatal=(NoVoxelError,)))
        rows = work.run(open_now.enter_context(crew))
    shutil.rmtree(target / WORK, ignore_errors=True)
    if target != place:
        take_place(target, place)
    return Meshes(place, rows)


def is_finished(folder: Path) -> bool:
    """Whether finished meshes lie in a folder."""
    return (folder / INDEX).exists()


def _remove(folder: Path) -> None:
    """Remove meshes and what was begun of them, but for the lock that is held."""
    (folder / INDEX).unlink(missing_ok=True)
    for path in itertools.chain.from_iterable(folder.glob(f"*-*.{f}*") for f in FILES):
        path.unlink()
    shutil.rmtree(folder / PRECOMPUTED, ignore_errors=True)
    for path in (folder / WORK).glob("level-*"):
        shutil.rmtree(path)
    shutil.rmtree(folder / WORK / "objects", ignore_errors=True)
    Journal(folder / WORK / "journal").forget()


@dataclass(frozen=True)
class FacetTask:
    """The facets of one block of a level. Can be sent to other machines.

    Attributes:
        folder: where they go.
        objects: ids of the level.
        wanted: ids of the objects wanted, ascending, int64.
        six: those of them whose voxels are joined by faces alone.
    """

    folder: Path
    objects: Shared
    wanted: np.ndarray
    six: np.ndarray

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the facets of a block."""
        volume = self.objects.get()
        lattice = Lattice(volume.shape)
        cubes = lattice.cubes(box)
        read = cubes.clip(volume.box)
        ids = volume.read(read)
        at = np.minimum(np.searchsorted(self.wanted, ids), len(self.wanted) - 1)
        ids = np.where(self.wanted[at] == ids, ids, 0)
        pad = [
            (a - b, d - c) for a, b, c, d in zip(read.start, cubes.start, read.stop, cubes.stop, strict=True)
        ]
        found = facets(np.pad(ids, pad), cubes.start, lattice, self.six)
        for name, array in (("keys", found.keys), ("ids", np.stack([found.ids, found.starts[:-1]]))):
            _save(self.folder / f"{index}.{name}.npy", array)
        return {"facets": len(found.keys)}

    def holds(self, grid: Grid, record: dict[str, Any]) -> bool:
        """Whether the disk holds what a record says."""
        try:
            return (
                len(np.load(self.folder / f"{record['block']}.keys.npy", mmap_mode="r")) == record["facets"]
            )
        except (OSError, ValueError):
            return False


def facets_of(subject: Subject, folder: Path, grid: Grid) -> np.ndarray:
    """The facets of one object from all blocks around it, int64 (T, 3)."""
    around = Box(subject.box.start, triple(s + 1 for s in subject.box.stop)).clip(Box.of_shape(grid.shape))
    parts = [np.zeros((0, 3), np.int64)]
    for index in _numbers(grid, around):
        ids, starts = np.load(folder / f"{index}.ids.npy")
        at = int(np.searchsorted(ids, subject.id))
        if at < len(ids) and ids[at] == subject.id:
            keys = np.load(folder / f"{index}.keys.npy", mmap_mode="r")
            parts.append(np.array(keys[starts[at] : (starts[at + 1] if at + 1 < len(ids) else None)]))
    return np.concatenate(parts)


def _numbers(grid: Grid, box: Box) -> Iterator[int]:
    """Numbers of the blocks that meet a box."""
    _, ny, nx = grid.counts
    spans = (range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, grid.cell, strict=True))
    return ((z * ny + y) * nx + x for z, y, x in itertools.product(*spans))


@dataclass(frozen=True)
class ObjectTask:
    """The mesh of one object. Can be sent to other machines.

    Attributes:
        folder: where meshes go.
        subjects: all objects wanted; the number of a block is the place of one of them.
        schema: their classes.
        grids: of the blocks of each level.
        voxel_size_nm, offset_nm: of the volumes.
        formats: of the files.
        smoothing: how surfaces are smoothed.
        error_nm: how far simplified ones may lie from them.
    """

    folder: Path
    subjects: tuple[Subject, ...]
    schema: LabelSchema
    grids: tuple[Grid, ...]
    voxel_size_nm: tuple[float, float, float]
    offset_nm: tuple[float, float, float]
    formats: tuple[str, ...]
    smoothing: Smoothing
    error_nm: float

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write the files of an object; gives its row of the index."""
        subject = self.subjects[index]
        grid = self.grids[subject.level]
        keys = facets_of(subject, facet_folder(self.folder, subject.level), grid)
        if len(keys) == 0:
            raise NoVoxelError(
                f"object {subject.id} ({subject.kind}): no voxel of it is in the volume, "
                f"though objects.csv has {subject.voxels}; make the objects anew"
            )
        whole, moved = surface_of(
            keys, Lattice(grid.shape), self.voxel_size_nm, self.offset_nm, subject.voxels, self.smoothing
        )
        fine = simplified(whole, self.error_nm, self.limits)
        entry = self.schema[subject.kind]
        label = Label(subject.name, subject.id, subject.kind, entry.rgb)
        files = {f: f"{subject.name}.{f}" for f in self.formats if f in FILES}
        for name in files.values():
            write_mesh(fine.mesh, self.folder / name, label)
        if PRECOMPUTED in self.formats:
            levels = self._levels(fine.mesh)
            precomputed.write_levels(self.folder / PRECOMPUTED, subject.id, levels)
            files[PRECOMPUTED] = f"{PRECOMPUTED}/{subject.id}"
        return {
            "row": {
                "id": subject.id, "name": subject.name, "class": subject.kind, "color": entry.color,
                "level": subject.level, "parent": subject.parent,
                "volume_nm3": fine.mesh.volume_nm3, "area_nm2": fine.mesh.area_nm2,
                "euler_number": whole.euler_number, "box_nm": fine.mesh.box_nm.tolist(),
                "vertices": len(fine.mesh.vertices), "faces": len(fine.mesh.faces),
                "faces_before": len(whole.faces), "error_nm": round(fine.error_nm, 3),
                "smoothed_nm": round(moved, 3), "files": files,
            }
        }  # fmt: skip

    @property
    def limits(self) -> Limits:
        """Lowest and highest x, y, z of the volume, nm."""
        low, size = np.array(self.offset_nm), np.array(self.voxel_size_nm)
        return low[::-1], (low + size * np.array(self.grids[0].shape))[::-1]

    def _levels(self, mesh: Mesh) -> list[Mesh]:
        """Levels of detail, finest first; each has at most half the triangles of the one before."""
        found, error = [mesh], max(self.error_nm, min(self.voxel_size_nm) / 2)
        while len(found) < precomputed.LEVELS:
            error *= COARSER
            coarse = simplified(found[-1], error, self.limits).mesh
            if len(coarse.faces) > len(found[-1].faces) / 2:
                break
            found.append(coarse)
        return found

    def holds(self, grid: Grid, record: dict[str, Any]) -> bool:
        """Whether the disk holds what a record says."""
        return all((self.folder / name).is_file() for name in record["row"]["files"].values())


def facet_folder(folder: Path, level: int) -> Path:
    """Where the facets of a level lie."""
    return folder / WORK / f"level-{level}"


@dataclass
class _Work:
    """The passes of one run."""

    found: Found
    subjects: list[Subject]
    folder: Path
    options: MeshOptions
    progress: Progress | None
    done: float = 0.0

    @cached_property
    def smooth_nm(self) -> float:
        chosen, size = self.options.smooth_nm, self.found.volumes[0].voxel_size_nm
        return WAVELENGTH * max(size) if chosen is None else chosen

    @cached_property
    def error_nm(self) -> float:
        chosen, size = self.options.error_nm, self.found.volumes[0].voxel_size_nm
        return min(size) / 2 if chosen is None else chosen

    @cached_property
    def grid(self) -> Grid:
        shape = self.found.volumes[0].shape
        return Grid(shape, triple(max(1, min(b, s)) for b, s in zip(self.options.block, shape, strict=True)))

    @property
    def levels(self) -> list[int]:
        """Those with an object that is wanted."""
        return sorted({s.level for s in self.subjects})

    def plan(self) -> dict[str, Any]:
        """What must be the same when the run is taken up again."""
        chosen = hashlib.sha256(json.dumps([s.id for s in self.subjects]).encode()).hexdigest()[:16]
        return {
            "densem mesh": 1,
            "objects": [v.id for v in self.found.volumes],
            "chosen": chosen,
            "formats": list(check_formats(self.options.formats)),
            "smooth_nm": self.smooth_nm,
            "error_nm": self.error_nm,
            "block": list(self.grid.cell),
        }

    def run(self, crew: Crew) -> tuple[dict[str, Any], ...]:
        """All passes, then the index."""
        for level in self.levels:
            self._facets(level, crew)
        rows = self._objects(crew)
        if PRECOMPUTED in self.options.formats:
            precomputed.write_info(self.folder / PRECOMPUTED, rows)
        self._index(rows)
        return tuple(rows)

    def _facets(self, level: int, crew: Crew) -> None:
        folder = facet_folder(self.folder, level)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = np.array(sorted(s.id for s in self.subjects if s.level == level), np.int64)
        six = np.intersect1d(self.found.six(level), wanted)
        task = FacetTask(folder, Shared(self.found.volumes[level]), wanted, six)
        self._pass(crew, task, self.grid, Journal(folder / "pass" / "journal"), 0.3 / len(self.levels))

    def _objects(self, crew: Crew) -> list[dict[str, Any]]:
        if PRECOMPUTED in self.options.formats:
            (self.folder / PRECOMPUTED).mkdir(exist_ok=True)
        first = self.found.volumes[0]
        task = ObjectTask(
            self.folder, tuple(self.subjects), self.found.schema, (self.grid,) * len(self.found.volumes),
            first.voxel_size_nm, first.offset_nm, check_formats(self.options.formats),
            Smoothing(self.smooth_nm), self.error_nm,
        )  # fmt: skip
        grid = Grid((len(self.subjects), 1, 1), (1, 1, 1))
        journal = Journal(self.folder / WORK / "objects" / "journal")
        self._pass(crew, task, grid, journal, 0.7)
        return [record["row"] for _, record in sorted(journal.records().items())]

    def _pass(self, crew: Crew, task: Any, grid: Grid, journal: Journal, share: float) -> None:
        """Do what is left of a pass, which is a share of all the work."""
        total = 1000

        def report(done: int, of: int) -> None:
            if self.progress is not None:
                self.progress(round(total * (self.done + share * done / max(of, 1))), total)

        if journal.begin({"pass": journal.folder.parent.name, "cell": list(grid.cell)}):
            verify(journal, lambda record: bool(task.holds(grid, record)), self.options.engine.workers)
        crew.do(task, grid, journal, report)
        self.done += share

    def _index(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write `meshes.json`; with it they are finished."""
        first = self.found.volumes[0]
        index = {
            "densem": __version__,
            "objects": self.found.folder.name,
            "objects_ids": [v.id for v in self.found.volumes],
            "unit": "nanometer",
            "axes": ["x", "y", "z"],
            "voxel_size_nm_zyx": list(first.voxel_size_nm),
            "smooth_nm": self.smooth_nm,
            "allowed_error_nm": self.error_nm,
            "meshes": list(rows),
        }
        part = self.folder / f".{INDEX}.part"
        part.write_text(json.dumps(index, indent=1))
        os.replace(part, self.folder / INDEX)


def _save(path: Path, array: np.ndarray) -> None:
    """Write an array that appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as handle:
        np.save(handle, array)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, path)
