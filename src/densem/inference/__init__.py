"""Prediction: volumes labelled block by block, seamless, resumable, in bounded memory."""

from densem.inference.context import measure_context
from densem.inference.labeller import Labeller, label_volume, predict_box
from densem.inference.options import PredictOptions
from densem.inference.prediction import Prediction, predict, predict_anew
from densem.inference.preflight import Preflight, preflight
from densem.inference.runtime import Runtime

__all__ = [
    "Labeller", "PredictOptions", "Prediction", "Preflight", "Runtime", "label_volume", "measure_context",
    "predict", "predict_anew", "predict_box", "preflight",
]  # fmt: skip
