"""Tissue: platelets on a jittered, staggered lattice, each found from its place alone.

A lattice cell's hash gives the platelet in it, so only the platelets near a box are ever made and the
volume may be of any size.

    breadth (near z)          rows are staggered along the length
      |   (  )  (  )  (  )
      | (  )  (  )  (  )
      +-------------------> length (in plane, one angle per seed)
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from densem.blocks import Triple, triple
from densem.datasets.phantom.body import Body, grow_body, grow_fragment, turn
from densem.datasets.phantom.config import PhantomConfig
from densem.datasets.phantom.furnishing import Plan, furnish
from densem.datasets.phantom.noise import key_of
from densem.datasets.phantom.organelle import Organelle
from densem.datasets.phantom.outline import GAP_NM
from densem.datasets.phantom.room import Room

Index = Triple
_JITTER = 0.10
_SLACK_NM = 250.0


class Tissue:
    """All platelets of a phantom, made when asked for.

    Args:
        config: which phantom.
    """

    def __init__(self, config: PhantomConfig) -> None:
        donor = config.traits
        self._config = config
        self._frame = _orientation(np.random.default_rng(key_of(config.seed, "orientation")))
        self._spacing = 2 * np.array(donor.semi_axes_nm) * donor.packing / config.packing
        extent = np.array(config.shape) * config.voxel_size_nm
        self._reach = 1.5 * np.array(donor.semi_axes_nm) + 900.0
        self._first, self._last = self._span(np.zeros(3) - 1e3, extent + 1e3)
        self.body_pair = lru_cache(maxsize=4096)(self._body_pair)
        self.organelles = lru_cache(maxsize=512)(self._organelles)

    def near(self, low: np.ndarray, high: np.ndarray) -> list[tuple[Index, Body]]:
        """Bodies, with their lattice index, whose box meets the one between two corners (nm)."""
        first, last = self._span(low, high)
        found = []
        for place in itertools.product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
            index = triple(place)
            for body in self.body_pair(index):
                lower, upper = body.bounds()
                if (lower - _SLACK_NM < high).all() and (upper + _SLACK_NM > low).all():
                    found.append((index, body))
        return found

    def central(self, count: int) -> list[int]:
        """Numbers of the `count` whole cells whose centres lie nearest the centre of the volume."""
        extent = np.array(self._config.shape) * self._config.voxel_size_nm
        bodies = [b for _, b in self.near(np.zeros(3), extent) if not b.fragment]
        away = [float(np.linalg.norm(b.trunk.centre - extent / 2)) for b in bodies]
        return [b.number for _, b in sorted(zip(away, bodies, strict=True), key=lambda p: p[0])[:count]]

    def _span(self, low: np.ndarray, high: np.ndarray) -> tuple[Index, Index]:
        """Lattice indices, both included, whose platelets can reach a box."""
        corners = np.array(list(itertools.product(*zip(low, high, strict=True)))) @ self._frame
        first = np.floor((corners.min(axis=0) - self._reach) / self._spacing) - 1
        last = np.ceil((corners.max(axis=0) + self._reach) / self._spacing)
        return triple(first), triple(last)

    def _rng(self, word: str, index: Index) -> np.random.Generator:
        return np.random.default_rng([key_of(self._config.seed, word), *(i + 2**20 for i in index)])

    def _number(self, index: Index) -> int:
        """Counts lattice cells in C order over all that can reach the volume; twice, for the fragments."""
        sides = [b - a + 3 for a, b in zip(self._first, self._last, strict=True)]
        place = [i - a + 1 for i, a in zip(index, self._first, strict=True)]
        return 2 * ((place[0] * sides[1] + place[1]) * sides[2] + place[2]) + 1

    def _body_pair(self, index: Index) -> tuple[Body, ...]:
        """The platelet of a lattice cell and, in half of them, a fragment."""
        rng, donor = self._rng("body", index), self._config.traits
        stagger = np.array([(0.5 * index[1] + 0.27 * index[2]) % 1, 0.5 * (index[2] % 2), 0.0])
        place = (index + stagger + np.clip(rng.normal(0, _JITTER, 3), -0.25, 0.25)) * self._spacing
        body = grow_body(self._number(index), self._frame @ place, self._frame, donor, rng)
        if rng.random() < 0.5:
            return (body,)
        corner = self._frame @ ((index + stagger + rng.uniform(0.35, 0.65, 3)) * self._spacing)
        return body, grow_fragment(self._number(index) + 1, corner, donor, rng)

    def _organelles(self, index: Index) -> tuple[Organelle, ...]:
        """The organelles of the platelet of a lattice cell."""
        config, body = self._config, self.body_pair(index)[0]
        rivals = [b for _, b in self.near(*body.bounds()) if b.number != body.number]
        plan = Plan(
            config.traits, config.mitochondria, config.alpha_granules, config.vessels, config.dense_granules
        )
        return furnish(Room(body, rivals, GAP_NM), plan, self._rng("organelles", index))


def _orientation(rng: np.random.Generator) -> np.ndarray:
    """Columns: the cells' length (in plane), breadth (near z) and width, float64 (3, 3)."""
    angle = rng.uniform(0, np.pi)
    length = np.array([0.0, np.sin(angle), np.cos(angle)])
    breadth = np.array([1.0, 0.0, 0.0])
    return turn(rng, 5.0) @ np.stack([length, breadth, np.cross(length, breadth)], axis=1)
