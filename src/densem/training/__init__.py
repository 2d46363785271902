"""From labelled volumes and a recipe to a model."""

from densem.training.fit import TrainingResult, settle, train
from densem.training.recipe import Recipe
from densem.training.start import begun_with

__all__ = ["Recipe", "TrainingResult", "begun_with", "settle", "train"]
