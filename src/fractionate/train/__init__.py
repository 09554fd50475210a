"""Training: a typed config, one loop that yields records, and the run folder it fills."""

from .checkpoint import restore, save_checkpoint, save_weights
from .config import Data, LearningRate, Monitors, Network, Optimizer, Parallel, Run
from .configfile import from_yaml, override, read_config, to_yaml
from .evaluate import Calibration, Evaluation, calibrate, evaluate, measure, predict
from .execute import execute
from .fit import Loop, Record, fit
from .log import Diverged
from .prepare import Training, prepare
from .runfolder import RunFolder
from .spec import MethodSpec, Wrapper
from .step import Step, make_rows, train_step
from .stop import Stop, Stopped, deadline, duration
from .teacher import LiveTeacher, Teacher

__all__ = [
    "Calibration",
    "Data",
    "Diverged",
    "Evaluation",
    "LearningRate",
    "LiveTeacher",
    "Loop",
    "MethodSpec",
    "Monitors",
    "Network",
    "Optimizer",
    "Parallel",
    "Record",
    "Run",
    "RunFolder",
    "Step",
    "Stop",
    "Stopped",
    "Teacher",
    "Training",
    "Wrapper",
    "calibrate",
    "deadline",
    "duration",
    "evaluate",
    "execute",
    "fit",
    "from_yaml",
    "make_rows",
    "measure",
    "override",
    "predict",
    "prepare",
    "read_config",
    "restore",
    "save_checkpoint",
    "save_weights",
    "to_yaml",
    "train_step",
]
