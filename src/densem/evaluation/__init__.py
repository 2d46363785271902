"""How right a prediction is: one blockwise pass to a contingency table, and the scores that follow."""

from densem.evaluation.agreement import labelled_by_both
from densem.evaluation.block_tables import BlockTables, block_tables
from densem.evaluation.boundaries import Boundaries, ClassBoundary, boundaries
from densem.evaluation.calibration import Calibration, ConfidenceBin, calibration
from densem.evaluation.comparison_table import (
    ComparedRow,
    ComparisonTable,
    Verdict,
    compare_table,
    holm,
)
from densem.evaluation.contingency import ContingencyTable, Protocol, contingency
from densem.evaluation.object_scores import ObjectScores, object_scores
from densem.evaluation.overlaps import ObjectVolumes, Overlaps, overlaps
from densem.evaluation.panoptic import ObjectQuality, Panoptic, panoptic
from densem.evaluation.partitions import PartitionScores, partition_scores
from densem.evaluation.significance import Comparison, Replicate, compare
from densem.evaluation.voxels import UNPREDICTED, ClassScores, Scores, scores

__all__ = [
    "UNPREDICTED",
    "BlockTables",
    "Boundaries",
    "Calibration",
    "ClassBoundary",
    "ClassScores",
    "ComparedRow",
    "Comparison",
    "ComparisonTable",
    "ConfidenceBin",
    "ContingencyTable",
    "ObjectQuality",
    "ObjectScores",
    "ObjectVolumes",
    "Overlaps",
    "Panoptic",
    "PartitionScores",
    "Protocol",
    "Replicate",
    "Scores",
    "Verdict",
    "block_tables",
    "boundaries",
    "calibration",
    "compare",
    "compare_table",
    "contingency",
    "holm",
    "labelled_by_both",
    "object_scores",
    "overlaps",
    "panoptic",
    "partition_scores",
    "scores",
]
