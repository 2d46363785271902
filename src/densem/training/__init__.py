"""From labelled volumes and a recipe to a model."""

from densem.training.fit import TrainingResult, settle, train
from densem.training.recipe import Recipe

__all__ = ["Recipe", "TrainingResult", "settle", "train"]
