"""From labelled volumes to training patches."""

from densem.sampling.augmentation import NONE, Augmentation, Piece
from densem.sampling.error_weights import ErrorWeights, boundary_weights, class_weights
from densem.sampling.label_index import LabelIndex
from densem.sampling.normalization import normalize
from densem.sampling.patches import LabelledVolume, Patches, PatchSampler, Sample, TrainingSet
from densem.sampling.soft_targets import SoftTargets

__all__ = [
    "NONE",
    "Augmentation",
    "ErrorWeights",
    "LabelIndex",
    "LabelledVolume",
    "PatchSampler",
    "Patches",
    "Piece",
    "Sample",
    "SoftTargets",
    "TrainingSet",
    "boundary_weights",
    "class_weights",
    "normalize",
]
