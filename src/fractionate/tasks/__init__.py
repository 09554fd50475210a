"""What a task asks of a network: rows for the losses, and metrics."""

from .classification import Calibration, Diverged, Evaluation, calibrate, evaluate, measure, predict

__all__ = [
    "Calibration",
    "Diverged",
    "Evaluation",
    "calibrate",
    "evaluate",
    "measure",
    "predict",
]
