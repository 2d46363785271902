"""Boxes, grids of boxes, and running a function over them."""

from densem.blocks.box import Box, Triple, triple
from densem.blocks.crew import ClusterCrew, Crew, LocalCrew, verify
from densem.blocks.engine import Engine, Threads
from densem.blocks.engine_choice import EngineChoice
from densem.blocks.grid import Grid
from densem.blocks.journal import Journal
from densem.blocks.run import Progress, Report, RunOptions, coordinate, run
from densem.blocks.worker import Stopped, Task, UnfitWorkerError

__all__ = [
    "Box", "ClusterCrew", "Crew", "Engine", "EngineChoice", "Grid", "Journal", "LocalCrew", "Progress",
    "Report", "RunOptions", "Stopped", "Task", "Threads", "Triple", "UnfitWorkerError", "coordinate", "run",
    "triple", "verify",
]  # fmt: skip
