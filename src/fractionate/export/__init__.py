"""A trained student as files that others can use."""

from .folder import export_run
from .formats import FORMATS, Format, Written

__all__ = [
    "FORMATS",
    "Format",
    "Written",
    "export_run",
]
