"""A training run as frozen plain data, in and out of YAML; nothing in here runs."""

from .data import Data
from .files import changed_fields, differences, from_yaml, override, read_config, to_yaml
from .method import MethodSpec, Wrapper
from .optimizers import SGD, AdamW, LearningRate, Optimizer
from .run import Monitors, Network, Parallel, Run
from .task import Classification, Detection, Segmentation

__all__ = [
    "SGD",
    "AdamW",
    "Classification",
    "Data",
    "Detection",
    "LearningRate",
    "MethodSpec",
    "Monitors",
    "Network",
    "Optimizer",
    "Parallel",
    "Run",
    "Segmentation",
    "Wrapper",
    "changed_fields",
    "differences",
    "from_yaml",
    "override",
    "read_config",
    "to_yaml",
]
