"""What a task asks of a network: rows for the losses, and metrics. A task is loaded when it is first asked for."""

from typing import TYPE_CHECKING

from .._doors import opened_late

if TYPE_CHECKING:  # for type checkers and editors
    from .classification import Calibration as Calibration
    from .classification import Diverged as Diverged
    from .classification import Evaluation as Evaluation
    from .classification import calibrate as calibrate
    from .classification import evaluate as evaluate
    from .classification import measure as measure
    from .classification import predict as predict
    from .counts import DenseEvaluation as DenseEvaluation
    from .detection import Detection as Detection
    from .precision import DetectionEvaluation as DetectionEvaluation
    from .rows import Classification as Classification
    from .rows import make_rows as make_rows
    from .segmentation import Segmentation as Segmentation
    from .task import Guessed as Guessed
    from .task import Metrics as Metrics
    from .task import Result as Result
    from .task import Task as Task
    from .task import measure_with as measure_with
else:
    __getattr__, __all__ = opened_late(
        __name__,
        {
            "classification": "Calibration Diverged Evaluation calibrate evaluate measure predict",
            "counts": "DenseEvaluation",
            "detection": "Detection",
            "precision": "DetectionEvaluation",
            "rows": "Classification make_rows",
            "segmentation": "Segmentation",
            "task": "Guessed Metrics Result Task measure_with",
        },
    )
