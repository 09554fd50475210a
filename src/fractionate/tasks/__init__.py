"""What a task asks of a network: rows for the losses, and metrics."""

from .classification import Calibration, Diverged, Evaluation, calibrate, evaluate, measure, predict
from .rows import Classification, make_rows
from .task import Guessed, Metrics, Result, Task, measure_with

__all__ = [
    "Calibration",
    "Classification",
    "Diverged",
    "Evaluation",
    "Guessed",
    "Metrics",
    "Result",
    "Task",
    "calibrate",
    "evaluate",
    "make_rows",
    "measure",
    "measure_with",
    "predict",
]
