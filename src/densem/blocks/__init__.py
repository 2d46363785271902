"""Boxes, grids of boxes, and running a function over them."""

from densem.blocks.box import Box, Triple, triple
from densem.blocks.grid import Grid
from densem.blocks.journal import Journal
from densem.blocks.run import Progress, Report, RunOptions, Stopped, run

__all__ = ["Box", "Grid", "Journal", "Progress", "Report", "RunOptions", "Stopped", "Triple", "run", "triple"]
