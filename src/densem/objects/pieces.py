"""Pieces: what a component, or the part of it in a tile, was cut into; handed from pass to pass in files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densem.blocks import Box, Triple, triple
from densem.objects.scratch import Scratch


def box_of(row: np.ndarray) -> Box:
    """From starts and stops, int (2, 3)."""
    return Box(triple(row[0]), triple(row[1]))


@dataclass(frozen=True, eq=False)
class Cut:
    """The pieces of a component within a box.

    Attributes:
        component: its number.
        box: what was cut.
        own: what is kept of it, within `crop`.
        crop: the part of `box` that the component fills.
        base: pieces of the same file before these.
        labels: int32 (Z, Y, X) of `crop`, pieces from 1.
    """

    component: int
    box: Box
    own: Box
    crop: Box
    base: int
    labels: np.ndarray

    @classmethod
    def load(cls, scratch: Scratch, name: str) -> list[Cut]:
        """All of a file."""
        file = scratch.load(name)
        bases = np.concatenate([[0], np.cumsum(file["pieces"])])
        found, place = [], 0
        for row in range(len(file["component"])):
            box, own, crop = (box_of(file[key][row]) for key in ("box", "own", "crop"))
            labels = file["labels"][place : place + crop.size].reshape(crop.shape)
            found.append(cls(int(file["component"][row]), box, own, crop, int(bases[row]), labels))
            place += crop.size
        return found

    def within(self, box: Box) -> np.ndarray:
        """Labels of the part of a box that the component fills, int64 (N,)."""
        return self.labels[box.clip(self.crop).relative_to(self.crop).slices].reshape(-1).astype(np.int64)


class Pieces:
    """Pieces of components within boxes, gathered by a task, written as one file; `Cut.load` reads it."""

    def __init__(self) -> None:
        self.component: list[int] = []
        self.box: list[tuple[Triple, Triple]] = []
        self.own: list[tuple[Triple, Triple]] = []
        self.crop: list[tuple[Triple, Triple]] = []
        self.pieces: list[int] = []
        self.labels: list[np.ndarray] = [np.zeros(0, np.int32)]

    def add(self, component: int, box: Box, own: Box, labels: np.ndarray, count: int) -> None:
        """Take in a component: labels of `box`, of which those in `own` are kept; stored is what it fills."""
        crop = _filled(labels, box)
        own = own.clip(crop)
        self.component.append(component)
        self.box.append((box.start, box.stop))
        self.own.append((own.start, own.stop))
        self.crop.append((crop.start, crop.stop))
        self.pieces.append(count)
        self.labels.append(labels[crop.relative_to(box).slices].astype(np.int32).reshape(-1))

    def save(self, scratch: Scratch, name: str) -> None:
        """Write all of them."""
        scratch.save(
            name,
            component=np.array(self.component, np.int64),
            box=np.array(self.box, np.int64).reshape(-1, 2, 3),
            own=np.array(self.own, np.int64).reshape(-1, 2, 3),
            crop=np.array(self.crop, np.int64).reshape(-1, 2, 3),
            pieces=np.array(self.pieces, np.int64),
            labels=np.concatenate(self.labels),
        )


def _filled(labels: np.ndarray, box: Box) -> Box:
    """The smallest box around the voxels of a box that have a label."""
    there = [np.flatnonzero(labels.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(there[0]):
        return Box(box.start, box.start)
    return Box(triple(t[0] for t in there), triple(t[-1] + 1 for t in there)).shift(box.start)
