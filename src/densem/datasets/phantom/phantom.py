"""Phantom: a synthetic volume of platelets whose truth is known, made block by block.

The volume is cut into fixed pieces anchored at its origin. A piece is always made whole, from hashes of
places and of lattice indices, so a block is exactly the crop of the whole volume, whatever was made before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from densem.blocks import Box, Grid, Triple, triple
from densem.datasets.phantom.config import PhantomConfig
from densem.datasets.phantom.drawing import draw
from densem.datasets.phantom.micrograph import blur_reach, expose, rays
from densem.datasets.phantom.organelle import SCHEMA
from densem.datasets.phantom.tissue import Tissue
from densem.errors import ShapeError
from densem.schema import LabelSchema

PIECE: Triple = (12, 256, 256)


@dataclass(frozen=True)
class PhantomBlock:
    """A block of a phantom; all arrays (Z, Y, X).

    Attributes:
        image: uint8 or uint16.
        semantic: uint8 class ids of the platelet schema: the whole truth.
        cells: uint32 cell ids; 0 = no cell.
        organelles: uint32 organelle ids; 0 = none; a dense granule's body and core share one id.
    """

    image: np.ndarray
    semantic: np.ndarray
    cells: np.ndarray
    organelles: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """The four arrays by name."""
        return dict(vars(self))


class Phantom:
    """A synthetic volume; nothing is made before it is asked for.

    Args:
        config: which volume.
    """

    schema: LabelSchema = SCHEMA
    """The classes."""

    def __init__(self, config: PhantomConfig) -> None:
        self.config = config
        self._tissue = Tissue(config)
        self._grid = Grid(config.shape, PIECE)
        self._piece = lru_cache(maxsize=2)(self._make)

    @property
    def box(self) -> Box:
        """The whole volume."""
        return Box.of_shape(self.config.shape)

    def block(self, box: Box) -> PhantomBlock:
        """Image and truth of a box.

        Raises:
            ShapeError: if the box reaches outside the volume.
        """
        if not self.box.contains(box):
            raise ShapeError(f"phantom: box {box} reaches outside the volume of shape {self.config.shape}")
        result = self._empty(box.shape)
        for piece in self._grid.within(box):
            both = piece.clip(box)
            source, target = both.relative_to(piece).slices, both.relative_to(box).slices
            made = self._piece(piece)
            for name, values in result.arrays().items():
                values[target] = made.arrays()[name][source]
        return result

    def annotated(self, box: Box) -> PhantomBlock:
        """A box as an annotator has left it: whole, or with labels in `labelled_cells` cells only."""
        block, count = self.block(box), self.config.labelled_cells
        if count is None:
            return block
        chosen = np.isin(block.cells, self._tissue.central(count))
        rest = np.uint8(self.config.unlabelled_value)
        return PhantomBlock(
            block.image,
            np.where(chosen, block.semantic, rest),
            block.cells * chosen,
            block.organelles * chosen,
        )

    def _empty(self, shape: Triple) -> PhantomBlock:
        labels = (np.zeros(shape, dtype) for dtype in (np.uint8, np.uint32, np.uint32))
        return PhantomBlock(np.zeros(shape, self.config.dtype), *labels)

    def _make(self, piece: Box) -> PhantomBlock:
        config, donor = self.config, self.config.traits
        reach = blur_reach(config.voxel_size_nm, donor)
        around = piece.grow(reach)
        drawing = draw(
            self._tissue, donor, config.seed, rays(around, config.voxel_size_nm, donor, config.seed)
        )
        image = expose(drawing.grey, piece, config.voxel_size_nm, donor, config.seed)
        top = np.iinfo(config.dtype).max
        core = piece.shift(triple(-s for s in around.start)).slices
        return PhantomBlock(
            np.rint(image * top).astype(config.dtype),
            *(a[core] for a in (drawing.semantic, drawing.cells, drawing.organelles)),
        )
