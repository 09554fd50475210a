"""Every method as a function with keyword-only arguments that returns a :class:`Method`."""

from .deepkd import deepkd
from .dkd import dkd, dkd_top1
from .dot import dot
from .gdkd import gdkd, gdkd3
from .kd import kd
from .method import Method, Part, Task, only, resplit
from .streams import Stream, UpdateRule

__all__ = [
    "Method",
    "Part",
    "Stream",
    "Task",
    "UpdateRule",
    "deepkd",
    "dkd",
    "dkd_top1",
    "dot",
    "gdkd",
    "gdkd3",
    "kd",
    "only",
    "resplit",
]
