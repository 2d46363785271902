"""A drawing: tissue on voxels, as labels, object ids and clean grey values.

Resin, cytoplasm with its texture and the cells' membranes come first, then the organelles, one solid at a
time, each in the small part of the box it can reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from densem.datasets.phantom.body import Body
from densem.datasets.phantom.donor import Donor
from densem.datasets.phantom.noise import Rays, SmoothNoise, key_of
from densem.datasets.phantom.organelle import MAX_ORGANELLES, SCHEMA, Organelle
from densem.datasets.phantom.outline import FAR, REACH_NM, Outline, Positions, Slices, outline
from densem.datasets.phantom.solids import Solid, hull
from densem.datasets.phantom.tissue import Tissue

_EDGE_NM = 14.0
_SHADE_SHARE = 0.6
"""How much of a cell's shade its organelles share."""
_CELL, _VESSEL = SCHEMA["cell"].id, SCHEMA["canalicular_vessel"].id
_MITOCHONDRION, _DENSE = SCHEMA["mitochondrion"].id, SCHEMA["dense_granule"].id
_CORE = SCHEMA["dense_granule_core"].id


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
    grey += np.float32(donor.mottle) * (field("mottle", 500.0, 420.0) + field("curd", 160.0, 130.0))
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
        whole = self.positions.near(low - REACH_NM / 2, high + REACH_NM / 2)
        if whole is None:
            return None
        if len(parts) == 1:
            return whole, parts[0].distance(self.positions.part(whole))
        distance = np.full(self.grey.shape, FAR)[whole]
        for part in parts:
            self._join(distance, whole, part)
        return whole, distance

    def _join(self, distance: np.ndarray, whole: Slices, part: Solid) -> None:
        low, high = part.bounds()
        where = self.positions.near(low - REACH_NM / 2, high + REACH_NM / 2)
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
    shade = np.float32(_SHADE_SHARE) * canvas.cells.shade[where]
    canvas.blend(
        where, organelle.grey + shade + _inner(canvas, organelle, where, d), _cover(d, 22.0) * within
    )
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
    canvas.blend(where, canvas.donor.dense_granule_core.grey, _cover(d, 24.0))


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
