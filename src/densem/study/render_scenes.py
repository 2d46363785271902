"""What of a study's sources is drawn: the choice of objects and classes, and the scenes made of them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from densem.blocks import Triple, triple
from densem.errors import DensemWarning, InputError
from densem.report import render
from densem.report.render import Body, CutPlane, Region, Scene
from densem.schema import LabelSchema
from densem.study.render_sources import Source
from densem.volumes import Volume

_AROUND = 0.1  # what compared pictures show around the chosen cells, in lengths of their box
_BESIDE = 0.05  # what cut planes show around the objects
_PLANE_VOXELS = 2**31

_Held = tuple[Volume, int, np.ndarray]
"""A volume of outermost objects, the id of one, and its box in nm."""


@dataclass(frozen=True)
class Wanted:
    """What a person asks for: ids of cells or of objects, and names of classes; empty for all."""

    cells: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Choice:
    """What of a source is drawn.

    Attributes:
        schema: the classes.
        wanted: what was asked for.
        cells: outermost objects whose content is drawn.
        ids: objects that are drawn.
        stuff: names of classes that are drawn without being objects.
    """

    schema: LabelSchema
    wanted: Wanted
    cells: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    stuff: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Source, schema: LabelSchema, wanted: Wanted) -> Choice:
        """What is wanted of a source.

        Raises:
            NotFoundError: no such cell or object, with the nearest.
            InputError: a class is wanted that is no longer known of these objects.
        """
        empty = cls(schema, wanted)
        if source.found is None:
            return replace(empty, stuff=empty._only(c.name for c in schema.classes if not c.background))
        found = source.found
        found.check(wanted.cells, "--cell", found.outermost)
        found.check(wanted.ids, "--ids")
        if wanted.ids:
            chosen = [i for i in wanted.ids if empty._only([found.items[i].name])]
            return replace(empty, ids=tuple(chosen))
        return empty._with_cells(source, wanted.cells or tuple(found.outermost))

    def of_other(self, source: Source, cells: Sequence[int]) -> Choice:
        """The same choice of another source, in which these are the counterparts of the cells."""
        if source.found is None:
            return Choice.of(source, self.schema, replace(self.wanted, cells=(), ids=()))
        return self._with_cells(source, tuple(cells))

    @property
    def of_cells(self) -> bool:
        """Whether some of the cells were chosen."""
        return bool(self.wanted.cells)

    def _only(self, names: Sequence[str] | Iterator[str]) -> tuple[str, ...]:
        return tuple(n for n in names if not self.wanted.classes or n in self.wanted.classes)

    def _with_cells(self, source: Source, cells: tuple[int, ...]) -> Choice:
        """These cells with all they hold: objects, and classes without objects that lie in theirs."""
        found = source.found
        assert found is not None
        ids = tuple(i for i in found.with_content(cells) if self._only([found.items[i].name]))
        roots = {found.items[i].name for i in cells}
        inner = {i for root in roots for i in self.schema.descendant_ids(root)}
        stuff = self._only(c.name for c in self.schema.classes if c.id in inner and not c.thing)
        if stuff and source.classes is None:
            told = (
                f"the classes that objects {found.name!r} were made from are gone or have changed, so "
                f"{', '.join(stuff)} cannot be drawn; find the objects anew"
            )
            if self.wanted.classes:
                raise InputError(told)
            warnings.warn(told, DensemWarning, stacklevel=2)
            stuff = ()
        return replace(self, cells=cells, ids=ids, stuff=stuff)


def region_of(first: Source, others: Sequence[Source], choice: Choice, most: int | None = None) -> Region:
    """What is read of all sources: where the chosen objects are, and somewhat around chosen cells to compare.

    Without chosen cells, all of the volume is compared: the others may have objects where the first has none.

    Args:
        first: the source whose objects are chosen.
        others: what is drawn beside it.
        choice: the objects.
        most: voxels to read of each; coarser levels of the pyramids are taken until it is kept.

    Raises:
        InputError: if it is too large at every level.
    """
    grid = [volume for source in (first, *others) for volume in source.grid]
    if first.found is None or not (choice.ids or choice.cells) or (others and not choice.of_cells):
        return Region.of(grid, most=most)
    box = first.found.box_nm(choice.cells or choice.ids)
    return Region.of(grid, render.grown(box, _AROUND) if others else box, most)


def scenes_of(
    first: Source, others: Sequence[Source], choice: Choice, region: Region, title: str
) -> list[Scene]:
    """The scene of a source, with a title, and those of the others.

    Raises:
        InputError: if there is nothing to draw of the first.
    """
    inside = tuple(_held(first, choice))
    bodies = _bodies(first, choice, region, inside)
    if not bodies:
        raise InputError(_nothing(first, choice))
    scenes = [Scene(bodies, title=title)]
    for other in others:
        its = choice.of_other(other, _counterparts(first, other, choice, region))
        if other.found is not None:
            bodies = _bodies(other, its, region, tuple(_held(other, its)))
        else:
            bodies = _bodies(other, its, region, inside if choice.of_cells else ())
        if not bodies:
            told = f"--compare: nothing of {other.title!r} lies where {first.title!r} has what was chosen"
            warnings.warn(told, DensemWarning, stacklevel=2)
        scenes.append(Scene(bodies, title=other.title))
    return scenes


def _held(source: Source, choice: Choice) -> Iterator[_Held]:
    """The cells within which classes are drawn."""
    if source.found is not None:
        for cell in choice.cells:
            yield source.found.volumes[0], cell, source.found.items[cell].box_nm


def _bodies(source: Source, choice: Choice, region: Region, inside: Sequence[_Held]) -> list[Body]:
    bodies: list[Body] = []
    if source.found is not None:
        bodies += render.object_bodies(source.found, choice.ids, choice.schema, region)
    if choice.stuff and source.classes is not None and (inside or source.found is None):
        bodies += render.class_bodies(source.classes, choice.stuff, choice.schema, region, inside)
    return render.with_translucency(bodies, choice.schema)


def _counterparts(first: Source, other: Source, choice: Choice, region: Region) -> tuple[int, ...]:
    """For each chosen cell the outermost object of another run that most of its voxels lie in."""
    if other.found is None:
        return ()
    if first.found is None or not choice.of_cells:
        return tuple(other.found.outermost)
    mine, theirs = region.read(first.found.volumes[0]), region.read(other.found.volumes[0])
    found = set()
    for cell in choice.cells:
        ids, counts = np.unique(theirs[(mine == cell) & (theirs != 0)], return_counts=True)
        if len(ids):
            found.add(int(ids[counts.argmax()]))
    return tuple(sorted(found))


def _nothing(source: Source, choice: Choice) -> str:
    """Why a picture would be empty."""
    classes = choice.wanted.classes
    wanted = f" of class {', '.join(classes)}" if classes else ""
    if source.found is None:
        return f"{source.title}: not a voxel{wanted} in it but background, so there is nothing to draw"
    chosen = choice.wanted.ids or source.found.with_content(choice.cells)
    held = Counter(source.found.items[i].name for i in chosen)
    there = ", ".join(f"{count} {name}" for name, count in held.items()) or "no objects"
    return (
        f"objects {source.found.name!r}: nothing{wanted} to draw; what was chosen holds {there}. "
        "Choose another --class or --cell"
    )


def planes_of(image: Volume, scenes: Sequence[Scene], at: Triple | None = None) -> tuple[CutPlane, ...]:
    """The raw image on the sides of what is drawn, or cut across all axes at a voxel.

    Raises:
        InputError: if the voxel is not where the objects are.
    """
    points = np.concatenate([scene.points for scene in scenes])[:, ::-1]
    box = render.grown(np.stack([points.min(axis=0), points.max(axis=0)]), _BESIDE)
    region = Region.of((image,), box, most=_PLANE_VOXELS)
    view = region.view(image)
    if at is None:
        return render.walls(view, region.box)
    by = np.round(np.array(view.voxel_size_nm) / image.voxel_size_nm).astype(int)
    low, high = np.array(region.box.start) * by, np.minimum(np.array(region.box.stop) * by, image.shape)
    for name, here, a, b in zip("zyx", at, low, high, strict=True):
        if not a <= here < b:
            raise InputError(
                f"--planes-at {' '.join(map(str, at))}: expected {name} from {a} to {b - 1}, where the "
                f"objects of the picture are, found {here}"
            )
    return render.cuts(view, region.box, triple(a // f for a, f in zip(at, by, strict=True)))
