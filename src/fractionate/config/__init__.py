"""A training run as frozen plain data, in and out of YAML; nothing in here runs."""

from .files import changed_fields, differences, from_yaml, override, read_config, to_yaml
from .method import MethodSpec, Wrapper
from .run import Data, LearningRate, Monitors, Network, Optimizer, Parallel, Run

__all__ = [
    "Data",
    "LearningRate",
    "MethodSpec",
    "Monitors",
    "Network",
    "Optimizer",
    "Parallel",
    "Run",
    "Wrapper",
    "changed_fields",
    "differences",
    "from_yaml",
    "override",
    "read_config",
    "to_yaml",
]
