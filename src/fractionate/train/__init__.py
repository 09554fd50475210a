"""Training: everything a run needs is built, moved a step, and moved to its end. Knows no folders."""

from ..tasks import make_rows
from .build import Training, prepare
from .loop import Loop, Record, fit
from .step import Step, train_step

__all__ = ["Loop", "Record", "Step", "Training", "fit", "make_rows", "prepare", "train_step"]

# Where the names that stood here in the first drawing are now; they go with version 0.2.
MOVED = {
    **dict.fromkeys(("Data", "LearningRate", "MethodSpec", "Monitors", "Network", "Optimizer"), "config"),
    **dict.fromkeys(("Parallel", "Run", "Wrapper", "from_yaml", "override", "read_config", "to_yaml"), "config"),
    **dict.fromkeys(("Calibration", "Diverged", "Evaluation", "calibrate", "evaluate", "measure", "predict"), "tasks"),
    **dict.fromkeys(("LiveTeacher", "Teacher"), "teachers"),
    **dict.fromkeys(("RunFolder", "Stop", "Stopped", "deadline", "duration", "execute"), "runs"),
    **dict.fromkeys(("restore", "save_checkpoint", "save_weights"), "runs"),
}


def __getattr__(name: str) -> object:
    """A name that has moved, with a warning that says where to."""
    import importlib
    import warnings

    if name not in MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room, now = f"fractionate.{MOVED[name]}", {"execute": "run_in_folder"}.get(name, name)
    warnings.warn(f"{__name__}.{name} is now {room}.{now}", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(room), now)
