"""A drawing: tissue brought onto voxels, as labels, object ids and clean grey values.

1. `Positions`: each voxel's place in material space: its place in the specimen, displaced by a slow warp.
2. `outline`: which cell owns a voxel and how far it is from the cell's border; touching cells share the space halfway.
3. `draw`: resin, cytoplasm with its texture, membranes, then the organelles, one solid at a time in the small
   part of the box it can reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from densem.datasets.phantom.donor import Donor
from densem.datasets.phantom.noise import Rays, SmoothNoise, key_of
from densem.datasets.phantom.platelet import MAX_ORGANELLES, SCHEMA, Body, Organelle
from densem.datasets.phantom.solids import Places, Solid, hull
from densem.datasets.phantom.tissue import GAP_NM, Tissue

_FAR = np.float32(1e6)
_REACH_NM = 120.0
_EDGE_NM = 14.0
_STRIDE = 8
_WARPS = ((700.0, 85.0), (170.0, 13.0))
Slices = tuple[slice, slice, slice]

_CELL, _VESSEL = SCHEMA["cell"].id, SCHEMA["canalicular_vessel"].id
_MITOCHONDRION, _DENSE = SCHEMA["mitochondrion"].id, SCHEMA["dense_granule"].id
_CORE = SCHEMA["dense_granule_core"].id


class Positions:
    """Where the voxels of a box lie in material space, float32 nm.

    Args:
        seed: of the phantom.
        rays: where they lie in the specimen.
    """

    def __init__(self, seed: int, rays: Rays) -> None:
        shift = [
            sum(np.float32(size) * SmoothNoise(key_of(seed, "warp", axis, step), (step,) * 3)(rays)
                for step, size in _WARPS)
            for axis in "zyx"
        ]  # fmt: skip
        straight = (rays.z[:, None, None], rays.y[:, :, None], rays.x[:, None, :])
        self.at: Places = tuple(  # type: ignore[assignment]
            (s + p.astype(np.float32)).astype(np.float32) for s, p in zip(shift, straight, strict=True)
        )
        self._coarse = [a[:, ::_STRIDE, ::_STRIDE] for a in self.at]
        step = max(float(np.abs(np.diff(p, axis=-1)).max(initial=1.0)) for p in (rays.y, rays.x))
        self._slack = 1.6 * _STRIDE * step
        self.low = np.array([a.min() for a in self.at], np.float64)
        self.high = np.array([a.max() for a in self.at], np.float64)

    def near(self, low: np.ndarray, high: np.ndarray) -> Slices | None:
        """The part of the box that holds all voxels between two corners (nm), or None."""
        hit = np.ones(self._coarse[0].shape, bool)
        for a, lower, upper in zip(self._coarse, low - self._slack, high + self._slack, strict=True):
            hit &= (a > lower) & (a < upper)
        if not hit.any():
            return None
        z, y, x = (np.flatnonzero(hit.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1)))
        plane = (slice(max(0, v[0] - 1) * _STRIDE, (v[-1] + 2) * _STRIDE) for v in (y, x))
        return slice(z[0], z[-1] + 1), *plane  # type: ignore[return-value]

    def part(self, where: Slices) -> Places:
        """The places in a part of the box."""
        z, y, x = self.at
        return z[where], y[where], x[where]


@dataclass(frozen=True)
class Outline:
    """The cells on the voxels of a box.

    Attributes:
        owner: int32, number of the cell that owns the voxel; 0 outside.
        distance: float32 nm, signed distance to the border of the nearest cell, negative inside.
        shade: float32, grey of that cell against the mean.
    """

    owner: np.ndarray
    distance: np.ndarray
    shade: np.ndarray


@dataclass(frozen=True)
class Drawing:
    """Labels and clean grey values of a box.

    Attributes:
        grey: float32, share of full scale, before blur and noise.
        semantic: uint8 class ids.
        cells: uint32 cell ids, 0 outside.
        organelles: uint32 organelle ids, 0 elsewhere; a dense granule and its core share one.
    """

    grey: np.ndarray
    semantic: np.ndarray
    cells: np.ndarray
    organelles: np.ndarray


# ---- cells -------------------------------------------------------------------------------------


def outline(positions: Positions, bodies: Sequence[Body], seed: int, rays: Rays) -> Outline:
    """Which cell owns each voxel; where bodies overlap, the border lies halfway between their outlines."""
    shape = positions.at[0].shape
    first, second = np.full(shape, _FAR), np.full(shape, _FAR)
    owner, shade = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for body in bodies:
        low, high = body.bounds()
        where = positions.near(low - _REACH_NM, high + _REACH_NM)
        if where is None:
            continue
        d = body.distance(positions.part(where))
        closer = d < first[where]
        second[where] = np.where(closer, first[where], np.minimum(second[where], d))
        first[where] = np.where(closer, d, first[where])
        owner[where][closer] = body.number
        shade[where][closer] = body.shade
    ruffle = np.float32(9.0) * SmoothNoise(key_of(seed, "ruffle"), (90.0, 60.0, 60.0))(rays)
    gap = np.float32(GAP_NM) * (1 + 0.4 * SmoothNoise(key_of(seed, "gap"), (300.0, 300.0, 300.0))(rays))
    distance = np.maximum(first + ruffle, (first - second + np.maximum(gap, 0)) / 2)
    owner[distance >= 0] = 0
    return Outline(owner, distance, shade)


def _cover(distance: np.ndarray, edge_nm: float = _EDGE_NM) -> np.ndarray:
    """How much of a voxel lies inside: 1 within, 0 without, smooth across the border."""
    t = np.clip(np.float32(0.5) - distance * np.float32(0.5 / edge_nm), 0, 1)
    return t * t * (3 - 2 * t)


def _ridge(distance: np.ndarray, at_nm: float, width_nm: float) -> np.ndarray:
    """A Gaussian line along the surface `at_nm` from the border: a membrane seen in section."""
    return np.exp(-(((distance - np.float32(at_nm)) * np.float32(1 / width_nm)) ** 2))


def _cytoplasm(cells: Outline, donor: Donor, seed: int, rays: Rays) -> np.ndarray:
    """Grey of the cytoplasm: the cell's shade, slow mottle, fine grain, small dark bodies in clusters."""

    def field(word: str, *spacing: float) -> np.ndarray:
        return SmoothNoise(key_of(seed, word), (spacing[0], spacing[1], spacing[1]))(rays)

    grey = np.float32(donor.cytoplasm) + cells.shade
    grey += np.float32(donor.mottle) * field("mottle", 500.0, 420.0)
    grey += np.float32(donor.grain) * field("grain", donor.grain_nm, donor.grain_nm)
    clusters = np.clip(0.35 + 0.65 * field("clusters", 600.0, 480.0), 0, 1.3)
    specks = np.clip(field("specks", 80.0, 58.0) - np.float32(donor.speck_level), 0, 1.1)
    deep = np.clip(-cells.distance * np.float32(1 / 150.0), 0, 1)
    grey -= np.float32(donor.specks) * clusters * specks * deep
    return grey


# ---- organelles --------------------------------------------------------------------------------


@dataclass
class _Canvas:
    """A drawing in the making."""

    positions: Positions
    cells: Outline
    donor: Donor
    grey: np.ndarray
    semantic: np.ndarray
    organelles: np.ndarray

    def reach(self, parts: Sequence[Solid]) -> tuple[Slices, np.ndarray] | None:
        """Where in the box the union of solids can be, and its signed distance there."""
        low, high = hull(parts)
        whole = self.positions.near(low - _REACH_NM / 2, high + _REACH_NM / 2)
        if whole is None:
            return None
        if len(parts) == 1:
            return whole, parts[0].distance(self.positions.part(whole))
        distance = np.full(self.grey.shape, _FAR)[whole]
        for part in parts:
            self._join(distance, whole, part)
        return whole, distance

    def _join(self, distance: np.ndarray, whole: Slices, part: Solid) -> None:
        low, high = part.bounds()
        where = self.positions.near(low - _REACH_NM / 2, high + _REACH_NM / 2)
        if where is None:
            return
        inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(where, whole, strict=True))
        d = part.distance(self.positions.part(where))
        np.minimum(distance[inner], d, out=distance[inner])

    def claim(self, where: Slices, inside: np.ndarray, label: int, number: int, owner: int) -> None:
        """Write class and id where a solid lies inside its own cell."""
        mine = inside & (self.cells.owner[where] == owner)
        self.semantic[where][mine] = label
        self.organelles[where][mine] = number

    def blend(self, where: Slices, grey: np.ndarray | float, cover: np.ndarray) -> None:
        """Lay a grey over what is there."""
        self.grey[where] += cover * (grey - self.grey[where])


def _paint(canvas: _Canvas, organelle: Organelle, number: int, owner: int) -> None:
    reached = canvas.reach(organelle.parts)
    if reached is None:
        return
    where, d = reached
    canvas.claim(where, d < 0, organelle.label, number, owner)
    within = _cover(canvas.cells.distance[where])
    if organelle.label == _VESSEL:
        _paint_vessel(canvas, where, d, organelle.grey, within)
        return
    canvas.blend(where, organelle.grey + _inner(canvas, organelle, where, d), _cover(d) * within)
    if organelle.core is not None:
        _paint_core(canvas, organelle, number, owner)


def _paint_vessel(canvas: _Canvas, where: Slices, d: np.ndarray, grey: float, within: np.ndarray) -> None:
    """Pale lumen, dark membrane around it; at a mouth the lumen meets the resin."""
    canvas.grey[where] -= np.float32(canvas.donor.membrane * 0.8) * _ridge(d, 0.0, 20.0) * within
    lumen = _cover(d + np.float32(20.0), 20.0)
    canvas.blend(where, grey, lumen * _cover(canvas.cells.distance[where] - np.float32(40.0), 30.0))


def _inner(canvas: _Canvas, organelle: Organelle, where: Slices, d: np.ndarray) -> np.ndarray:
    """What an organelle's inside looks like, against its mean grey."""
    if organelle.label == _MITOCHONDRION:
        z, y, x = canvas.positions.part(where)
        a = organelle.axis.astype(np.float32)
        phase = (a[0] * z + a[1] * y + a[2] * x) * np.float32(2 * np.pi / 75.0)
        return np.float32(0.055) * np.cos(phase) - np.float32(0.05) * _ridge(d, -12.0, 16.0)
    if organelle.label == _DENSE:
        return -np.float32(1.5 * canvas.donor.membrane) * _ridge(d, -4.0, 30.0)
    return -np.float32(0.035) * _ridge(d, -10.0, 18.0)


def _paint_core(canvas: _Canvas, organelle: Organelle, number: int, owner: int) -> None:
    """The dark core, inside its body's voxels only."""
    assert organelle.core is not None
    reached = canvas.reach([organelle.core])
    if reached is None:
        return
    where, d = reached
    body = canvas.organelles[where] == number
    canvas.claim(where, (d < 0) & body, _CORE, number, owner)
    canvas.blend(where, canvas.donor.dense_granule_core.grey, _cover(d))


def draw(tissue: Tissue, donor: Donor, seed: int, rays: Rays) -> Drawing:
    """Everything that lies at the rays."""
    positions = Positions(seed, rays)
    bodies = tissue.near(positions.low, positions.high)
    cells = outline(positions, [b for _, b in bodies], seed, rays)
    semantic = np.where(cells.owner > 0, np.uint8(_CELL), np.uint8(0))
    grey = np.full(semantic.shape, np.float32(donor.resin))
    grey += _cover(cells.distance) * (_cytoplasm(cells, donor, seed, rays) - grey)
    grey -= np.float32(donor.membrane) * _ridge(cells.distance, -20.0, 19.0)
    canvas = _Canvas(positions, cells, donor, grey, semantic, np.zeros(semantic.shape, np.uint32))
    for number, owner, organelle in _contents(tissue, bodies, np.unique(cells.owner)):
        _paint(canvas, organelle, number, owner)
    return Drawing(canvas.grey, canvas.semantic, cells.owner.astype(np.uint32), canvas.organelles)


def _contents(
    tissue: Tissue, bodies: Sequence[tuple[tuple[int, int, int], Body]], seen: np.ndarray
) -> Iterator[tuple[int, int, Organelle]]:
    """(id, cell, organelle) of the cells that are seen; vessels first, so that granules stay whole."""
    visible = set(seen.tolist())
    for index, body in bodies:
        if body.fragment or body.number not in visible:
            continue
        listed = list(enumerate(tissue.organelles(index), start=1))
        for n, organelle in sorted(listed, key=lambda e: e[1].label != _VESSEL):
            yield body.number * (MAX_ORGANELLES + 24) + n, body.number, organelle
