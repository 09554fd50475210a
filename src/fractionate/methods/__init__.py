"""Every method as a function with keyword-only arguments that returns a :class:`Method`; the catalog lists them."""

from typing import TYPE_CHECKING

from .catalog import *  # noqa: F403 (every method, by the names of the catalog)
from .catalog import METHODS, WRAPPERS
from .map import Point as Point
from .map import at as at
from .map import point_of as point_of
from .method import Method as Method
from .method import Part as Part
from .method import Task as Task
from .pixels import pixel_losses as pixel_losses
from .restream import only as only
from .restream import resplit as resplit
from .row_weights import weighted_rows as weighted_rows
from .streams import Stream as Stream
from .streams import UpdateRule as UpdateRule
from .terms import Terms as Terms

_OTHERS = ("at", "only", "pixel_losses", "point_of", "resplit", "weighted_rows")
_CLASSES = ("Method", "Part", "Point", "Stream", "Task", "Terms", "UpdateRule")

if not TYPE_CHECKING:  # type checkers take the imports above: they cannot follow a list that is computed
    __all__ = [
        *_CLASSES,
        *sorted({*METHODS, *WRAPPERS, *_OTHERS}),
    ]
