"""Run folders: config, metrics, checkpoints, weights, summary; runs that go on, and end when asked to."""

from .checkpoint import restore, save_checkpoint, save_weights
from .folder import RunFolder
from .runner import run_in_folder
from .stop import Stop, Stopped, deadline, duration

__all__ = [
    "RunFolder",
    "Stop",
    "Stopped",
    "deadline",
    "duration",
    "restore",
    "run_in_folder",
    "save_checkpoint",
    "save_weights",
]
