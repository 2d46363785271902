"""densem: dense 3D semantic segmentation of volume electron microscopy.

The public names are loaded when they are first used, so that `import densem` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from densem.blocks import Box
    from densem.evaluation.contingency import contingency
    from densem.evaluation.voxels import scores
    from densem.inference import PredictOptions, predict
    from densem.model import Ensemble, Model
    from densem.schema import LabelSchema
    from densem.study import Study
    from densem.training import train
    from densem.volumes import Volume, open_volume

__version__ = "0.1.0"

_HOMES = {
    "Box": "densem.blocks",
    "Ensemble": "densem.model",
    "LabelSchema": "densem.schema",
    "Model": "densem.model",
    "PredictOptions": "densem.inference",
    "Study": "densem.study",
    "Volume": "densem.volumes",
    "contingency": "densem.evaluation",
    "open_volume": "densem.volumes",
    "predict": "densem.inference",
    "scores": "densem.evaluation",
    "train": "densem.training",
}

__all__ = [
    "Box",
    "Ensemble",
    "LabelSchema",
    "Model",
    "PredictOptions",
    "Study",
    "Volume",
    "contingency",
    "open_volume",
    "predict",
    "scores",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'densem' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
