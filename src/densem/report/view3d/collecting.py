"""Collecting: the surfaces of a study's objects for a page that may take so many megabytes.

1. choose: the outermost objects, then the others and stuff, largest first, at most `MOST`.
2. simplify: all by `FINEST`; while they do not fit, those that take more than their share by twice as much
   as before; how far they move is measured.
3. leave out: where even `COARSEST` does not help, those for which no room is left, in the order of 1.

Memory: a box of voxels, and surfaces that are simplified once already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from densem.errors import NotFoundError
from densem.meshes.simplification import simplified
from densem.meshes.smoothing import Limits
from densem.report.view3d.scene import LARGEST, Scene, SceneClass, SceneObject, packed_bytes
from densem.report.view3d.source import Source, Wish, wanted

Progress = Callable[[int, int], None]
MOST = 8_000
"""Surfaces in one view: more could not be told apart, nor turned smoothly."""
FINEST, COARSEST = 0.25, 8.0
"""Tolerances, in longest sides of a voxel."""
OF_RADIUS = 0.15
"""Beyond the finest, a tolerance is at most this share of an object's radius: granules stay round."""


@dataclass(frozen=True)
class ViewOptions:
    """What a view shows.

    Attributes:
        megabytes: that its surfaces may take in the page.
        cells: ids of the outermost objects that are shown with what lies in them; all of them if empty.
    """

    megabytes: float = 8.0
    cells: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Shown:
    """A view, and what it does not show.

    Attributes:
        scene: None if there is nothing to show.
        accuracy: sentences on how surfaces were simplified.
        missing: sentences on what was left out.
    """

    scene: Scene | None
    accuracy: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def collect(source: Source, options: ViewOptions, progress: Progress | None = None) -> Shown:
    """Make the surfaces and pack them.

    Raises:
        NotFoundError: a cell that is wanted is none of the outermost objects.
        FormatError: a volume cannot be read.
    """
    _check(source, options)
    wishes = [w for w in wanted(source) if not options.cells or w.outermost in options.cells]
    chosen = wishes[:MOST]
    longest = max(source.volume.voxel_size_nm)
    names = [n for n in source.schema.names if any(w.kind == n for w in chosen)]
    made: list[_Made] = []
    for done, wish in enumerate(chosen):
        mesh, side = wish.mesh(source)
        if len(mesh.faces):
            first = _Made(wish.shown(names.index(wish.kind), mesh), side)
            made.append(first.simplified(FINEST * longest, source.limits_nm))
        if progress is not None:
            progress(done + 1, len(chosen))
    made = _fitted(made, options.megabytes * 1e6, longest, source.limits_nm)
    objects = [m.shown for m in made]
    missing = tuple(_left_out(source, wishes, objects, options))
    if not objects:
        return Shown(None, (), missing)
    return Shown(_scene(source, names, objects), tuple(_accuracy(made, longest)), missing)


@dataclass(frozen=True, eq=False)
class _Made:
    """A surface that was made.

    Attributes:
        shown: as it is shown.
        side_nm: longest side of the voxels it was made of.
        moved_nm: how far it may lie from the surface that was made of them.
    """

    shown: SceneObject
    side_nm: float
    moved_nm: float = 0.0

    @property
    def radius_nm(self) -> float:
        """Three times its volume over its area: of a ball the radius, of a tube half as much again."""
        mesh = self.shown.mesh
        return 3 * mesh.volume_nm3 / max(mesh.area_nm2, 1e-9)

    def simplified(self, tolerance_nm: float, limits_nm: Limits) -> _Made:
        """With fewer triangles; what was simplified before moves once more."""
        found = simplified(self.shown.mesh, tolerance_nm, limits_nm)
        moved = self.moved_nm + found.error_nm
        return replace(self, shown=replace(self.shown, mesh=found.mesh), moved_nm=moved)


def _check(source: Source, options: ViewOptions) -> None:
    known = set(source.cells["id"])
    for number in options.cells:
        if number not in known:
            kind = " or ".join(sorted(set(source.cells["class"]))) or "outermost object"
            raise NotFoundError(
                f"--cell {number}: no {kind} has that id; cells.csv lists them, such as "
                f"{', '.join(map(str, sorted(known)[:5])) or 'none'}"
            )


# ---- what fits -------------------------------------------------------------------------------


def _fitted(made: list[_Made], budget: float, longest: float, limits_nm: Limits) -> list[_Made]:
    """Simplified until they fit, then without those for which there is no more room."""
    share = FINEST
    while (total := sum(map(_bytes, made))) > budget and share < COARSEST:
        share *= 2
        fair = budget / len(made)  # those that take no more need not be coarser for the others
        made = [
            m.simplified(min(share * longest, max(FINEST * longest, OF_RADIUS * m.radius_nm)), limits_nm)
            if _bytes(m) > fair
            else m
            for m in made
        ]
    kept: list[_Made] = []
    total = 0
    for one in made:
        if total + _bytes(one) <= budget and len(kept) < LARGEST - 1:
            kept.append(one)
            total += _bytes(one)
    return kept


def _bytes(made: _Made) -> int:
    return packed_bytes(len(made.shown.mesh.vertices), len(made.shown.mesh.faces))


def _scene(source: Source, names: list[str], objects: list[SceneObject]) -> Scene:
    holding = set(source.cells["class"])
    inner = {names[o.kind] for o in objects} - holding
    classes = tuple(
        SceneClass(n.replace("_", " "), source.schema[n].color, n in holding and bool(inner)) for n in names
    )
    (x0, y0, z0), (x1, y1, z1) = (corner.tolist() for corner in source.limits_nm)
    return Scene(classes, tuple(objects), (x0, y0, z0), (x1, y1, z1))


# ---- what is said ----------------------------------------------------------------------------


def _accuracy(made: Sequence[_Made], longest: float) -> Iterator[str]:
    """How far surfaces may lie from those of the voxels."""
    moved = max(m.moved_nm for m in made)
    yield (
        f"Surfaces are simplified: none lies more than {moved:.3g} nm from the smoothed surface of its "
        "voxels. No number on this page is measured on them."
    )
    coarse = [m.side_nm for m in made if m.side_nm > longest]
    if coarse:
        yield (
            f"{len(coarse):,} large ones are made of coarser voxels, of up to {max(coarse):.3g} nm instead "
            f"of {longest:.3g} nm, so that folds thinner than these are lost."
        )


def _left_out(
    source: Source, wishes: Sequence[Wish], objects: Sequence[SceneObject], options: ViewOptions
) -> Iterator[str]:
    """Which objects are not shown."""
    if options.cells:
        number, total = len(set(options.cells)), len(source.cells["id"])
        yield f"The 3D view shows {number:,} of {total:,} outermost objects, with what lies in them."
    left = []
    for stuff, word in ((False, "objects"), (True, "pieces of stuff (such as vessels)")):
        total = sum((w.id == 0) is stuff for w in wishes)
        shown = sum((o.id == 0) is stuff for o in objects)
        left += [f"{total - shown:,} of {total:,} {word}"] if shown < total else []
    if left:
        room = f"{options.megabytes:g} MB and {MOST:,} surfaces"
        yield (
            f"The 3D view leaves out {' and '.join(left)}, to stay below {room}; fewer cells (--cell ID) or "
            "more room (--megabytes N) show them. They count in all figures and tables."
        )
