"""Every method as a function with keyword-only arguments that returns a :class:`Method`; the catalog lists them."""

from typing import TYPE_CHECKING

from .._doors import opened_late
from .catalog import *  # noqa: F403 (every method, by the names of the catalog)
from .catalog import METHODS, WRAPPERS
from .effective import Allocation as Allocation
from .effective import Effective as Effective
from .effective import effective_weights as effective_weights
from .facts import AUTO as AUTO
from .facts import TeacherFacts as TeacherFacts
from .facts import teacher_facts as teacher_facts
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

if TYPE_CHECKING:
    from .map import Point as Point
    from .map import at as at
    from .map import point_of as point_of

_FUNCTIONS = (
    "effective_weights",
    "only",
    "pixel_losses",
    "resplit",
    "teacher_facts",
    "weighted_rows",
)
_CLASSES = (
    "Allocation",
    "Effective",
    "Method",
    "Part",
    "Stream",
    "Task",
    "TeacherFacts",
    "Terms",
    "UpdateRule",
)

if not TYPE_CHECKING:  # type checkers take the imports above: they cannot follow a list that is computed
    __getattr__, _late = opened_late(__name__, {"map": "Point at point_of"})
    __all__ = [*_CLASSES, *sorted({*METHODS, *WRAPPERS, *_FUNCTIONS, *_late})]
