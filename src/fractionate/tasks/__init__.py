"""What a task asks of a network: rows for the losses, and metrics."""

from .classification import Calibration, Diverged, Evaluation, calibrate, evaluate, measure, predict
from .counts import DenseEvaluation
from .detection import Detection
from .precision import DetectionEvaluation
from .rows import Classification, make_rows
from .segmentation import Segmentation
from .task import Guessed, Metrics, Result, Task, measure_with

__all__ = [
    "Calibration",
    "Classification",
    "DenseEvaluation",
    "Detection",
    "DetectionEvaluation",
    "Diverged",
    "Evaluation",
    "Guessed",
    "Metrics",
    "Result",
    "Segmentation",
    "Task",
    "calibrate",
    "evaluate",
    "make_rows",
    "measure",
    "measure_with",
    "predict",
]
