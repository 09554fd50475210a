"""Folders of pictures, as far as names of files and heads tell: no torch is needed, so a command can speak at once."""

from .plan import Plan, planned
from .survey import Survey, survey

__all__ = ["Plan", "Survey", "planned", "survey"]
