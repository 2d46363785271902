"""Boxes, grids of boxes, and running a function over them."""

from densem.blocks.box import Box, Triple, triple
from densem.blocks.grid import Grid

__all__ = ["Box", "Grid", "Triple", "triple"]
