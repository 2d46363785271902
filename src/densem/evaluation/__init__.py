"""How right a prediction is: one blockwise pass to a contingency table, and the scores that follow."""

from densem.evaluation.contingency import ContingencyTable, Protocol, contingency
from densem.evaluation.voxels import UNPREDICTED, ClassScores, Scores, scores

__all__ = ["UNPREDICTED", "ClassScores", "ContingencyTable", "Protocol", "Scores", "contingency", "scores"]
